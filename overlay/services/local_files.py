"""A file on the local disk as the parts of an upload, for `overlay serve --with`."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from overlay.caching.threads import in_thread
from overlay.domain import filenames
from overlay.services.intake import CHUNK_BYTES, Field, FilePart


async def parts_of(path: Path) -> AsyncIterator[Field | FilePart]:
    """Yield the form that an upload client would send. Raises BadUpload, OSError."""
    named = filenames.parse(path.name)
    yield Field("name", named.project)
    yield Field("version", named.version)
    yield Field("sha256_digest", await in_thread(_sha256, path))
    yield FilePart(path.name, _chunks(path))


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with await in_thread(path.open, "rb") as file:
        while chunk := await in_thread(file.read, CHUNK_BYTES):
            yield chunk


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
