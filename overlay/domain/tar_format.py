"""The tar format, as a stream: bounded headers, no way back (theory in `archive`).

Where the format is ambiguous the reader does what CPython's `tarfile` does, since pip and PyPI use it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from overlay.domain.archive_members import MOST_MEMBERS, refuse
from overlay.domain.gzip_stream import LARGEST_UNPACKED_BYTES, GzipStream

BLOCK_BYTES: Final = 512

# An extended header holds names and attributes; more than this is no honest one.
_LARGEST_HEADER_BYTES: Final = 2**20
# Bounds the time: 200,000 members with a long name and a date of 150 bytes each.
_MOST_EXTENDED_BYTES: Final = 2**25
_LONG_NAME, _LONG_LINK, _SPARSE = b"L", b"K", b"S"
_EXTENDED: Final = (b"x", b"X")
_GLOBAL: Final = b"g"
_HARD, _SYMBOLIC, _FOLDER = b"1", b"2", b"5"
_DEVICES: Final = (b"3", b"4", b"6")
_LONGEST_NUMBER: Final = 20


@dataclass(frozen=True, slots=True)
class Member:
    """One member; its data, `data_bytes` long, follows in the stream and must be read or skipped by `Reader`."""

    name: str
    type: bytes
    data_bytes: int
    target: str = ""
    sparse: bool = False
    aliases: tuple[str, ...] = ()
    """Other names that another reader could take."""

    @property
    def is_symbolic(self) -> bool:
        """Say whether it is a symbolic link."""
        return self.type == _SYMBOLIC

    @property
    def is_hard_link(self) -> bool:
        """Say whether it is another name of an earlier member."""
        return self.type == _HARD

    @property
    def is_device(self) -> bool:
        """Say whether it is a device or pipe."""
        return self.type in _DEVICES

    @property
    def is_regular(self) -> bool:
        """Say whether data follows; unknown types are files, as POSIX and tarfile have it."""
        return self.type not in {_SYMBOLIC, _HARD, _FOLDER, *_DEVICES}


@dataclass(slots=True)
class _Extension:
    """What extended headers said of the member that follows them."""

    long_name: str | None = None
    long_target: str | None = None
    pax: dict[str, str] = field(default_factory=dict)


def is_header(block: bytes) -> bool:
    """Say whether a block is a tar header by its checksum."""
    if len(block) != BLOCK_BYTES or block == bytes(BLOCK_BYTES):
        return False
    said = _number(block[148:156])
    # POSIX sums unsigned bytes; some old writers summed signed ones, and tarfile takes both.
    unsigned = sum(block) - sum(block[148:156]) + 8 * 0x20
    return said is not None and (said == unsigned or said == _signed_sum(block))


def _signed_sum(block: bytes) -> int:
    head: tuple[int, ...] = struct.unpack("148b", block[:148])
    rest: tuple[int, ...] = struct.unpack("356b", block[156:])
    return sum(head) + sum(rest) + 8 * 0x20


def members(stream: GzipStream, filename: str) -> Iterator[tuple[Member, "Data"]]:
    """Yield the members in order; what is left of a member's data is skipped. Raises BadUpload."""
    extension = _Extension()
    headers = extended_bytes = 0
    while (block := stream.read(BLOCK_BYTES)) and block != bytes(BLOCK_BYTES):
        headers += 1
        if headers > 2 * MOST_MEMBERS:
            raise refuse(filename, f"has more than {MOST_MEMBERS:,} members")
        if len(block) < BLOCK_BYTES:
            raise refuse(filename, "is cut off")
        if not is_header(block):
            raise refuse(filename, f"is no tar archive, or a damaged one (header {headers} has a wrong checksum)")
        size_bytes = _size(block[124:136], filename)
        kind = block[156:157]
        if kind in {_LONG_NAME, _LONG_LINK, _GLOBAL, *_EXTENDED}:
            extended_bytes += size_bytes
            if extended_bytes > _MOST_EXTENDED_BYTES:
                raise refuse(filename, f"has more than {_MOST_EXTENDED_BYTES:,} bytes of extended headers")
            _extend(extension, kind, _payload(stream, size_bytes, filename), filename)
            continue
        member = _member(block, size_bytes, extension, filename)
        if kind == _SPARSE:
            _skip_sparse_map(stream, block)
        data = Data(stream, member.data_bytes)
        yield member, data
        data.finish()
        extension = _Extension()


class Data:
    """The data of the member in hand, read at most once."""

    def __init__(self, stream: GzipStream, size_bytes: int) -> None:
        self._stream = stream
        self._left = -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
        self._size_bytes = size_bytes

    def read(self) -> bytes:
        """Return all of it; the caller has checked its size. Raises BadUpload if it is not there."""
        self._left -= self._size_bytes
        return self._stream.exactly(self._size_bytes)

    def finish(self) -> None:
        """Skip what was not read. Raises BadUpload if it is not there."""
        self._stream.skip(self._left)
        self._left = 0


def _payload(stream: GzipStream, size_bytes: int, filename: str) -> bytes:
    if size_bytes > _LARGEST_HEADER_BYTES:
        raise refuse(filename, f"has an extended header of {size_bytes:,} bytes")
    data = Data(stream, size_bytes)
    payload = data.read()
    data.finish()
    return payload


def _extend(extension: _Extension, kind: bytes, payload: bytes, filename: str) -> None:
    if kind == _LONG_NAME:
        extension.long_name = _text(payload)
    elif kind == _LONG_LINK:
        extension.long_target = _text(payload)
    elif kind == _GLOBAL:
        # What else it may say (dates, owners, the commit of `git archive`) does not matter here.
        keys = _pax(payload, filename).keys()
        if keys & {"path", "linkpath", "size"} or any(key.startswith("GNU.sparse") for key in keys):
            raise refuse(filename, "has a global header that names or measures every member")
    else:
        extension.pax.update(_pax(payload, filename))


def _pax(payload: bytes, filename: str) -> dict[str, str]:
    """Parse the records of a POSIX pax extended header: length, blank, key, equals sign, value, line feed."""
    records: dict[str, str] = {}
    at = 0
    while at < len(payload) and payload[at] != 0:
        space = payload.find(b" ", at, at + _LONGEST_NUMBER)
        digits = payload[at:space] if space > at else b""
        if not digits.isdigit():
            raise refuse(filename, "has a damaged extended header")
        end = at + int(digits)
        key, equals, value = payload[space + 1 : end - 1].partition(b"=")
        if end <= space or end > len(payload) or payload[end - 1 : end] != b"\n" or not equals:
            raise refuse(filename, "has a damaged extended header")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at = end
    return records


def _member(block: bytes, size_bytes: int, extension: _Extension, filename: str) -> Member:
    kind = block[156:157]
    pax = extension.pax
    name = _text(block[:100])
    if kind == b"\0" and name.endswith("/"):
        kind = _FOLDER  # V7 has no type for folders
    prefix = _text(block[345:500])
    if prefix and kind != _SPARSE:
        name = f"{prefix}/{name}"
    aliases = [
        alias for alias in (extension.long_name, pax.get("path"), pax.get("GNU.sparse.name")) if alias is not None
    ]
    if "size" in pax:
        size_bytes = _size(pax["size"].encode("ascii", "replace"), filename, base=10)
    target = pax.get("linkpath", extension.long_target)
    member = Member(
        name=aliases[-1] if aliases else name,
        type=kind,
        data_bytes=size_bytes,
        target=_text(block[157:257]) if target is None else target,
        sparse=kind == _SPARSE or any(key.startswith("GNU.sparse") for key in pax),
        aliases=tuple(aliases[:-1]),
    )
    return member if member.is_regular else replace(member, data_bytes=0)


def _skip_sparse_map(stream: GzipStream, block: bytes) -> None:
    """Skip the blocks that continue an old GNU sparse header; byte 482, then 504, says that one more follows."""
    follows = block[482]
    while follows:
        follows = stream.exactly(BLOCK_BYTES)[504]


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _size(raw: bytes, filename: str, *, base: int = 8) -> int:
    size_bytes = _number(raw, base=base)
    if size_bytes is None or size_bytes < 0 or size_bytes > LARGEST_UNPACKED_BYTES:
        raise refuse(filename, f"has a member of an impossible size ({raw!r})")
    return size_bytes


def _number(raw: bytes, *, base: int = 8) -> int | None:
    """Read an octal field, or GNU's base-256 (-1 for all below zero); None if it is neither."""
    if base == 8 and raw[:1] in {b"\x80", b"\xff"}:  # noqa: PLR2004 -- octal
        return int.from_bytes(raw[1:]) if raw[:1] == b"\x80" else -1
    digits = raw.partition(b"\0")[0].strip(b" ") or b"0"
    if len(digits) > _LONGEST_NUMBER or not digits.isdigit():
        return None
    try:
        return int(digits, base)
    except ValueError:
        return None
