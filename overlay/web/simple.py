"""The simple API: project pages and project lists (PEP 503, 691; standards simple-api §8, §9)."""

import asyncio
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from overlay.domain.names import project_name
from overlay.domain.negotiate import page_format
from overlay.domain.page import MAIN_VIEW, STAGED_VIEW, Encoding, Format, View
from overlay.services.projects import IndexPage
from overlay.web.auth import check_reader
from overlay.web.context import SERVICES, SETTINGS

_VARY: Final = "Accept, Accept-Encoding"
_CHUNK_BYTES: Final = 256 * 1024
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
    return _moved(request.path + "/", request)


async def _project(request: web.Request, view: View) -> web.StreamResponse:
    raw = request.match_info["project"]
    project = project_name(raw)
    if project != raw:  # PEP 503: a redirect to the normalized name, as PyPI does
        return _moved(request.path[: -len(raw) - 1] + project + "/", request)
    await check_reader(request)
    headers = request.headers
    chosen = page_format(headers.get("Accept"), request.query.get("format"))
    pages = request.app[SERVICES].pages
    current = await pages.current(view, project, chosen, headers.get("Accept-Encoding"))
    if matches(headers.get("If-None-Match"), current.etag):
        return web.Response(status=304, headers=_headers(request, current.etag))
    rendition = await pages.rendition(view, current)
    answer = _headers(request, rendition.etag)
    answer["Content-Type"] = _CONTENT_TYPES[rendition.format]
    if rendition.encoding is not Encoding.IDENTITY:
        answer["Content-Encoding"] = rendition.encoding.value
    if rendition.last_serial is not None:
        answer["X-PyPI-Last-Serial"] = rendition.last_serial
    return web.Response(body=rendition.body, headers=answer)


async def _index(request: web.Request, view: View) -> web.StreamResponse:
    await check_reader(request)
    headers = request.headers
    chosen = page_format(headers.get("Accept"), request.query.get("format"))
    page = await request.app[SERVICES].projects.page(view, chosen, headers.get("Accept-Encoding"))
    if matches(headers.get("If-None-Match"), page.etag):
        return web.Response(status=304, headers=_headers(request, page.etag))
    answer = _headers(request, page.etag)
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


def _headers(request: web.Request, etag: str) -> CIMultiDict[str]:
    """Form the headers of a page and of its 304: uv discards a 304 that does not repeat the ETag."""
    private = "" if request.app[SETTINGS].read_open else ", private"
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
    query = f"?{request.query_string}" if request.query_string else ""
    return web.Response(status=301, headers={"Location": path + query, "Cache-Control": "no-cache"})
