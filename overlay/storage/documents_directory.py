"""Documents in a directory: one file a key, replaced whole and durably."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from overlay.caching.local_disk import translating
from overlay.caching.threads import in_thread
from overlay.domain.errors import DocumentNotFound
from overlay.storage.files import remove_durably, write_durably

_BATCH: Final = 512  # documents per thread switch
_BATCH_BYTES: Final = 8 * 2**20
"""Ends a batch early: a scan holds this much and one document more, however large the documents are."""


class DirectoryDocuments:
    """Documents over a local directory; `spool` must lie on the same file system."""

    def __init__(self, root: Path, spool: Path) -> None:
        """Keep the documents below `root`, beside the blobs."""
        self._root = root
        self._spool = spool

    async def put(self, key: str, body: bytes) -> None:
        """Store durably."""
        with translating(f"writing the document {key}"):
            await in_thread(write_durably, self._root / key, body, spool=self._spool)

    async def get(self, key: str) -> bytes:
        """Read one. Raises DocumentNotFound."""
        with translating(f"reading the document {key}"):
            return await in_thread(_read, key, self._root / key)

    async def delete(self, key: str) -> None:
        """Delete durably, with the folder once that is empty."""
        with translating(f"deleting the document {key}"):
            await in_thread(remove_durably, self._root / key, up_to=self._root / key.partition("/")[0])

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """List the keys below the prefix."""
        keys = self._walk(prefix)
        while batch := await in_thread(_take, keys):
            for key in batch:
                yield key

    def parts(self, prefix: str) -> tuple[str]:
        """Divide nothing: each part would look through all the folders anew."""
        return (prefix,)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """Read every document below the prefix, up to 512 or about 8 MiB per thread switch."""
        keys = self._walk(prefix)
        while batch := await in_thread(self._read_batch, keys):
            for key, body in batch:
                if body is not None:
                    yield key, body

    def _walk(self, prefix: str) -> Iterator[str]:
        for folder, _, names in os.walk(self._root / prefix, onerror=_raise_unless_gone):
            below = os.path.relpath(folder, self._root)
            for name in names:
                yield f"{below}/{name}"

    def _read_batch(self, keys: Iterator[str]) -> list[tuple[str, bytes | None]]:
        with translating("reading the documents"):
            batch: list[tuple[str, bytes | None]] = []
            left = _BATCH_BYTES
            for key in itertools.islice(keys, _BATCH):
                body = _read_if_there(self._root / key)
                batch.append((key, body))
                left -= len(body or b"")
                if left <= 0:
                    break
            return batch


def _raise_unless_gone(err: OSError) -> None:
    """Let a walk fail where it would pass over what it cannot list: half a listing is no answer."""
    if not isinstance(err, FileNotFoundError):
        raise err


def _take(keys: Iterator[str]) -> list[str]:
    with translating("listing the documents"):
        return list(itertools.islice(keys, _BATCH))


def _read(key: str, path: Path) -> bytes:
    body = _read_if_there(path)
    if body is None:
        raise DocumentNotFound(key)
    return body


def _read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
