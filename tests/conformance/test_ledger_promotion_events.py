"""Every StageLedger tells of each release of a promotion when it is frozen, taken over and thawed, each once."""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from overlay.domain.errors import Conflict
from overlay.domain.events import Event, EventKind
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import ReleaseName
from overlay.domain.promotion import Freeze, Outcome, PromotionEnding, PromotionId
from overlay.domain.stage import Reason
from tests.ledgers import NOW_US, LedgerClock, stage
from tests.staged import DEMO, claim_for, freeze_of, staged_file, upload_of

FIRST, SECOND = PromotionId("1" * 32), PromotionId("2" * 32)
LEASE_US = 60_000_000
WHEEL = staged_file(1)
OTHER = staged_file(3, project="other", version="2.0+local.1", filename="other-2.0+local.1.tar.gz")
LIVE = PromotionEnding(outcome=Outcome.LIVE, at_us=NOW_US + 7, who='odd "who" \\ ü\n')
FREEZE = replace(
    freeze_of(WHEEL, OTHER, promotion=FIRST, since_us=NOW_US - 9, until_us=NOW_US + LEASE_US),
    who='li\ne "q" \\ %s ü 漢, {tag}',
)


@pytest.fixture
async def staged(ledger: StageLedger) -> StageLedger:
    for file in (WHEEL, OTHER):
        await stage(ledger, file)
    return ledger


async def told(ledger: StageLedger) -> list[Event]:
    """Return the events about promotions, in order."""
    return [event for event in (await ledger.events(0)).events if event.promotion is not None]


async def kinds(ledger: StageLedger) -> list[tuple[EventKind, str]]:
    """Return what was told of which project, by whom or when ever."""
    return [(event.kind, event.project) for event in await told(ledger)]


def each(*happened: EventKind) -> list[tuple[EventKind, str]]:
    """Expect these of both releases."""
    return [(kind, project) for kind in happened for project in ("demo", "other")]


async def test_each_release_is_told_to_be_promoted(staged: StageLedger) -> None:
    """Once, with whoever runs it; an event about a release names no file."""
    for _ in range(2):
        await staged.freeze(FREEZE)
    await staged.renew(FIRST, fence=1, until_us=NOW_US + 2 * LEASE_US, durable=True)
    first, second = await told(staged)
    assert first == Event(
        number=3,
        at_us=NOW_US,
        kind=EventKind.PROMOTING,
        stage=WHEEL.stage,
        project=DEMO,
        version="1.0",
        who=FREEZE.who,
        promotion=FIRST,
    )
    assert second == replace(first, number=4, project=OTHER.project, version=OTHER.version)


async def test_a_takeover_is_told_with_who_took_over(staged: StageLedger, clock: LedgerClock) -> None:
    """Once, although its answer was lost; not that its run renews."""
    await staged.freeze(FREEZE)
    await staged.renew(FIRST, fence=1, until_us=0, durable=True)
    clock.now_us += 5
    next_run = replace(FREEZE, holder="two", who="another job", until_us=clock.now_us + LEASE_US)
    for _ in range(2):
        await staged.freeze(next_run)
    assert await kinds(staged) == each(EventKind.PROMOTING, EventKind.RESUMED)
    assert {(event.who, event.at_us) for event in (await told(staged))[2:]} == {("another job", NOW_US + 5)}


@pytest.mark.parametrize(
    ("outcome", "kind"), [(Outcome.LIVE, EventKind.PROMOTED), (Outcome.ABANDONED, EventKind.ABANDONED)]
)
async def test_the_end_is_told_as_it_was_ended(staged: StageLedger, outcome: Outcome, kind: EventKind) -> None:
    """Once; a freeze that is not there ends with no event."""
    ending = replace(LIVE, outcome=outcome)
    await staged.thaw(FIRST, ending)
    await staged.freeze(FREEZE)
    for _ in range(2):
        await staged.thaw(FIRST, ending)
    assert await kinds(staged) == each(EventKind.PROMOTING, kind)
    assert {(event.who, event.at_us) for event in (await told(staged))[2:]} == {(LIVE.who, LIVE.at_us)}


async def met_by_a_freeze(ledger: StageLedger) -> object:
    later = staged_file(4, version="3", filename="demo-3.tar.gz")
    await stage(ledger, later)
    return await ledger.freeze(freeze_of(later, promotion=SECOND, since_us=NOW_US, until_us=NOW_US + 9 * LEASE_US))


async def met_by_an_upload(ledger: StageLedger) -> object:
    return await ledger.admit(claim_for(staged_file(9, filename="demo-1.0.zip")))


async def met_by_a_withdrawal(ledger: StageLedger) -> object:
    return await ledger.forget(DEMO, [WHEEL.upload_id], Ending(Reason.WITHDRAWN, NOW_US, "bob"))


async def met_by_its_run(ledger: StageLedger) -> object:
    return await ledger.renew(FIRST, fence=1, until_us=NOW_US + 9 * LEASE_US)


@pytest.mark.parametrize(
    "meet",
    [met_by_a_freeze, met_by_an_upload, met_by_a_withdrawal, met_by_its_run],
    ids=lambda meet: meet.__name__,
)
async def test_a_lapse_is_told_by_whoever_meets_it(
    staged: StageLedger, clock: LedgerClock, meet: Callable[[StageLedger], Awaitable[object]]
) -> None:
    """Once, also when it is thawed after that; to read changes nothing."""
    await staged.freeze(FREEZE)
    clock.now_us += LEASE_US
    assert await staged.freezes() == ()
    assert await kinds(staged) == each(EventKind.PROMOTING)
    for _ in range(2):
        with contextlib.suppress(Conflict):
            await meet(staged)
    await staged.thaw(FIRST, LIVE)
    events = [event for event in await told(staged) if event.promotion == FIRST]
    assert [(event.kind, event.project) for event in events] == each(EventKind.PROMOTING, EventKind.ABANDONED)
    assert {(event.who, event.at_us) for event in events[2:]} == {(FREEZE.who, clock.now_us)}


async def test_a_lapse_that_nobody_met_is_told_with_its_thaw(staged: StageLedger, clock: LedgerClock) -> None:
    """The server looks after what lapsed."""
    await staged.freeze(FREEZE)
    clock.now_us += LEASE_US
    await staged.thaw(FIRST, replace(LIVE, outcome=Outcome.ABANDONED))
    assert await kinds(staged) == each(EventKind.PROMOTING, EventKind.ABANDONED)


async def test_what_is_refused_is_not_told(staged: StageLedger) -> None:
    """Neither a release that another promotion has, nor another run's lease, nor what is not staged."""
    await staged.freeze(FREEZE)
    refused: list[Freeze] = [
        replace(FREEZE, promotion=SECOND),
        replace(FREEZE, holder="two"),
        replace(FREEZE, promotion=SECOND, releases=(ReleaseName(DEMO, "9"),), uploads=(upload_of(99),)),
    ]
    for wanted in refused:
        with pytest.raises(Conflict):
            await staged.freeze(wanted)
    assert await kinds(staged) == each(EventKind.PROMOTING)


async def test_a_load_tells_nothing_and_what_it_brought_is_told_to_end(staged: StageLedger) -> None:
    """The feed of the new life begins with what happens in it."""
    await staged.load((WHEEL, OTHER), (), [FREEZE])
    assert (await staged.events(0)).events == ()
    await staged.thaw(FIRST, LIVE)
    assert await kinds(staged) == each(EventKind.PROMOTED)
