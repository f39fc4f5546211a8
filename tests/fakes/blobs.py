"""A BlobStore in memory, as honest as the real ones (it passes their suite), without local files."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from overlay.domain.errors import BlobNotFound
from overlay.domain.ports import BlobInfo, BlobKey

CHUNK = 65_536


class MemoryWriter:
    path: Path | None = None

    def __init__(self) -> None:
        self.body = bytearray()

    async def write(self, chunk: bytes) -> None:
        await asyncio.sleep(0)  # as a real store does: let others run
        self.body += chunk


class MemoryBlobs:
    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self.held: dict[BlobKey, bytes] = {}
        self.now_s = now_s

    @asynccontextmanager
    async def create(self, key: BlobKey) -> AsyncIterator[MemoryWriter]:
        writer = MemoryWriter()
        yield writer
        self.held[key] = bytes(writer.body)

    async def size(self, key: BlobKey) -> int:
        return len(self._body(key))

    async def read(self, key: BlobKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        body = self._body(key)[start:stop]
        for at in range(0, len(body), CHUNK):
            yield body[at : at + CHUNK]

    async def locate(self, key: BlobKey) -> Path | None:
        self._body(key)
        return None

    async def delete(self, key: BlobKey) -> None:
        self.held.pop(key, None)

    async def infos(self) -> AsyncIterator[BlobInfo]:
        for key, body in list(self.held.items()):
            yield BlobInfo(key, len(body), self.now_s)

    async def abandon(self, *, begun_before_s: float) -> int:  # noqa: ARG002 - nothing outlives a process here
        return 0

    def _body(self, key: BlobKey) -> bytes:
        if key not in self.held:
            raise BlobNotFound(key)
        return self.held[key]
