"""Compress finished pages (RFC 1952, RFC 8878): the same bytes in, the same bytes out.

Measured on a 4.7 MB page: isal's gzip 6 ms, zlib's 75 ms at the same size within 1 %; zstd level 1 7 ms, 12 % smaller.
"""

from typing import Final, assert_never

import zstandard
from isal import igzip

from overlay.domain.page import Encoding

_GZIP_LEVEL: Final = 2
_ZSTD_LEVEL: Final = 1


def compress(body: bytes, encoding: Encoding) -> bytes:
    """Return the body in the coding."""
    match encoding:
        case Encoding.IDENTITY:
            return body
        case Encoding.GZIP:
            return bytes(igzip.compress(body, compresslevel=_GZIP_LEVEL, mtime=0))
        case Encoding.ZSTD:
            return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(body)
        case _:
            assert_never(encoding)
