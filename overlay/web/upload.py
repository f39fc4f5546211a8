"""The upload API: unmodified twine, uv, flit, hatch, poetry and pdm post here; always stages, never publishes.

The body is parsed by `multipart`'s push parser as it arrives; nothing is held but one chunk.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, TypeAlias

import multipart
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from overlay.domain.errors import BadUpload, RetiredAction, SlowBody, TooLarge
from overlay.domain.names import MAIN
from overlay.domain.negotiate import prefers_json
from overlay.domain.rules import Severity
from overlay.services.intake import Field, FilePart
from overlay.services.uploads import Receipt
from overlay.web.auth import caller
from overlay.web.context import LIFECYCLE, METRICS, SERVICES, SETTINGS, public_root

_HEADER_BYTES: Final = 16 * 1024
_HEADER_COUNT: Final = 16
_PART_COUNT: Final = 4200
_FIELD_BYTES: Final = 8 * 1024 * 1024
# The form beside its file: fields and boundaries.
_FORM_BYTES: Final = 24 * 1024 * 1024
_RETIRED: Final = {
    "submit": "Project pre-registration is no longer required or supported, upload your files instead.",
    "submit_pkg_info": "Project pre-registration is no longer required or supported, upload your files instead.",
    "doc_upload": "Uploading documentation is no longer supported.",
}

_Event: TypeAlias = "multipart.MultipartSegment | bytes | None"
"""What the parser yields: a segment's head, some of its data, None at its end."""


async def upload(request: web.Request) -> web.Response:
    """Answer POST /legacy/."""
    return _accepted(request, await request.app[METRICS].upload(_received(request)))


async def _received(request: web.Request) -> Receipt:
    """Authenticate, then stream."""
    with request.app[LIFECYCLE].upload():
        token = await caller(request)
        limit_bytes = request.app[SETTINGS].upload_limit_bytes
        if request.content_length is not None and request.content_length > limit_bytes + _FORM_BYTES:
            raise TooLarge("The upload", limit_bytes)
        coding = request.headers.get("Content-Encoding", "identity")
        if coding.strip().lower() != "identity":  # unpacking would be the sender's choice of how much we do
            raise BadUpload(f"The body has Content-Encoding {coding[:40]!r}; send the form as it is.")
        async with contextlib.aclosing(_parts(request)) as parts:
            return await request.app[SERVICES].uploads.receive(token, MAIN, parts)


async def wrong_method(request: web.Request) -> web.Response:
    """Answer anything but POST on the upload URL: uv has a hint for exactly this status."""
    raise web.HTTPMethodNotAllowed(request.method, ["POST"], text=f"Upload with POST to {_upload_url(request)}\n")


async def wrong_url(request: web.Request) -> web.Response:
    """Answer POST on / and /simple/: a repository URL that lacks its last part."""
    sentence = f"Uploads go to {_upload_url(request)}; set that as the repository URL."
    raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"], text=sentence + "\n", reason=sentence[:200])


def _upload_url(request: web.Request) -> str:
    return f"{public_root(request)}{'' if request.app[SETTINGS].public_url else request.app[SETTINGS].prefix}/legacy/"


async def _parts(request: web.Request) -> AsyncGenerator[Field | FilePart, None]:
    """Yield the form's parts as they arrive; a file part must be read before the next one is asked for."""
    async with contextlib.aclosing(_events(request)) as events:
        async for part in _assembled(events):
            yield part


async def _assembled(events: "AsyncIterator[_Event]") -> AsyncIterator[Field | FilePart]:
    name, filename, text = "", None, bytearray()
    async for event in events:
        if isinstance(event, multipart.MultipartSegment):
            name, filename, text = event.name, event.filename, bytearray()
            if not name:
                raise BadUpload("A part of the form has no name.")
            if name == "content":  # by its name: flit and uv send no part Content-Type
                if filename is None:
                    raise BadUpload("The field 'content' has no filename; it must be sent as a file.")
                yield FilePart(filename, _chunks(events))
        elif event is None:
            yield _field(name, filename, text)
        else:
            text += event
            if len(text) > _FIELD_BYTES:
                raise TooLarge(f"The field {name[:80]!r}", _FIELD_BYTES)


def _field(name: str, filename: str | None, text: bytearray) -> Field:
    if filename is not None and name != "gpg_signature":  # PyPI ignores signatures
        raise BadUpload(f"{name[:80]}: Should not be a tuple. Only 'content' may be sent as a file.")
    if filename is not None:
        return Field(name, "")
    try:
        value = text.decode()
    except UnicodeDecodeError as err:
        raise BadUpload(f"The field {name[:80]!r} is not UTF-8.") from err
    if name == ":action" and value in _RETIRED:
        raise RetiredAction(_RETIRED[value])
    if name == ":action" and value != "file_upload":
        raise BadUpload(f"Unknown :action {value[:80]!r}; uploads say file_upload.")
    if name == "protocol_version" and value not in {"", "1"}:
        raise BadUpload("Unknown protocol version.")
    return Field(name, value)


async def _chunks(events: "AsyncIterator[_Event]") -> AsyncIterator[bytes]:
    async for event in events:
        if event is None:
            return
        assert isinstance(event, (bytes, bytearray))
        yield bytes(event)


async def _events(request: web.Request) -> "AsyncGenerator[_Event, None]":
    """Yield the parser's events: a segment, its data, None at its end. Raises BadUpload, TooLarge, SlowBody."""
    try:
        with _parser(request) as parser:
            async for chunk in _body(request):
                for event in parser.parse(chunk):
                    yield event
    except multipart.ParserLimitReached as err:
        raise BadUpload(f"The form exceeds a limit of this index: {err}.") from err
    except multipart.MultipartError as err:
        raise BadUpload(f"The form is no well-formed multipart/form-data: {err}.") from err


def _parser(request: web.Request) -> "multipart.PushMultipartParser":
    content_type, options = multipart.parse_options_header(request.headers.get("Content-Type", ""))
    boundary = options.get("boundary", "")
    if content_type != "multipart/form-data" or not boundary or not boundary.isascii():
        raise BadUpload("An upload is a POST of multipart/form-data with a boundary.")
    return multipart.PushMultipartParser(
        boundary,
        max_header_size=_HEADER_BYTES,
        max_header_count=_HEADER_COUNT,
        max_segment_count=_PART_COUNT,
    )


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. Raises SlowBody, BadUpload, TooLarge (text around the form counts, too)."""
    content, settings = request.content, request.app[SETTINGS]
    left = settings.upload_limit_bytes + _FORM_BYTES
    while True:
        try:
            async with asyncio.timeout(settings.upload_idle_s):
                chunk = await content.readany()
        except TimeoutError as err:
            raise SlowBody(f"Nothing of the body arrived for {settings.upload_idle_s:g} seconds.") from err
        except (ConnectionError, web.RequestPayloadError, HttpProcessingError) as err:
            raise BadUpload("The body ended before it was complete.") from err
        if not chunk:
            return
        left -= len(chunk)
        if left < 0:
            raise TooLarge("The upload", settings.upload_limit_bytes)
        yield chunk


def _accepted(request: web.Request, receipt: Receipt) -> web.Response:
    """Answer as PyPI does: 200, with warnings in the body, one a line."""
    lines = [
        f"{finding.severity}: {finding.sentence}"
        for finding in receipt.findings
        if finding.severity is not Severity.NOTE
    ]
    if prefers_json(request.headers.get("Accept")):
        body = {
            "status": receipt.status.value,
            "project": receipt.project,
            "version": receipt.version,
            "filename": receipt.filename,
            "sha256": receipt.file.sha256 if receipt.file is not None else None,
            "warnings": lines,
        }
        return web.Response(body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    return web.Response(text="".join(line + "\n" for line in lines))
