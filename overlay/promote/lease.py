"""The lease of a run: renewed while it works, and the end of all its work once it is lost.

Theory: the overlay decides who runs a promotion (its fence); a run that was overtaken must not push. It cannot learn
that in time from the overlay alone, which may be out of reach. So it counts for itself, from the moment its last
renewal was *sent*, on its own clock: that is no longer than the lease that the overlay gave, unless the machine slept
meanwhile, when that clock stands still. Then the next entry of the journal, before the next push, is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, NoReturn, TypeVar

from overlay.promote.clock import Clock
from overlay.promote.errors import RunLost, ServerSilent
from overlay.promote.server import PromotionServer

# Two renewals may fail before a third one comes too late.
_RENEWALS_PER_LEASE: Final = 3
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 10.0

Answer = TypeVar("Answer")


class Lease:
    """The right of this run to push, from a plan that was asked for at `sent_s` on the run's clock."""

    def __init__(
        self, server: PromotionServer, clock: Clock, *, promotion: str, fence: int, lease_s: float, sent_s: float
    ) -> None:
        self.promotion = promotion
        self.fence = fence
        self.lease_s = lease_s
        self._server = server
        self._clock = clock
        self._good_until_s = sent_s + lease_s

    def require(self) -> None:
        """Raise RunLost unless the lease holds, as far as this run can know."""
        if self._clock.passed_s() >= self._good_until_s:
            raise RunLost(
                "The overlay did not answer for longer than the lease; another run may have taken the promotion over."
            )

    def renewed(self, sent_s: float) -> None:
        """Note that the overlay renewed the lease by a call that was sent then."""
        self._good_until_s = max(self._good_until_s, sent_s + self.lease_s)

    async def keep(self) -> NoReturn:
        """Renew the lease again and again; ends only by RunLost, or by what the overlay answers instead."""
        while True:
            await self._clock.sleep(self.lease_s / _RENEWALS_PER_LEASE)
            sent_s = self._clock.passed_s()
            await patiently(lambda: self._server.renew(self.promotion, self.fence), self._clock)
            self.renewed(sent_s)

    async def watch(self) -> NoReturn:
        """Wait until the lease ended unrenewed, then raise RunLost: also when a renewal hangs."""
        while True:
            self.require()
            await self._clock.sleep(self._good_until_s - self._clock.passed_s())


async def while_leased(lease: Lease, work: Coroutine[object, object, Answer]) -> Answer:
    """Do the work while the lease is kept; a lost lease cancels it and raises RunLost."""
    working, keeping = asyncio.ensure_future(work), asyncio.ensure_future(lease.keep())
    watching = asyncio.ensure_future(lease.watch())
    tasks: set[asyncio.Future[Answer] | asyncio.Future[NoReturn]] = {working, keeping, watching}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return (working if working in done else done.pop()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def patiently(
    ask: Callable[[], Awaitable[Answer]],
    clock: Clock,
    *,
    within_s: float = float("inf"),
    since_s: Callable[[], float] = lambda: float("-inf"),
) -> Answer:
    """Ask the overlay, and again while it is silent, for so long. Raises ServerSilent after that.

    `since_s` says when its answers last made headway, on the clock: then the time begins anew.
    """
    began_s, pause_s = clock.passed_s(), _FIRST_PAUSE_S
    while True:
        try:
            return await ask()
        except ServerSilent:
            if clock.passed_s() + pause_s > max(began_s, since_s()) + within_s:
                raise
        await clock.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
