"""Receives the form of an upload: to the disk as it arrives, with the faults that are due on the way."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import multipart
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tests.pypi.faults import Fault, Faults, Point, Slow
from tests.pypi.recording import Received
from tests.pypi.shelves import Digests

_HIDDEN: Final = frozenset({"attestations"})
# A slow reader takes this part of what it may take in a second at once.
_SIPS_PER_S: Final = 10

_Event: TypeAlias = "multipart.MultipartSegment | bytes | bytearray | None"


class Incomplete(Exception):
    """The body ended early, or was no form."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Content:
    """The file of a form, on disk."""

    filename: str
    part_type: str | None
    """The part's Content-Type; None: it has none."""
    path: Path
    size_bytes: int
    digests: Digests


@dataclass(kw_only=True)
class Form:
    """The fields of a form in order, and its file."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    sent_as_files: list[str] = field(default_factory=list)
    """Names of fields that should have been text."""
    content: Content | None = None

    def one(self, name: str) -> str:
        """Return a field's first value; "" where it is missing."""
        return self.fields.get(name, [""])[0]


class FormReader:
    """Reads one request; `path` is where the file goes."""

    def __init__(self, request: web.Request, received: Received, faults: Faults, path: Path) -> None:
        self._request = request
        self._received = received
        self._faults = faults
        self._path = path
        self._bytes_per_s: int | None = None

    async def read(self) -> Form:
        """Read all of it. Raises Incomplete, and what faults raise."""
        form = Form()
        try:
            events = self._events()
            async for segment in events:
                if isinstance(segment, multipart.MultipartSegment):
                    await self._part(form, segment, events)
        except (ConnectionError, web.RequestPayloadError, HttpProcessingError, multipart.MultipartError) as err:
            raise Incomplete from err
        self._received.complete = True
        self._received.fields = {name: values for name, values in form.fields.items() if name not in _HIDDEN}
        self._received.attested = "attestations" in form.fields
        return form

    async def _part(self, form: Form, segment: "multipart.MultipartSegment", events: AsyncIterator["_Event"]) -> None:
        name = segment.name or ""
        if name == "content" and segment.filename is not None:
            form.content = await self._file(segment.filename, segment.header("Content-Type"), events)
            return
        text = bytearray()
        async for data in events:
            if data is None:
                break
            assert isinstance(data, (bytes, bytearray))
            text += data
        if segment.filename is not None:
            form.sent_as_files.append(name)
        # Step 1: setuptools' word for a value that is missing.
        elif (value := text.decode()).strip() != "UNKNOWN":
            form.fields.setdefault(name, []).append(value)

    async def _file(self, filename: str, part_type: str | None, events: AsyncIterator["_Event"]) -> Content:
        self._received.filename = filename
        due = sorted(self._faults.due(Point.BODY, filename), key=lambda fault: fault.after_bytes)
        hashes: dict[str, _Hash] = {
            "md5": hashlib.md5(),
            "sha256": hashlib.sha256(),
            "blake2_256": hashlib.blake2b(digest_size=32),
        }
        with self._path.open("wb") as file:
            async for data in events:
                if data is None:
                    break
                assert isinstance(data, (bytes, bytearray))
                for piece in _pieces(bytes(data), self._received.file_bytes, due):
                    await self._strike(due)
                    file.write(piece)
                    self._received.file_bytes += len(piece)
                    for digest in hashes.values():
                        digest.update(piece)
                    if self._bytes_per_s is not None:
                        await asyncio.sleep(len(piece) / self._bytes_per_s)
        await self._strike(due, whole=True)
        digests = Digests(**{name: digest.hexdigest() for name, digest in hashes.items()})
        self._received.sha256 = digests.sha256
        return Content(
            filename=filename,
            part_type=part_type,
            path=self._path,
            size_bytes=self._received.file_bytes,
            digests=digests,
        )

    async def _strike(self, due: list[Fault], *, whole: bool = False) -> None:
        """Let happen what is due at this byte of the file, or with all of it read."""
        while due and (whole or due[0].after_bytes <= self._received.file_bytes):
            action = due.pop(0).action
            if isinstance(action, Slow):
                self._bytes_per_s = action.bytes_per_s
            await self._faults.carry_out(self._request, action)

    async def _events(self) -> AsyncIterator["_Event"]:
        """Yield the parser's events: a segment, its data, None at its end."""
        content_type, options = multipart.parse_options_header(self._request.headers.get("Content-Type", ""))
        if content_type != "multipart/form-data" or not options.get("boundary"):
            raise Incomplete
        with multipart.PushMultipartParser(options["boundary"], max_segment_count=10_000) as parser:
            async for chunk in self._body():
                for event in parser.parse(chunk):
                    yield event

    async def _body(self) -> AsyncIterator[bytes]:
        content = self._request.content
        while True:
            rate = self._bytes_per_s
            chunk = await (content.readany() if rate is None else content.read(max(1, rate // _SIPS_PER_S)))
            if not chunk:
                return
            self._received.body_bytes += len(chunk)
            yield chunk


def _pieces(data: bytes, begins_at: int, due: list[Fault]) -> Iterator[bytes]:
    """Cut data where faults are due, so that they happen at their byte."""
    cuts = sorted({fault.after_bytes - begins_at for fault in due if 0 < fault.after_bytes - begins_at < len(data)})
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        yield data[start:stop]
