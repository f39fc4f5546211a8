"""The lease of a run: kept while it works, and the end of its work once it is lost."""

import asyncio
import itertools

import pytest

from overlay.domain.wire_promotions import LeaseView
from overlay.promote.errors import RunLost, ServerSilent
from overlay.promote.lease import Lease, patiently, while_leased
from tests.fakes.promotions import FakePromotions
from tests.fakes.pushed_index import FakeUpstream
from tests.fakes.virtual_time import VirtualTime

LEASE_S = 60.0


class Renewals(FakePromotions):
    """An overlay that knows nothing but leases, and answers them as it is told."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__((), FakeUpstream(), time)
        self.answers: list[str] = []
        """silent, hang, lost; then all is well."""
        self.at_s: list[float] = []
        self._clock = time

    async def renew(self, promotion: str, fence: int) -> LeaseView:  # noqa: ARG002 - the protocol's names
        self.at_s.append(self._clock.now_s)
        match self.answers.pop(0) if self.answers else "":
            case "silent":
                raise ServerSilent("nobody answers")
            case "hang":
                await asyncio.Event().wait()
            case "lost":
                raise RunLost("overtaken")
            case _:
                pass
        return LeaseView(leased_until="")


class Work:
    """Goes on until it is cancelled, or for so long."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self.cancelled_at_s: float | None = None

    async def last(self, seconds: float) -> str:
        try:
            await self._time.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled_at_s = self._time.now_s
            raise
        return "done"


@pytest.fixture
async def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
async def server(time: VirtualTime) -> Renewals:
    return Renewals(time)


@pytest.fixture
async def lease(time: VirtualTime, server: Renewals) -> Lease:
    return Lease(server, time.clock, promotion="p", fence=1, lease_s=LEASE_S, sent_s=time.now_s)


async def test_a_lease_is_renewed_well_before_it_ends(time: VirtualTime, server: Renewals, lease: Lease) -> None:
    """Work of an hour is done, and no two renewals are further apart than half a lease."""
    began_s = time.now_s
    assert await while_leased(lease, Work(time).last(3600)) == "done"
    moments = [began_s, *server.at_s]
    assert all(later - earlier <= LEASE_S / 2 for earlier, later in itertools.pairwise(moments))


async def test_some_silence_is_borne(time: VirtualTime, server: Renewals, lease: Lease) -> None:
    """Renewals that fail within the lease do not end the work."""
    server.answers = ["silent", "silent", "", "silent"]
    assert await while_leased(lease, Work(time).last(300)) == "done"


@pytest.mark.parametrize("answer", ["silent", "hang"])
async def test_silence_longer_than_the_lease_ends_the_work(
    time: VirtualTime, server: Renewals, lease: Lease, answer: str
) -> None:
    """Without a renewal, or with one that hangs, the work is cancelled when the lease ends, not later."""
    server.answers = [answer] * 1000
    work, began_s = Work(time), time.now_s
    with pytest.raises(RunLost):
        await while_leased(lease, work.last(3600))
    assert work.cancelled_at_s is not None
    assert work.cancelled_at_s <= began_s + LEASE_S


async def test_an_overtaken_run_is_cut_at_once(time: VirtualTime, server: Renewals, lease: Lease) -> None:
    """The first renewal that is refused cancels the work."""
    server.answers = ["lost"]
    work = Work(time)
    with pytest.raises(RunLost, match="overtaken"):
        await while_leased(lease, work.last(3600))
    assert work.cancelled_at_s == server.at_s[0]


async def test_the_lease_counts_from_when_a_renewal_was_sent(time: VirtualTime, lease: Lease) -> None:
    """A renewal whose answer took long is good for a lease from when it was asked for, and never shortens."""
    sent_s = time.now_s
    await time.sleep(LEASE_S - 1)
    lease.require()
    lease.renewed(sent_s)
    await time.sleep(1)
    with pytest.raises(RunLost):
        lease.require()
    lease.renewed(time.now_s)
    lease.renewed(sent_s)
    lease.require()


async def test_what_the_work_raises_is_raised(lease: Lease) -> None:
    """An error of the work comes out as it is."""

    async def failing() -> None:
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        await while_leased(lease, failing())


async def test_cancelling_ends_work_and_renewals(time: VirtualTime, server: Renewals, lease: Lease) -> None:
    """A cancelled run leaves no task behind."""
    work = Work(time)
    running = asyncio.ensure_future(while_leased(lease, work.last(10**9)))
    while len(server.at_s) < 3:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.cancelled_at_s is not None
    renewals = len(server.at_s)
    await time.sleep(10 * LEASE_S)
    assert len(server.at_s) == renewals


async def test_patience_ends(time: VirtualTime) -> None:
    """A silent overlay is asked again and again, but no longer than was said."""
    asked: list[float] = []

    async def ask() -> None:
        asked.append(time.now_s)
        raise ServerSilent("nobody answers")

    with pytest.raises(ServerSilent):
        await patiently(ask, time.clock, within_s=30)
    assert len(asked) > 3
    assert asked[-1] - asked[0] <= 30
