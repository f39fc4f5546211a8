"""gzip, unpacked in pieces with bounded memory and time (theory in `archive`)."""

import zlib
from typing import BinaryIO, Final, cast

from isal import isal_zlib

from overlay.domain.archive_members import PIECE_BYTES, is_bomb, refuse

# An upload is answered within 10 s of its last byte (design §6), also where several archives share the processor: a
# gigabyte takes about one second of it alone. PyPI lets an sdist have 100 MB, packed, unless its owners ask for more.
LARGEST_UNPACKED_BYTES: Final = 2**30

# isal's stubs take the class for an instance of it.
ISAL_ERROR: Final = cast("type[Exception]", isal_zlib.error)

_GZIP: Final = 16 + zlib.MAX_WBITS
_MAGIC: Final = b"\x1f\x8b"
_PACKED_PIECE_BYTES: Final = 2**16


class GzipStream:
    """Unpacks gzip in pieces and counts; forward only. Every method raises BadUpload."""

    def __init__(self, file: BinaryIO, size_bytes: int, filename: str) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._filename = filename
        self._inflate = isal_zlib.decompressobj(_GZIP)
        self._pending = b""
        self._buffer = bytearray()
        self._ended = False
        self.unpacked_bytes = 0
        self.trailing = False
        """Whether something that is not gzip follows; known at the end."""

    def read(self, count: int) -> bytes:
        """Return `count` bytes, fewer only at the end."""
        while len(self._buffer) < count and not self._ended:
            self._buffer += self._piece()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def exactly(self, count: int) -> bytes:
        """Return `count` bytes, which must be there."""
        taken = self.read(count)
        if len(taken) < count:
            raise refuse(self._filename, "is cut off")
        return taken

    def skip(self, count: int) -> None:
        """Drop `count` bytes, which must be there."""
        taken = min(count, len(self._buffer))
        del self._buffer[:taken]
        left = count - taken
        while left:
            if self._ended:
                raise refuse(self._filename, "is cut off")
            piece = self._piece()
            if len(piece) > left:
                self._buffer += piece[left:]
            left -= min(left, len(piece))

    def _piece(self) -> bytes:
        while not self._ended:
            if self._inflate.eof and not self._next_member():
                break
            if not self._pending:
                self._pending = self._file.read(_PACKED_PIECE_BYTES)
            at_end = not self._pending
            try:
                piece = self._inflate.decompress(self._pending, PIECE_BYTES)
            except ISAL_ERROR as err:
                raise refuse(self._filename, "is no gzip file, or a damaged one") from err
            self._pending = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if at_end and not piece and not self._inflate.eof:
                raise refuse(self._filename, "is cut off")
            self.unpacked_bytes += len(piece)
            if self.unpacked_bytes > LARGEST_UNPACKED_BYTES:
                raise refuse(self._filename, f"unpacks to more than {LARGEST_UNPACKED_BYTES:,} bytes")
            if is_bomb(self.unpacked_bytes, self._size_bytes):
                raise refuse(
                    self._filename,
                    f"unpacks to more than {self.unpacked_bytes:,} bytes from {self._size_bytes:,}; "
                    "that is a decompression bomb",
                )
            if piece:
                return piece
        return b""

    def _next_member(self) -> bool:
        """Step to the next gzip member, over padding; False at the end of the file."""
        while True:
            # RFC 1952 2.2: a gzip file is a series of members; Python's reader skips zeros between and after them.
            self._pending = self._pending.lstrip(b"\0")
            if len(self._pending) >= len(_MAGIC):
                break
            more = self._file.read(_PACKED_PIECE_BYTES)
            if not more:
                break
            self._pending += more
        if self._pending.startswith(_MAGIC):
            self._inflate = isal_zlib.decompressobj(_GZIP)
            return True
        self._ended = True
        self.trailing = bool(self._pending)
        return False
