"""One flight per key: callers that want the same thing at the same time share one computation."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Flight(Generic[Key, Value]):
    """Shares running computations by key; remembers nothing once one has ended.

    A caller that is cancelled leaves the computation to the others: it runs in a task of its own.
    """

    def __init__(self) -> None:
        self._running: dict[Key, asyncio.Task[Value]] = {}

    async def run(self, key: Key, compute: Callable[[], Awaitable[Value]]) -> Value:
        """Join the computation under way for the key, or start one. Its error reaches every caller that joined."""
        return await asyncio.shield(self.start(key, compute))

    def start(self, key: Key, compute: Callable[[], Awaitable[Value]]) -> "asyncio.Task[Value]":
        """Return the task under way for the key, starting it if there is none; nobody needs to await it."""
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(_awaited(compute))
            self._running[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return task

    def under_way(self, key: Key) -> "asyncio.Future[Value] | None":
        """Return the task under way for the key, if there is one; to be shielded by who awaits it."""
        return self._running.get(key)

    async def close(self) -> None:
        """Cancel what is under way and wait for it to end."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: Key, task: "asyncio.Task[Value]") -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled():
            # Marks the error as seen: when every caller was cancelled nobody else would look at it.
            task.exception()


async def _awaited(compute: Callable[[], Awaitable[Value]]) -> Value:
    return await compute()
