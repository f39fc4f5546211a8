"""Every StageLedger gives a promotion's releases to one run at a time, and keeps them until it ends."""

import asyncio
from dataclasses import replace

import pytest

from overlay.domain.events import EventKind
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import ReleaseName, StageId
from overlay.domain.promotion import Freeze, PromotionId
from overlay.domain.promotion_errors import PromotionLost, PromotionRunning, ReleaseFrozen, StagedChanged
from overlay.domain.stage import Reason, StagedFile
from tests.ledgers import NOW_US, LedgerClock, stage
from tests.staged import DEMO, GIVEN_UP, claim_for, freeze_of, staged_file, upload_of

FIRST, SECOND = PromotionId("1" * 32), PromotionId("2" * 32)
LEASE_US = 60_000_000
WHEEL = staged_file(1)
SOURCE = staged_file(2, filename="demo-1.0.tar.gz", content="source")
OTHER = staged_file(3, project="other", version="2.0", filename="other-2.0.tar.gz")
WITHDRAWN = Ending(Reason.WITHDRAWN, NOW_US, "bob")
LIVE = Ending(Reason.LIVE, NOW_US, "upstream")


def wanted(*files: StagedFile, promotion: PromotionId = FIRST, holder: str = "one", since_us: int = NOW_US) -> Freeze:
    """Want a lease of a minute from `since_us` on."""
    return freeze_of(*files, promotion=promotion, holder=holder, since_us=since_us, until_us=since_us + LEASE_US)


@pytest.fixture
async def staged(ledger: StageLedger) -> StageLedger:
    """Stage two files of one release, and one of another project's."""
    for file in (WHEEL, SOURCE, OTHER):
        await stage(ledger, file)
    return ledger


async def test_a_freeze_is_read_as_it_was_wanted(staged: StageLedger) -> None:
    """To the letter, whatever whoever runs it is called."""
    odd = replace(wanted(WHEEL, SOURCE, OTHER), who='li\ne "q" \\ %s \x00 ü 漢, {tag}', holder='o"d\nd')
    assert await staged.freezes() == ()
    assert await staged.freeze(odd) == odd
    assert await staged.freezes() == (odd,)


async def test_freezes_are_read_oldest_first(staged: StageLedger) -> None:
    """Whatever the order in which they came."""
    late, early = wanted(WHEEL, since_us=NOW_US + 1), wanted(OTHER, promotion=SECOND)
    await staged.freeze(late)
    await staged.freeze(early)
    assert await staged.freezes() == (early, late)


async def test_another_promotion_gets_no_release_that_is_frozen(staged: StageLedger) -> None:
    """Also when other files of it are wanted; the refusal says who, since when."""
    first = await staged.freeze(wanted(WHEEL))
    with pytest.raises(ReleaseFrozen) as refused:
        await staged.freeze(wanted(SOURCE, promotion=SECOND, holder="two", since_us=NOW_US + 5))
    assert (refused.value.release, refused.value.who, refused.value.since_us) == ("demo==1.0", "ci", NOW_US)
    assert await staged.freezes() == (first,)


async def test_a_freeze_of_several_releases_takes_all_or_none(staged: StageLedger) -> None:
    """What is refused for one release leaves the others free."""
    await staged.freeze(wanted(OTHER))
    with pytest.raises(ReleaseFrozen, match=r"other==2\.0"):
        await staged.freeze(wanted(WHEEL, OTHER, promotion=SECOND, holder="two"))
    third = wanted(WHEEL, promotion=PromotionId("3" * 32))
    assert await staged.freeze(third) == third


async def test_releases_of_one_name_do_not_touch(staged: StageLedger) -> None:
    """Another version of the project, and another project of that version, are other releases."""
    newer = staged_file(4, version="1.0.1", filename="demo-1.0.1.tar.gz")
    longer = staged_file(5, project="demo-1", version="1.0", filename="demo_1-1.0.tar.gz")
    await staged.freeze(wanted(WHEEL, SOURCE))
    for number, file in enumerate((newer, longer), 7):
        await stage(staged, file)
        await staged.freeze(wanted(file, promotion=PromotionId(str(number) * 32)))
    assert len(await staged.freezes()) == 3


async def test_of_two_racing_freezes_one_gets_all(staged: StageLedger) -> None:
    """Whichever comes first; the other gets nothing of it."""
    both = wanted(WHEEL, OTHER), wanted(OTHER, SOURCE, promotion=SECOND, holder="two")
    answers = await asyncio.gather(*(staged.freeze(one) for one in both), return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, Freeze)]
    assert [type(answer) for answer in answers if not isinstance(answer, Freeze)] == [ReleaseFrozen]
    assert await staged.freezes() == tuple(won)


async def test_what_is_not_staged_as_wanted_is_not_frozen(staged: StageLedger) -> None:
    """Unknown, ended, of another release, of another stage: nothing was frozen."""
    await staged.forget(DEMO, [SOURCE.upload_id], WITHDRAWN)
    elsewhere = replace(wanted(WHEEL), stage=StageId("flag-day"))
    foreign = replace(wanted(WHEEL), uploads=(WHEEL.upload_id, OTHER.upload_id))
    unknown = replace(wanted(WHEEL), uploads=(WHEEL.upload_id, upload_of(99)))
    for changed in (wanted(WHEEL, SOURCE), elsewhere, foreign, unknown):
        with pytest.raises(StagedChanged, match=r"demo==1\.0"):
            await staged.freeze(changed)
    assert await staged.freezes() == ()
    await staged.freeze(wanted(WHEEL, promotion=SECOND))


async def test_a_freeze_may_be_asked_for_again(staged: StageLedger, clock: LedgerClock) -> None:
    """After a lost answer it answers the same; later it renews the lease of the run that has it, and nothing else."""
    first = wanted(WHEEL)
    assert [await staged.freeze(first) for _ in range(2)] == [first, first]
    clock.now_us += 10
    later = wanted(WHEEL, SOURCE, since_us=clock.now_us)
    assert await staged.freeze(later) == replace(first, until_us=later.until_us)
    assert await staged.freeze(first) == replace(first, until_us=later.until_us)


async def test_a_lease_belongs_to_one_run(staged: StageLedger, clock: LedgerClock) -> None:
    """Another run is told who has it, since when and until when; at its end it gets it, under the next fence."""
    first = await staged.freeze(wanted(WHEEL))
    await staged.renew(FIRST, fence=1, until_us=first.until_us, durable=True)
    other = replace(wanted(WHEEL, holder="two"), who="another job", until_us=NOW_US + 3 * LEASE_US)
    clock.now_us = first.until_us - 1
    with pytest.raises(PromotionRunning) as refused:
        await staged.freeze(other)
    assert (refused.value.promotion, refused.value.who) == (FIRST, "ci")
    assert (refused.value.since_us, refused.value.until_us) == (NOW_US, first.until_us)
    clock.now_us += 1
    taken = replace(first, holder="two", who="another job", fence=2, until_us=other.until_us, durable=True)
    for _ in range(2):  # also when the answer was lost
        assert await staged.freeze(other) == taken
    assert await staged.freezes() == (taken,)
    with pytest.raises(PromotionLost):
        await staged.renew(FIRST, fence=1, until_us=NOW_US + 9 * LEASE_US)


async def test_a_takeover_keeps_what_is_promoted(staged: StageLedger, clock: LedgerClock) -> None:
    """Whatever else the next run would want, and whatever of it is live by now."""
    first = await staged.freeze(wanted(WHEEL))
    await staged.renew(FIRST, fence=1, until_us=0, durable=True)
    await staged.forget(DEMO, [WHEEL.upload_id], LIVE)
    clock.now_us += 5
    more = wanted(WHEEL, SOURCE, OTHER, holder="two", since_us=clock.now_us)
    taken = await staged.freeze(more)
    assert taken == replace(first, holder="two", fence=2, until_us=more.until_us, durable=True)
    await staged.freeze(wanted(OTHER, promotion=SECOND, since_us=clock.now_us))


async def test_a_lease_is_prolonged_never_shortened(staged: StageLedger) -> None:
    """A late or a repeated renewal changes nothing."""
    first = await staged.freeze(wanted(WHEEL))
    longer = replace(first, until_us=first.until_us + 5)
    for until_us in (longer.until_us, longer.until_us, first.until_us, 1):
        assert await staged.renew(FIRST, fence=1, until_us=until_us) == longer
    assert await staged.freezes() == (longer,)


async def test_a_freeze_ends_with_its_lease(staged: StageLedger, clock: LedgerClock) -> None:
    """It holds while the clock is below its end; then it is gone, for its own run, too."""
    first = await staged.freeze(wanted(WHEEL, SOURCE))
    clock.now_us = first.until_us - 1
    assert await staged.freezes() == (first,)
    clock.now_us += 1
    assert await staged.freezes() == ()
    with pytest.raises(PromotionLost):
        await staged.renew(FIRST, fence=1, until_us=clock.now_us + LEASE_US)
    second = wanted(SOURCE, promotion=SECOND, holder="two", since_us=clock.now_us)
    assert await staged.freeze(second) == second
    with pytest.raises(ReleaseFrozen):
        await staged.freeze(wanted(WHEEL, since_us=clock.now_us))


async def test_a_freeze_that_lapsed_may_be_made_anew(staged: StageLedger, clock: LedgerClock) -> None:
    """Under the fence that is wanted then, and only of what is staged."""
    await staged.freeze(wanted(WHEEL))
    clock.now_us += LEASE_US
    with pytest.raises(StagedChanged):
        await staged.freeze(replace(wanted(WHEEL, since_us=clock.now_us), uploads=(upload_of(99),)))
    again = replace(wanted(SOURCE, holder="two", since_us=clock.now_us), fence=7)
    assert await staged.freeze(again) == again


async def test_a_lease_of_0_ends_at_once(staged: StageLedger) -> None:
    """What nothing was pushed of is free again, also when that is asked for twice."""
    first = await staged.freeze(wanted(WHEEL))
    for _ in range(2):
        assert await staged.renew(FIRST, fence=1, until_us=0) == replace(first, until_us=0)
    assert await staged.freezes() == ()
    second = wanted(WHEEL, promotion=SECOND, holder="two")
    assert await staged.freeze(second) == second
    for durable in (False, True):
        with pytest.raises(PromotionLost):
            await staged.renew(FIRST, fence=1, until_us=0, durable=durable)


async def test_what_ended_is_not_made_durable(staged: StageLedger) -> None:
    """A push that comes after its run gave up is refused."""
    for until_us in (0, NOW_US + LEASE_US):
        await staged.freeze(wanted(WHEEL))
        await staged.renew(FIRST, fence=1, until_us=0)
        with pytest.raises(PromotionLost):
            await staged.renew(FIRST, fence=1, until_us=until_us, durable=True)
        assert await staged.freezes() == ()


async def test_a_durable_freeze_outlives_its_lease(staged: StageLedger, clock: LedgerClock) -> None:
    """From then on it stays, also where its lease is ended; its run may go on until another one took it over."""
    first = await staged.freeze(wanted(WHEEL))
    durable = replace(first, durable=True)
    for _ in range(2):
        assert await staged.renew(FIRST, fence=1, until_us=first.until_us, durable=True) == durable
    clock.now_us += 10 * LEASE_US
    assert await staged.freezes() == (durable,)
    assert await staged.renew(FIRST, fence=1, until_us=0) == replace(durable, until_us=0)
    again = clock.now_us + LEASE_US
    assert await staged.renew(FIRST, fence=1, until_us=again) == replace(durable, until_us=again)
    with pytest.raises(ReleaseFrozen):
        await staged.freeze(wanted(SOURCE, promotion=SECOND, since_us=clock.now_us))


async def test_only_a_run_of_the_promotion_renews(staged: StageLedger) -> None:
    """An unknown promotion and a fence that was never given are lost as well; nothing changed."""
    first = await staged.freeze(wanted(WHEEL))
    for promotion, fence in ((SECOND, 1), (FIRST, 2), (FIRST, 0)):
        with pytest.raises(PromotionLost):
            await staged.renew(promotion, fence=fence, until_us=NOW_US + 9 * LEASE_US, durable=True)
    assert await staged.freezes() == (first,)


async def test_nothing_is_pushed_of_a_release_that_changed(staged: StageLedger) -> None:
    """An upload that ended although it was frozen, whoever's clock allowed it, ends a freeze that is not durable."""
    await staged.freeze(wanted(WHEEL, SOURCE))
    await staged.forget(DEMO, [SOURCE.upload_id], LIVE)
    with pytest.raises(PromotionLost):
        await staged.renew(FIRST, fence=1, until_us=NOW_US + LEASE_US, durable=True)
    assert await staged.freezes() == ()


async def test_what_is_live_does_not_end_a_durable_freeze(staged: StageLedger) -> None:
    """Its other files are still to come."""
    await staged.freeze(wanted(WHEEL, SOURCE))
    durable = await staged.renew(FIRST, fence=1, until_us=NOW_US, durable=True)
    await staged.forget(DEMO, [WHEEL.upload_id], LIVE)
    assert await staged.renew(FIRST, fence=1, until_us=NOW_US) == durable
    assert await staged.freezes() == (durable,)


async def test_a_thaw_frees_every_release(staged: StageLedger) -> None:
    """Of a durable freeze, too; what is not frozen may be thawed, and others stay frozen."""
    await staged.freeze(wanted(WHEEL, OTHER))
    await staged.renew(FIRST, fence=1, until_us=NOW_US + LEASE_US, durable=True)
    await staged.thaw(SECOND, GIVEN_UP)
    assert len(await staged.freezes()) == 1
    await staged.thaw(FIRST, GIVEN_UP)
    second = await staged.freeze(wanted(WHEEL, SOURCE, OTHER, promotion=SECOND, holder="two"))
    await staged.thaw(FIRST, GIVEN_UP)
    assert await staged.freezes() == (second,)


async def test_a_thaw_may_leave_what_is_durable(staged: StageLedger) -> None:
    """Whoever thought that nothing was pushed is told otherwise; a freeze that ends with its lease goes."""
    assert await staged.thaw(FIRST, GIVEN_UP, unless_durable=True)
    await staged.freeze(wanted(WHEEL))
    assert await staged.thaw(FIRST, GIVEN_UP, unless_durable=True)
    assert await staged.freezes() == ()
    await staged.freeze(wanted(WHEEL))
    durable = await staged.renew(FIRST, fence=1, until_us=NOW_US, durable=True)
    for _ in range(2):
        assert not await staged.thaw(FIRST, GIVEN_UP, unless_durable=True)
        assert await staged.freezes() == (durable,)
    assert await staged.thaw(FIRST, GIVEN_UP)
    assert await staged.freezes() == ()


async def test_a_run_that_goes_on_may_be_overtaken(staged: StageLedger) -> None:
    """Nothing that it writes after that is believed; a durable freeze is left, any other is not."""
    assert not await staged.overtake(FIRST)
    first = await staged.freeze(wanted(WHEEL))
    await staged.renew(FIRST, fence=1, until_us=first.until_us, durable=True)
    assert await staged.overtake(FIRST)
    assert await staged.freezes() == (replace(first, durable=True, until_us=0, fence=2),)
    with pytest.raises(PromotionLost):
        await staged.renew(FIRST, fence=1, until_us=first.until_us, durable=True)
    await staged.freeze(wanted(OTHER, promotion=SECOND))
    assert not await staged.overtake(SECOND)
    with pytest.raises(PromotionLost):
        await staged.renew(SECOND, fence=1, until_us=first.until_us, durable=True)
    assert [freeze.promotion for freeze in await staged.freezes()] == [FIRST]


async def test_no_fence_is_given_twice(staged: StageLedger, clock: LedgerClock) -> None:
    """Although the ledger lost the last ones: the plan has them."""
    first = await staged.freeze(wanted(WHEEL))
    await staged.renew(FIRST, fence=1, until_us=0, durable=True)
    third = await staged.freeze(replace(wanted(WHEEL, holder="three"), fence=3))
    assert third == replace(first, durable=True, holder="three", fence=3)
    assert await staged.freeze(replace(third, fence=5)) == replace(third, fence=5)
    assert await staged.freeze(third) == replace(third, fence=5)
    clock.now_us = third.until_us
    sixth = await staged.freeze(replace(wanted(WHEEL, holder="six"), fence=2))
    assert sixth.fence == 6


async def test_versions_that_are_equal_are_one_release(staged: StageLedger) -> None:
    """1.0 and 1.0.0, as on PyPI: one promotion has both, and nothing is staged for either; each keeps its spelling."""
    longer = staged_file(7, version="1.0.0", filename="demo-1.0.0.tar.gz")
    await stage(staged, longer)
    both = await staged.freeze(replace(wanted(WHEEL, longer)))
    assert (await staged.freezes(), [str(release) for release in both.releases]) == ((both,), ["demo==1.0"])
    with pytest.raises(ReleaseFrozen):
        await staged.freeze(wanted(longer, promotion=SECOND, holder="two"))
    with pytest.raises(ReleaseFrozen, match=r"demo==1\.0 "):
        await staged.admit(claim_for(staged_file(8, version="1.0.0", filename="demo-1.0.0.zip")))
    with pytest.raises(ReleaseFrozen, match=r"demo==1\.0 "):
        await staged.forget(DEMO, [longer.upload_id], WITHDRAWN)
    (event,) = [event for event in (await staged.events(0)).events if event.kind is EventKind.PROMOTING]
    assert event.version == "1.0"
    await staged.thaw(FIRST, GIVEN_UP)
    assert (await staged.freeze(wanted(longer, promotion=SECOND))).releases == (ReleaseName(DEMO, "1"),)


async def test_a_load_brings_freezes_and_forgets_others(staged: StageLedger) -> None:
    """They hold from the moment the ledger is ready, as they are given; so does a large number of them."""
    await staged.freeze(wanted(OTHER))
    files = [staged_file(number, version=f"{number}", filename=f"demo-{number}.tar.gz") for number in range(10, 460)]
    freezes = [
        replace(wanted(file, promotion=PromotionId(f"{file.serial:032d}")), durable=file.serial % 2 == 0, fence=3)
        for file in files
    ]
    await staged.load((*files, OTHER), (), freezes)
    assert await staged.freezes() == tuple(freezes)
    with pytest.raises(ReleaseFrozen, match="demo==11"):
        await staged.forget(DEMO, [upload_of(11)], WITHDRAWN)
    await staged.freeze(wanted(OTHER, promotion=SECOND))
    await staged.load((), ())
    assert await staged.freezes() == ()


async def test_a_durable_freeze_is_restored_whatever_is_staged(staged: StageLedger) -> None:
    """A reconcile knows from the documents that something may have been pushed."""
    lost = replace(wanted(WHEEL), uploads=(upload_of(99),), fence=4, until_us=0, durable=True)
    for _ in range(2):
        assert await staged.freeze(lost) == lost
    assert await staged.freezes() == (lost,)
    assert lost.releases == (ReleaseName(DEMO, "1.0"),)


async def test_a_lease_is_made_durable_by_its_own_run_alone(staged: StageLedger) -> None:
    """Where the ledger lost that something may have been pushed; another run waits for the lease."""
    first = await staged.freeze(wanted(WHEEL))
    with pytest.raises(PromotionRunning):
        await staged.freeze(replace(wanted(WHEEL, holder="two"), durable=True))
    assert await staged.freezes() == (first,)
    durable = replace(first, durable=True)
    assert await staged.freeze(replace(durable, until_us=0)) == durable
    assert await staged.freeze(first) == durable
    assert await staged.freezes() == (durable,)
