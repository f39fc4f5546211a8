"""Decompress what upstream sent, never beyond a limit (a bomb is an over-long page)."""

from collections.abc import Iterator
from typing import Final, cast

from isal import isal_zlib

from overlay.domain.errors import UpstreamCorrupt

_GZIP_WBITS: Final = 31
_STEP_BYTES: Final = 1 << 20
# isal's stub calls the exception class an instance.
_BROKEN: Final = cast("type[Exception]", isal_zlib.error)


class Gunzip:
    """Decompresses gzip members piece by piece, in steps of at most 1 MiB."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._member = isal_zlib.decompressobj(wbits=_GZIP_WBITS)
        self._started = False
        self._length = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes. Raises UpstreamCorrupt on broken data and beyond the limit."""
        while data:
            if self._member.eof:  # RFC 1952 §2.2: a file is a series of members
                self._member = isal_zlib.decompressobj(wbits=_GZIP_WBITS)
            self._started = True
            try:
                decoded = self._member.decompress(data, max_length=_STEP_BYTES)
            except _BROKEN as err:
                raise UpstreamCorrupt(f"Upstream's answer is not valid gzip: {err}.") from err
            self._length += len(decoded)
            if self._length > self._limit_bytes:
                raise over_long(self._limit_bytes)
            if decoded:
                yield decoded
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if not decoded and not self._member.eof and len(rest) == len(data):
                raise UpstreamCorrupt("Upstream's answer is not valid gzip.")
            data = rest

    def finish(self) -> None:
        """Raise UpstreamCorrupt when the last member is not complete."""
        if not self._started or not self._member.eof:
            raise UpstreamCorrupt("Upstream's answer is cut off: its gzip data has no end.")


def gunzip(body: bytes, limit_bytes: int) -> bytes:
    """Decompress a whole body. Raises UpstreamCorrupt."""
    decompressor = Gunzip(limit_bytes)
    decoded = b"".join(decompressor.feed(body))
    decompressor.finish()
    return decoded


def over_long(limit_bytes: int) -> UpstreamCorrupt:
    """Form the error of an answer beyond the limit."""
    return UpstreamCorrupt(f"Upstream's answer is longer than {limit_bytes:,} bytes, which no page of an index is.")
