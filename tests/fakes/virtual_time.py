"""A clock that needs no waiting: it jumps on as soon as nobody has anything to do."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from overlay.promote.clock import Clock

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# Tasks that are ready get so many turns before the clock goes on.
_IDLE_TURNS: Final = 30


class CountedThreads(ThreadPoolExecutor):
    """Threads that say whether one of them works for the loop that they were made in."""

    def __init__(self) -> None:
        super().__init__(max_workers=2)
        self.busy = 0
        self._loop = asyncio.get_running_loop()

    def submit(
        self, work: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        self.busy += 1
        future = super().submit(work, *args, **kwargs)
        # After the loop's own callback, so that whoever waits for the work is woken before it counts as done.
        self._loop.call_soon(future.add_done_callback, self._told)
        return future

    def _told(self, _: object) -> None:
        self._loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        self.busy -= 1


class VirtualTime:
    """A clock that jumps to the next sleeper as soon as nobody else has anything to do; made inside a loop."""

    def __init__(self) -> None:
        self._threads = CountedThreads()
        asyncio.get_running_loop().set_default_executor(self._threads)
        self.now_s = 1_800_000_000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._pump: asyncio.Task[None] | None = None

    @property
    def clock(self) -> Clock:
        return Clock(passed_s=lambda: self.now_s, now_s=lambda: self.now_s, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + seconds, next(self._numbers), woken))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._run())
        await woken

    async def _run(self) -> None:
        while self._sleepers:
            turns = 0
            while turns < _IDLE_TURNS:
                await asyncio.sleep(0)
                turns = 0 if self._threads.busy else turns + 1
            at_s, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                self.now_s = max(self.now_s, at_s)
                woken.set_result(None)
