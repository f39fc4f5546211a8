"""A costly reading, one at a time: who asks while one is under way shares the next with all who do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from overlay.caching.flight import Flight

Value = TypeVar("Value")


class Turns(Generic[Value]):
    """Reads by `read`. What a caller gets was read after it asked; nothing is remembered."""

    def __init__(self, read: Callable[[], Awaitable[Value]]) -> None:
        self._read = read
        self._flight = Flight[int, Value]()
        self._turn = 0
        self._reading = asyncio.Lock()

    async def next(self) -> Value:
        """Share the next reading. Its error reaches all who do; a caller that is cancelled leaves it to the others."""
        return await self._flight.run(self._turn, self._take)

    async def close(self) -> None:
        """End what is being read, and wait for it."""
        await self._flight.close()

    async def _take(self) -> Value:
        async with self._reading:
            self._turn += 1  # nobody joins any more
            return await self._read()
