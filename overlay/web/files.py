"""Staged files: immutable bytes with Range, If-Range, HEAD and sendfile (RFC 9110 §14; standards clients §6).

Where the store has a local file the kernel copies (`kernel_copy`); else the store's chunks go out as they come, one
read ahead of the socket. Where the operator wants it and the store can, a GET is sent to the store itself, after the
same decision; the client repeats its Range there. HEAD and the small sidecars are always answered here: uv asks by HEAD
for Accept-Ranges, and a URL signed for GET answers no HEAD.
"""

from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

from overlay.caching.local_disk import translating
from overlay.caching.threads import in_thread
from overlay.domain.errors import BlobNotFound, InvalidName, UnknownFile
from overlay.domain.names import project_name, upload_id
from overlay.domain.ports import BlobKey, Presigns
from overlay.services.downloads import Moved, Served
from overlay.services.ledger_patience import one_patience
from overlay.web.auth import check_reader
from overlay.web.context import SERVICES, SETTINGS
from overlay.web.kernel_copy import send_by_kernel
from overlay.web.operations import caching
from overlay.web.simple import matches

_IMMUTABLE: Final = "max-age=31536000, immutable"
_OCTETS: Final = "application/octet-stream"
_SIDECAR_TYPE: Final = "text/plain; charset=utf-8"

# A client follows at once, and a download that has begun goes on after it; what resumes later asks here again. Long
# enough for clocks that differ by minutes; shorter than the ten minutes that boto3's temporary credentials have left at
# least, for a URL ends with the credentials that signed it. As long a URL in hand still fetches what was withdrawn.
_SIGNED_FOR_S: Final = 300


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes [start, stop) of a file."""

    start: int
    stop: int


async def staged_file(request: web.Request) -> web.StreamResponse:
    """Answer `/files/<project>/<upload-id>/<filename>` and the same with `.metadata`: here, or where it went live."""
    served = await _found(request)
    name = request.match_info["filename"]
    services = request.app[SERVICES]
    if isinstance(served, Moved):
        return web.Response(
            status=HTTPStatus.FOUND, headers={"Location": served.url, "Cache-Control": caching(request)}
        )
    headers = _headers(request, served)
    if matches(request.headers.get("If-None-Match"), headers["ETag"]):
        return web.Response(status=304, headers=headers)
    if services.presigns is not None and _goes_to_the_store(request, served):
        return await _redirected(services.presigns, served.key, name)
    headers["Content-Type"] = _SIDECAR_TYPE if served.sidecar else _OCTETS
    # RFC 9110 §14.2: "A server MUST ignore a Range header field received with a request method … " other than GET.
    wanted = _range(request, served, headers["ETag"]) if request.method == "GET" else None
    if wanted is None:
        return await _send(request, served.key, ByteRange(0, served.size_bytes), HTTPStatus.OK, headers)
    if wanted.start >= served.size_bytes or wanted.start >= wanted.stop:
        headers["Content-Range"] = f"bytes */{served.size_bytes}"
        return web.Response(status=416, headers=headers)
    headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{served.size_bytes}"
    return await _send(request, served.key, wanted, HTTPStatus.PARTIAL_CONTENT, headers)


async def _found(request: web.Request) -> Served | Moved:
    info = request.match_info
    name = info["filename"]
    with one_patience():
        await check_reader(request)
        try:
            project, upload = project_name(info["project"]), upload_id(info["upload"])
        except InvalidName as err:
            raise UnknownFile(name) from err
        return await request.app[SERVICES].downloads.find(project, upload, name)


def _goes_to_the_store(request: web.Request, served: Served) -> bool:
    return request.app[SETTINGS].redirect_downloads and request.method == "GET" and not served.sidecar


async def _redirected(presigns: Presigns, key: BlobKey, name: str) -> web.Response:
    location = await presigns.presigned(key, filename=name, expires_s=_SIGNED_FOR_S)
    # The URL is a key that expires: no cache may keep it, and this decision holds for this request only.
    return web.Response(status=HTTPStatus.FOUND, headers={"Location": location, "Cache-Control": "no-store"})


async def _send(
    request: web.Request, key: BlobKey, wanted: ByteRange, status: HTTPStatus, headers: CIMultiDict[str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = wanted.stop - wanted.start
    blobs = request.app[SERVICES].blobs
    if request.method == "HEAD":
        await blobs.size(key)  # what GET would not find is not promised here
        await response.prepare(request)
        return response
    path = await blobs.locate(key)
    if path is not None:
        return await _send_local(request, key, path, wanted, response)
    chunks = blobs.read(key, wanted.start, wanted.stop)
    try:
        first = await anext(chunks, b"")  # an error of the store is still an answer of its own here
        await response.prepare(request)
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
    finally:
        await chunks.aclose()
    await response.write_eof()
    return response


async def _send_local(
    request: web.Request, key: BlobKey, path: Path, wanted: ByteRange, response: web.StreamResponse
) -> web.StreamResponse:
    with translating(f"opening the blob {key}"):
        try:
            file = await in_thread(path.open, "rb", 0)
        except FileNotFoundError as err:  # deleted since it was located
            raise BlobNotFound(key) from err
    with file:
        writer = await response.prepare(request)
        assert isinstance(writer, StreamWriter)
        assert request.transport is not None
        await send_by_kernel(request.transport, writer, file, wanted.start, wanted.stop)
        writer.output_size += wanted.stop - wanted.start
    await response.write_eof()
    return response


def _headers(request: web.Request, served: Served) -> CIMultiDict[str]:
    private = "" if request.app[SETTINGS].read_open else "private, "
    return CIMultiDict(
        {
            "ETag": f'"{served.sha256}"',
            "Cache-Control": private + _IMMUTABLE,
            "Last-Modified": formatdate(served.staged_at_us // 1_000_000, usegmt=True),
            "Accept-Ranges": "bytes",  # uv asks by HEAD for exactly this word
            "X-Content-Type-Options": "nosniff",
        }
    )


def _range(request: web.Request, served: Served, etag: str) -> ByteRange | None:
    """Return the one range that is asked for; None for the whole file.

    RFC 9110 §14.2: a server MAY ignore Range; more than one range, another unit and bad syntax are ignored. If-Range
    with another entity tag, or with a date (ours has one-second steps), means the whole file.
    """
    text = request.headers.get("Range")
    if_range = request.headers.get("If-Range")
    if text is None or (if_range is not None and if_range.strip() != etag):
        return None
    unit, _, spec = text.partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not _digits(first) or not _digits(last):
        return None
    size = served.size_bytes
    if not first:
        return (
            ByteRange(max(size - int(last), 0), size)
            if last and int(last)
            else (ByteRange(size, size) if last else None)
        )
    if last and int(last) < int(first):
        return None
    return ByteRange(int(first), min(int(last) + 1, size) if last else size)


def _digits(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and len(text) < 20)  # noqa: PLR2004 - 2**64 has 20
