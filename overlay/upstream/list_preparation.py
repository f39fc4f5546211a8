"""Prepare upstream's project list on disk: 900,000 names, no object per project that stays, 256 KiB at a time.

Theory of operation. A list goes out as *head* (upstream's, prepared here once) + *tail* (staged names and the closing,
formed per request). Each piece of the spooled body is cut after its last complete project by one regular expression;
msgspec reads the names out of it in one call, and joined texts are normalized, escaped and checked in one call each.
So the interpreter works per piece, not per project. Upstream's JSON objects are copied unchanged; HTML is rendered from
the names, and for an HTML-only upstream the JSON too. Keys of the JSON after `projects` are moved before it; they are
known only at the end, so such a list (nobody sends one today) is read twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, TypeVar

import msgspec
from isal import isal_zlib

from overlay.domain.errors import UpstreamCorrupt
from overlay.domain.gzip_splice import GZIP_HEADER, LEVEL, RAW_DEFLATE
from overlay.domain.simple_html import REPOSITORY_VERSION
from overlay.domain.simple_json import require_version_1

JSON_HEAD: Final = "json.head"
HTML_HEAD: Final = "html.head"
NAMES: Final = "names"
PACKED: Final = ".gz"

# Small pieces let other threads run in between: a regular expression holds the interpreter until it ends.
_PIECE_BYTES: Final = 256 << 10
# What may stand before the first project, or for one project; more is no project list.
_LONGEST_PART_BYTES: Final = 4 << 20

_LONGEST_ANCHOR_BYTES: Final = 8 << 10

# Regular expressions do not recurse: objects may hold objects down to this depth.
_DEEPEST: Final = 12


def _object_pattern() -> bytes:
    string = rb'"(?:[^"\\]++|\\.)*+"'
    pattern = rb'\{(?:[^{}"]++|' + string + rb")*+\}"
    for _ in range(_DEEPEST):
        pattern = rb'\{(?:[^{}"]++|' + string + rb"|" + pattern + rb")*+\}"
    return pattern


# Complete objects up to the last one that a comma or the array's end follows; nothing is ever tried twice.
_OBJECTS: Final = re.compile(rb"(?:\s*+" + _object_pattern() + rb"\s*+(?:,|(?=\])))*+", re.DOTALL)
_ARRAY: Final = re.compile(rb'"projects"\s*:\s*\[')
_ANCHOR: Final = re.compile(rb"<a\b[^>]{0,4000}>([^<]{0,400})</a\s*>", re.IGNORECASE)
_NAME: Final = re.compile(r"^\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)/?\s*$", re.MULTILINE)
_SEPARATORS: Final = re.compile(r"[-_.]+")
_HTML_VERSION: Final = re.compile(rb'<meta\s[^>]*pypi:repository-version[^>]*content="([^"]*)"', re.IGNORECASE)
_OPENED: Final = re.compile(rb"<(?:html|body)\b", re.IGNORECASE)
_CLOSED: Final = re.compile(rb"</(?:html|body)\s*>", re.IGNORECASE)


class _Project(msgspec.Struct, gc=False):
    name: str


class _Meta(msgspec.Struct, gc=False, rename={"api_version": "api-version"}):
    api_version: str = "1.0"


class _Prelude(msgspec.Struct, gc=False):
    projects: list[_Project]
    meta: _Meta = msgspec.field(default_factory=_Meta)


_projects: Final = msgspec.json.Decoder(list[_Project])
_prelude: Final = msgspec.json.Decoder(_Prelude)
_keys: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder: Final = msgspec.json.Encoder()

_Shape = TypeVar("_Shape")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Checksums (CRC-32) and lengths of the heads that were written."""

    json_crc: int
    json_length: int
    html_crc: int
    html_length: int
    has_projects: bool


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some projects: their names as upstream spells them, and their JSON objects joined by commas."""

    names: list[str]
    objects: bytes


def prepare(spool: Path, folder: Path, *, is_json: bool) -> Prepared:
    """Write the heads and the names of a spooled list into the folder. Raises UpstreamCorrupt, OSError."""
    if not is_json:
        prelude = _encoder.encode({"meta": {"api-version": REPOSITORY_VERSION}})
        return _write(_html_batches(spool), prelude, folder)
    with spool.open("rb") as file:
        source = _JsonList(file)
        prepared = _write(source.batches(), source.prelude, folder)
    if not source.later_keys:
        return prepared
    with spool.open("rb") as file:
        again = _JsonList(file)
        prelude = _encoder.encode({**_keys.decode(again.prelude), **source.later_keys})
        return _write(again.batches(), prelude, folder)


class _JsonList:
    """Reads `{"meta":…,"projects":[…]}` piece by piece."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._rest = b""
        self.later_keys: dict[str, msgspec.Raw] = {}
        """Known once `batches` ended."""
        self.prelude = self._read_prelude()
        """The keys before `projects`, as an object."""

    def batches(self) -> Iterator[_Batch]:
        """Yield the projects."""
        while True:
            end = _OBJECTS.match(self._rest)
            length = 0 if end is None else end.end()
            objects = self._rest[:length].strip().removesuffix(b",")
            if objects:
                names = [project.name for project in _decoded(_projects, b"[" + objects + b"]")]
                self._rest = self._rest[length:]
                yield _Batch(names, objects)
            if self._rest.lstrip()[:1] == b"]":
                break
            self._more()
        while piece := self._file.read(_PIECE_BYTES):
            self._rest += piece
            _require_bounded(self._rest)
        self.later_keys = _decoded(_keys, b'{"projects":[' + self._rest)
        del self.later_keys["projects"]

    def _read_prelude(self) -> bytes:
        while True:
            for found in _ARRAY.finditer(self._rest):
                try:  # the key of the outermost object closes with it; the same word elsewhere does not
                    closed = self._rest[: found.end()] + b"]}"
                    meta = _prelude.decode(closed).meta
                    keys = _keys.decode(closed)
                except msgspec.MsgspecError:
                    continue
                require_version_1(meta.api_version)
                self._rest = self._rest[found.end() :]
                del keys["projects"]
                return _encoder.encode(keys)
            self._more()

    def _more(self) -> None:
        _require_bounded(self._rest)
        piece = self._file.read(_PIECE_BYTES)
        if not piece:
            raise UpstreamCorrupt("Upstream's project list is cut off, or no project list.")
        self._rest += piece


def _html_batches(spool: Path) -> Iterator[_Batch]:
    opened = closed = versioned = found_any = False
    rest = b""
    with spool.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            rest += piece
            opened = opened or _OPENED.search(rest) is not None
            closed = closed or _CLOSED.search(rest) is not None
            version = None if versioned or found_any else _HTML_VERSION.search(rest)
            if version is not None:
                versioned = True
                require_version_1(version[1].decode("ascii", "replace"))
            anchors = list(_ANCHOR.finditer(rest))
            names = _anchored([anchor[1] for anchor in anchors])
            if names:
                found_any = True
                yield _Batch(names, _encoder.encode([{"name": name} for name in names])[1:-1])
            # An anchor, or a closing tag, may be cut in two.
            rest = rest[max(anchors[-1].end() if anchors else 0, len(rest) - _LONGEST_ANCHOR_BYTES) :]
    if opened and not closed:
        raise UpstreamCorrupt("Upstream's project list is cut off.")
    if not found_any and not versioned:
        raise UpstreamCorrupt("Upstream's project list has neither a project nor a version.")


def _anchored(texts: list[bytes]) -> list[str]:
    try:
        joined = b"\n".join(texts).decode()
    except UnicodeDecodeError as err:
        raise UpstreamCorrupt(f"Upstream's project list is not UTF-8: {err}.") from err
    return _NAME.findall(unescape(joined) if "&" in joined else joined)


def _write(batches: Iterator[_Batch], prelude: bytes, folder: Path) -> Prepared:
    opening = (prelude[:-1] + b"," if len(prelude) > len(b"{}") else b"{") + b'"projects":['
    has_projects = False
    with _Head(folder / JSON_HEAD) as json, _Head(folder / HTML_HEAD) as html, (folder / NAMES).open("wb") as names:
        json.write(opening)
        html.write(_html_opening())
        names.write(b"\n")
        for batch in batches:
            shown = escape("\n".join(batch.names))
            normalized = _SEPARATORS.sub("-", shown).lower()
            if shown.count("\n") != len(batch.names) - 1:
                raise UpstreamCorrupt("Upstream's project list has a name of several lines.")
            json.write(b"," + batch.objects if has_projects else batch.objects)
            pairs = zip(normalized.split("\n"), shown.split("\n"), strict=True)
            html.write("".join(f'<a href="{name}/">{text}</a>\n' for name, text in pairs).encode())
            names.write(normalized.encode() + b"\n")
            has_projects = True
    return Prepared(
        json_crc=json.crc,
        json_length=json.length,
        html_crc=html.crc,
        html_length=html.length,
        has_projects=has_projects,
    )


def _html_opening() -> bytes:
    version = f'<meta name="pypi:repository-version" content="{REPOSITORY_VERSION}">'
    return f"<!DOCTYPE html>\n<html>\n<head>\n{version}\n<title>Simple index</title>\n</head>\n<body>\n".encode()


class _Head:
    """Writes a head twice, plain and as the beginning of a gzip member, and sums it up."""

    def __init__(self, path: Path) -> None:
        self._plain = path.open("wb")
        self._packed = path.with_name(path.name + PACKED).open("wb")
        self._packed.write(GZIP_HEADER)
        self._deflate = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, RAW_DEFLATE)
        self.crc = 0
        self.length = 0

    def write(self, data: bytes) -> None:
        self._plain.write(data)
        self._packed.write(self._deflate.compress(data))
        self.crc = isal_zlib.crc32(data, self.crc)
        self.length += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            # RFC 1951: a full flush ends on a byte and nothing after it refers back: any deflate data may follow.
            self._packed.write(self._deflate.flush(isal_zlib.Z_FULL_FLUSH))
        self._plain.close()
        self._packed.close()


def _decoded(decoder: "msgspec.json.Decoder[_Shape]", body: bytes) -> "_Shape":
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as err:
        raise UpstreamCorrupt(f"Upstream's project list is not one of the simple API: {err}.") from err


def _require_bounded(rest: bytes) -> None:
    if len(rest) > _LONGEST_PART_BYTES:
        raise UpstreamCorrupt("Upstream's project list is no list of projects.")
