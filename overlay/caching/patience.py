"""A limit in time that takes an answer which is there, also when this process comes late to look at it.

Theory. A process that got no processor for a while finds two things at once: its time is up, and the answer that came
in time. `asyncio.timeout` then cancels, whichever it looks at first. So the limit lets the loop turn a few times more:
it reads what has arrived, and the waiting task goes on. Only then the time is up. An idle loop turns in microseconds.
"""

import asyncio
from types import TracebackType
from typing import Final

# uvloop runs timers, then what is ready, then looks for input: a turn for that, one for the task that waited for it,
# and one for a task that waited for that.
_TURNS: Final = 4


class Patience:
    """Raises TimeoutError in its block after `limit_s` seconds, as `asyncio.timeout` does."""

    __slots__ = ("_limit", "_limit_s", "_loop", "_timer")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        await self._limit.__aenter__()
        self._timer: asyncio.Handle = self._loop.call_later(self._limit_s, self._turn, _TURNS)

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, err, traceback)

    def _turn(self, left: int) -> None:
        if left:
            self._timer = self._loop.call_soon(self._turn, left - 1)
        else:
            self._limit.reschedule(self._loop.time())
