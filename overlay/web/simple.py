"""The simple API: project pages and project lists (PEP 503, 691; standards simple-api §8, §9)."""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from overlay.domain.names import NormalizedName, project_name
from overlay.domain.negotiate import page_format
from overlay.domain.page import MAIN_VIEW, STAGED_VIEW, Encoding, Format, View
from overlay.services.ledger_patience import one_patience
from overlay.services.pages import Pages
from overlay.services.projects import IndexPage
from overlay.web.auth import check_reader
from overlay.web.context import SERVICES, SETTINGS, WebSettings
from overlay.web.ready import Ready, head_of

# In Python 3.11 each look at a member of an enumeration takes a call.
_OK: Final = HTTPStatus.OK.value
_NOT_MODIFIED: Final = HTTPStatus.NOT_MODIFIED.value
_VARY: Final = "Accept, Accept-Encoding"
_CHUNK_BYTES: Final = 256 * 1024
_HEADS: Final = 8192  # 300 bytes each
_CONTENT_TYPES: Final = {
    Format.JSON: Format.JSON.value,  # no charset: devpi compares the type exactly
    Format.HTML_V1: Format.HTML_V1.value + "; charset=utf-8",
    Format.HTML: Format.HTML.value + "; charset=utf-8",
}


async def project_page(request: web.Request) -> web.StreamResponse:
    """Answer `/simple/<project>/`."""
    return await _project(request, MAIN_VIEW)


async def staged_project_page(request: web.Request) -> web.StreamResponse:
    """Answer `/staged/simple/<project>/`."""
    return await _project(request, STAGED_VIEW)


async def index_page(request: web.Request) -> web.StreamResponse:
    """Answer `/simple/`."""
    return await _index(request, MAIN_VIEW)


async def staged_index_page(request: web.Request) -> web.StreamResponse:
    """Answer `/staged/simple/`."""
    return await _index(request, STAGED_VIEW)


async def add_slash(request: web.Request) -> web.StreamResponse:
    """Redirect to the same page with its slash (PEP 503: all such URLs end in one)."""
    return _moved(request.rel_url.raw_path + "/", request)


async def _project(request: web.Request, view: View) -> web.StreamResponse:
    raw = request.match_info["project"]
    project = project_name(raw)
    if project != raw:  # PEP 503: a redirect to the normalized name, as PyPI does
        return _moved(request.rel_url.raw_path.removesuffix("/").rpartition("/")[0] + f"/{project}/", request)
    pages, settings = request.app[SERVICES].pages, request.app[SETTINGS]
    with one_patience():
        await check_reader(request)
        return await page_answer(request.headers, request.query.get("format"), pages, view, project, settings)


async def page_answer(
    headers: Mapping[str, str],
    asked_format: str | None,
    pages: Pages,
    view: View,
    project: NormalizedName,
    settings: WebSettings,
) -> Ready:
    """Answer with a project page; who asks may read it. `asked_format` is the value of `?format=`."""
    read_open = settings.read_open
    chosen = page_format(headers.get(hdrs.ACCEPT), asked_format)
    current = await pages.current(view, project, chosen, headers.get(hdrs.ACCEPT_ENCODING))
    etag = current[0].etag
    if matches(headers.get(hdrs.IF_NONE_MATCH), etag):
        return Ready(_NOT_MODIFIED, _unchanged_head(etag, read_open))
    rendition = await pages.rendition(view, current)
    head = _head(
        rendition.etag, rendition.format, rendition.encoding, rendition.last_serial, len(rendition.body), read_open
    )
    return Ready(_OK, head, rendition.body)


async def _index(request: web.Request, view: View) -> web.StreamResponse:
    await check_reader(request)
    headers = request.headers
    chosen = page_format(headers.get("Accept"), request.query.get("format"))
    page = await request.app[SERVICES].projects.page(view, chosen, headers.get("Accept-Encoding"))
    answer = _headers(page.etag, read_open=request.app[SETTINGS].read_open)
    if matches(headers.get("If-None-Match"), page.etag):
        return web.Response(status=304, headers=answer)
    answer["Content-Type"] = _CONTENT_TYPES[page.format]
    if page.encoding is not Encoding.IDENTITY:
        answer["Content-Encoding"] = page.encoding.value
    if page.last_serial is not None:
        answer["X-PyPI-Last-Serial"] = page.last_serial
    return await _stream(request, page, answer)


async def _stream(request: web.Request, page: IndexPage, headers: CIMultiDict[str]) -> web.StreamResponse:
    if page.head is None:
        return web.Response(body=page.tail, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = page.head_bytes + len(page.tail)
    with await asyncio.to_thread(page.head.open, "rb") as head:
        await response.prepare(request)
        if request.method != "HEAD":
            while chunk := await asyncio.to_thread(head.read, _CHUNK_BYTES):
                await response.write(chunk)
            await response.write(page.tail)
    await response.write_eof()
    return response


@lru_cache(maxsize=_HEADS)
def _head(  # not of the rendition itself: that would hold its body
    etag: str,
    page_format: Format,
    encoding: Encoding,
    last_serial: str | None,
    length: int,
    read_open: bool,  # noqa: FBT001 - lru_cache is fastest by position
) -> bytes:
    headers = _headers(etag, read_open=read_open)
    headers["Content-Type"] = _CONTENT_TYPES[page_format]
    if encoding is not Encoding.IDENTITY:
        headers["Content-Encoding"] = encoding.value
    if last_serial is not None:
        headers["X-PyPI-Last-Serial"] = last_serial
    headers["Content-Length"] = str(length)
    return head_of(HTTPStatus.OK, headers)


@lru_cache(maxsize=_HEADS)
def _unchanged_head(etag: str, read_open: bool) -> bytes:  # noqa: FBT001 - as above
    return head_of(HTTPStatus.NOT_MODIFIED, _headers(etag, read_open=read_open))


def _headers(etag: str, *, read_open: bool) -> CIMultiDict[str]:
    """Form the headers of a page and of its 304: uv discards a 304 that does not repeat the ETag."""
    private = "" if read_open else ", private"
    return CIMultiDict({"ETag": etag, "Cache-Control": "no-cache" + private, "Vary": _VARY})


def matches(if_none_match: str | None, etag: str) -> bool:
    """Say whether the condition names this entity tag; compared weakly (RFC 9110 §13.1.2)."""
    if if_none_match is None:
        return False
    if if_none_match == etag:
        return True
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or if_none_match.strip() == "*"


def _moved(path: str, request: web.Request) -> web.Response:
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    return web.Response(status=301, headers={"Location": path + query, "Cache-Control": "no-cache"})
