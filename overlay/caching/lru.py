"""A least-recently-used cache bounded in bytes."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class ByteLru(Generic[Key, Value]):
    """Holds values up to `limit_bytes` in all; a value larger than the limit is not held.

    `weigh` says how many bytes a value stands for. Not for several threads.
    """

    def __init__(self, limit_bytes: int, weigh: Callable[[Value], int]) -> None:
        self._limit_bytes = limit_bytes
        self._weigh = weigh
        self._held: dict[Key, Value] = {}
        self.size_bytes = 0

    def get(self, key: Key) -> Value | None:
        """Return the value and mark it as used, or None."""
        held = self._held
        value = held.pop(key, None)
        if value is not None:
            held[key] = value  # a dict keeps insertion order: the last is the most recently used
        return value

    def put(self, key: Key, value: Value) -> None:
        """Hold the value, dropping the least recently used ones as needed."""
        self.drop(key)
        weight = self._weigh(value)
        if weight > self._limit_bytes:
            return
        self._held[key] = value
        self.size_bytes += weight
        while self.size_bytes > self._limit_bytes:
            self.drop(next(iter(self._held)))

    def drop(self, key: Key) -> None:
        """Forget a value; one that is not held is fine."""
        value = self._held.pop(key, None)
        if value is not None:
            self.size_bytes -= self._weigh(value)

    def __len__(self) -> int:
        return len(self._held)
