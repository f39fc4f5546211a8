"""Documents in memory, as honest as the real ones (they pass their suite)."""

from collections.abc import AsyncIterator

from overlay.domain.errors import DocumentNotFound
from overlay.domain.layout import parts


class MemoryDocuments:
    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    async def put(self, key: str, body: bytes) -> None:
        self.held[key] = body

    async def get(self, key: str) -> bytes:
        if key not in self.held:
            raise DocumentNotFound(key)
        return self.held[key]

    async def delete(self, key: str) -> None:
        self.held.pop(key, None)

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        for key in list(self.held):
            if key.startswith(prefix):
                yield key

    def parts(self, prefix: str) -> tuple[str, ...]:
        return parts(prefix)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        for key, body in list(self.held.items()):
            if key.startswith(prefix):
                yield key, body
