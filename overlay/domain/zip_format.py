"""The zip format: the directory that installers believe, held against the local headers that streams believe.

Sources: APPNOTE.TXT 6.3.10 (section numbers below), CPython's zipfile (what pip sees), warehouse `utils/zipfiles.py`
(what PyPI refuses; each becomes an oddity).
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from isal import isal_zlib

from overlay.domain.archive_members import MOST_MEMBERS, MOST_NAME_BYTES, PIECE_BYTES, quoted, refuse
from overlay.domain.gzip_stream import ISAL_ERROR

STORED: Final = zipfile.ZIP_STORED
DEFLATED: Final = zipfile.ZIP_DEFLATED

_LOCAL: Final = struct.Struct("<4sHHHHHLLLHH")  # 4.3.7
_END: Final = struct.Struct("<4sHHHHLLH")  # 4.3.16
_END64: Final = struct.Struct("<4sQHHLLQQQQ")  # 4.3.14
_LOCATOR64_BYTES: Final = 20  # 4.3.15
_EXTRA: Final = struct.Struct("<HH")  # 4.5.1
_ZIP64_EXTRA: Final = 0x0001
_SENTINEL: Final = 0xFFFFFFFF
_ENCRYPTED: Final = 0x1
_DESCRIPTOR: Final = 0x8
_UTF8: Final = 0x800
_LONGEST_COMMENT: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the directory, with the place of its data."""

    name: str
    method: int
    packed_bytes: int
    unpacked_bytes: int
    crc: int
    data_offset: int
    mode: int
    """Unix mode, 0 where the archive does not say."""


@dataclass(frozen=True, slots=True)
class Directory:
    """All members in the directory's order, and what PyPI refuses about the framing, in words."""

    members: tuple[Member, ...]
    oddities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _End:
    """The end of central directory record, 64-bit values where there are any."""

    starts_at: int
    """Where the first of the closing records begins."""
    ends_at: int
    count: int
    directory_bytes: int
    directory_offset: int


def read_directory(file: BinaryIO, size_bytes: int, filename: str) -> Directory:
    """Read directory and local headers; `file` is open for reading and not closed. Raises BadUpload."""
    end = _find_end(file, size_bytes)
    if end is None:
        file.seek(0)
        raise refuse(filename, f"is not a zip archive, or is cut off (it begins with {file.read(20)!r})")
    if end.count > MOST_MEMBERS or end.directory_bytes > MOST_NAME_BYTES:
        raise refuse(filename, f"has too many members (more than {MOST_MEMBERS:,}, or a directory over 64 MiB)")
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    # What zipfile raises for damaged directories: its own error, versions it does not know, names that are not UTF-8,
    # offsets below zero.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError) as err:
        raise refuse(filename, f"is a damaged zip archive: {err}") from err
    oddities: dict[str, None] = {}
    _compare_end(end, infos, size_bytes, oddities)
    if len(infos) > MOST_MEMBERS:
        raise refuse(filename, f"has more than {MOST_MEMBERS:,} members")
    members = _Locals(file, filename, oddities).locate(infos, end)
    return Directory(members, tuple(oddities))


def unpack(file: BinaryIO, member: Member, filename: str) -> Iterator[bytes]:
    """Yield the member's bytes in pieces; raises BadUpload at the end, or before, if size or CRC-32 is not as said."""
    seen = crc = 0
    for piece in _stored(file, member) if member.method == STORED else _inflated(file, member, filename):
        seen += len(piece)
        if seen > member.unpacked_bytes:
            break
        crc = isal_zlib.crc32(piece, crc)
        yield piece
    if seen != member.unpacked_bytes or crc != member.crc:
        raise refuse(filename, f"is damaged: size or checksum of {quoted(member.name)} is not what the archive says")


def has_end(tail: bytes) -> bool:
    """Say whether the last bytes of a file would make it a zip archive for lenient readers."""
    return b"PK\x05\x06" in tail[-(_END.size + _LONGEST_COMMENT) :]


def _stored(file: BinaryIO, member: Member) -> Iterator[bytes]:
    file.seek(member.data_offset)
    left = member.packed_bytes
    while left and (piece := file.read(min(left, PIECE_BYTES))):
        left -= len(piece)
        yield piece


def _inflated(file: BinaryIO, member: Member, filename: str) -> Iterator[bytes]:
    inflate = isal_zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for packed in _stored(file, member):
            pending = packed
            while pending and not inflate.eof:
                yield inflate.decompress(pending, PIECE_BYTES)
                pending = inflate.unconsumed_tail
        while not inflate.eof and (piece := inflate.decompress(b"", PIECE_BYTES)):
            yield piece
    except ISAL_ERROR as err:
        raise refuse(filename, f"is damaged: {quoted(member.name)} cannot be unpacked") from err
    if not inflate.eof or inflate.unused_data:
        raise refuse(filename, f"is damaged: the data of {quoted(member.name)} does not end where the archive says")


def _find_end(file: BinaryIO, size_bytes: int) -> _End | None:
    """Find the closing records as zipfile does: at the very end, else the last signature that can be one."""
    tail_offset = max(0, size_bytes - _END.size - _LONGEST_COMMENT)
    file.seek(tail_offset)
    tail = file.read()
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        return None
    _, _, _, _, count, directory_bytes, directory_offset, comment = _END.unpack_from(tail, at)
    starts_at = tail_offset + at
    ends_at = starts_at + _END.size + comment
    before = starts_at - _LOCATOR64_BYTES - _END64.size
    if before >= 0:
        file.seek(before)
        records = file.read(_END64.size + _LOCATOR64_BYTES)
        if records[_END64.size :].startswith(b"PK\x06\x07") and records.startswith(b"PK\x06\x06"):
            *_, count, directory_bytes, directory_offset = _END64.unpack_from(records)
            starts_at = before
    return _End(starts_at, ends_at, count, directory_bytes, directory_offset)


def _compare_end(end: _End, infos: list[zipfile.ZipInfo], size_bytes: int, oddities: dict[str, None]) -> None:
    if end.ends_at != size_bytes:
        oddities["bytes after the end of the archive"] = None
    if end.directory_offset + end.directory_bytes != end.starts_at:
        oddities["bytes before the archive, or a directory that is not where its end record says"] = None
    if end.count != len(infos):
        oddities["a directory with another number of members than its end record says"] = None
    if any(info.comment for info in infos):
        oddities["comments in the directory"] = None


@dataclass(frozen=True, slots=True)
class _Locals:
    """Reads the local headers in the order of their offsets; finds oddities on the way."""

    file: BinaryIO
    filename: str
    oddities: dict[str, None]

    def locate(self, infos: list[zipfile.ZipInfo], end: _End) -> tuple[Member, ...]:
        """Return the members in the directory's order, each with the place of its data."""
        # zipfile has shifted header_offset by what stands before the archive; so does this.
        directory_at = end.starts_at - end.directory_bytes
        offsets: dict[int, int] = {}
        free_from = 0
        after_descriptor = False
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.header_offset < free_from:
                raise refuse(self.filename, f"has members that overlap ({quoted(info.filename)})")
            if info.header_offset != free_from and not after_descriptor:
                self.oddities["bytes between the members"] = None
            after_descriptor = bool(info.flag_bits & _DESCRIPTOR)
            offsets[info.header_offset] = data_offset = self._data_offset(info)
            free_from = data_offset + info.compress_size
            if free_from > directory_at:
                raise refuse(self.filename, f"is damaged: {quoted(info.filename)} runs into the directory")
        if free_from != directory_at and not after_descriptor:
            self.oddities["bytes between the members"] = None
        return tuple(
            Member(
                name=info.orig_filename,
                method=info.compress_type,
                packed_bytes=info.compress_size,
                unpacked_bytes=info.file_size,
                crc=info.CRC,
                data_offset=offsets[info.header_offset],
                mode=info.external_attr >> 16,
            )
            for info in infos
        )

    def _data_offset(self, info: zipfile.ZipInfo) -> int:
        shown = quoted(info.orig_filename)
        self.file.seek(info.header_offset)
        head = self.file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
            raise refuse(self.filename, f"is damaged: the header of {shown} is not where the directory says")
        _, _, flags, method, _, _, crc, packed, unpacked, name_bytes, extra_bytes = _LOCAL.unpack(head)
        name = self.file.read(name_bytes)
        extra = self.file.read(extra_bytes)
        if (flags | info.flag_bits) & _ENCRYPTED:
            raise refuse(self.filename, f"has an encrypted member ({shown})")
        if name.decode("utf-8" if info.flag_bits & _UTF8 else "cp437", "replace") != info.orig_filename:
            raise refuse(self.filename, f"names {shown} otherwise in its header than in its directory")
        if method != info.compress_type:
            raise refuse(self.filename, f"packs {shown} otherwise by its header than by its directory")
        if not name.isascii() and not info.flag_bits & _UTF8:
            self.oddities["member names that are not UTF-8"] = None
        if any(byte < 0x20 or byte == 0x7F for byte in name):  # noqa: PLR2004 -- ASCII's control characters
            self.oddities["control characters in member names"] = None
        # warehouse: "ZIP contains a data descriptor"; the local sizes are zero then, or say nothing.
        if (flags | info.flag_bits) & _DESCRIPTOR:
            self.oddities["data descriptors"] = None
        elif (*self._zip64(extra, packed, unpacked), crc) != (info.compress_size, info.file_size, info.CRC):
            raise refuse(self.filename, f"gives {shown} another size or checksum in its header than in its directory")
        return info.header_offset + _LOCAL.size + len(name) + len(extra)

    def _zip64(self, extra: bytes, packed: int, unpacked: int) -> tuple[int, int]:
        """Return packed and unpacked size; the extra field has those of the two that the header leaves open (4.5.3)."""
        seen = False
        at = 0
        while at + _EXTRA.size <= len(extra):
            kind, length = _EXTRA.unpack_from(extra, at)
            body = extra[at + _EXTRA.size : at + _EXTRA.size + length]
            at += _EXTRA.size + length
            if kind != _ZIP64_EXTRA:
                continue
            if seen or len(body) not in {0, 8, 16, 24, 28}:
                self.oddities["odd zip64 fields"] = None
            seen = True
            values = [value for (value,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8])]
            if unpacked == _SENTINEL and values:
                unpacked = values.pop(0)
            if packed == _SENTINEL and values:
                packed = values.pop(0)
        if at != len(extra):
            self.oddities["odd extra fields"] = None
        return packed, unpacked
