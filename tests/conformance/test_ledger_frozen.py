"""Every StageLedger keeps a release that is being promoted as it is, in every stage, until its freeze ends."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from overlay.domain.errors import FileExists, LedgerRebuilt
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import MAIN, NormalizedName, StageId
from overlay.domain.promotion_errors import ReleaseFrozen
from overlay.domain.stage import Admitted, AlreadyStaged, Gone, Reason, Staged, StagedFile
from tests.ledgers import NOW_US, LedgerClock, stage
from tests.staged import DEMO, GIVEN_UP, claim_for, freeze_of, staged_file, upload_of

LEASE_US = 60_000_000
OTHER_STAGE = StageId("flag-day")
WHEEL = staged_file(1)
REST = staged_file(2, filename="demo-1.0-cp311-none-any.whl", content="not promoted")
FREEZE = freeze_of(WHEEL, since_us=NOW_US, until_us=NOW_US + LEASE_US)
NEW = staged_file(5, filename="demo-1.0.tar.gz", content="new")
CHANGED = staged_file(6, content="changed")
WITHDRAWN = Ending(Reason.WITHDRAWN, NOW_US, "bob")


@pytest.fixture
async def frozen(ledger: StageLedger) -> StageLedger:
    """Promote one of a release's two files."""
    for file in (WHEEL, REST):
        await stage(ledger, file)
    await ledger.freeze(FREEZE)
    return ledger


async def staged(ledger: StageLedger, within: StageId = MAIN) -> set[StagedFile]:
    (snapshot,) = await ledger.snapshot(DEMO, (within,))
    return set(snapshot.files)


async def test_a_new_name_is_refused(frozen: StageLedger) -> None:
    """The refusal says which release, by whom and since when, and what to do; in every stage."""
    for new in (NEW, replace(NEW, stage=OTHER_STAGE)):
        with pytest.raises(ReleaseFrozen) as refused:
            await frozen.admit(claim_for(new))
        assert (refused.value.release, refused.value.who, refused.value.since_us) == ("demo==1.0", "ci", NOW_US)
        assert "Release demo==1.0 is being promoted by ci since 2023-11-14 22:13:20 UTC." in str(refused.value)


@pytest.mark.parametrize("changed", [CHANGED, staged_file(6, filename=REST.filename, content="changed")])
async def test_no_name_is_given_other_bytes(frozen: StageLedger, changed: StagedFile) -> None:
    """Design §6: 400 `File already exists`, as without the right to replace; also of what is not promoted."""
    for may_replace in (True, False):
        with pytest.raises(FileExists, match="is staged here and being promoted by ci") as refused:
            await frozen.admit(claim_for(changed, replace=may_replace))
        assert refused.value.held_sha256 in {WHEEL.sha256, REST.sha256}


async def test_a_name_of_another_stage_is_given_no_other_bytes(ledger: StageLedger) -> None:
    """One promotion at a time for a release across all stages (design §7)."""
    elsewhere = replace(staged_file(3, content="elsewhere"), stage=OTHER_STAGE)
    for file in (WHEEL, elsewhere):
        await stage(ledger, file)
    await ledger.freeze(FREEZE)
    with pytest.raises(FileExists):
        await ledger.admit(claim_for(replace(CHANGED, stage=OTHER_STAGE)))
    with pytest.raises(FileExists):
        await stage(ledger, replace(CHANGED, stage=OTHER_STAGE))
    assert await staged(ledger, OTHER_STAGE) == {elsewhere}


async def test_the_same_bytes_are_already_staged(frozen: StageLedger) -> None:
    """A repeat of an upload is answered as ever, promoted or not, whatever its rights."""
    for held in (WHEEL, REST):
        again = replace(held, upload_id=upload_of(9))
        for may_replace in (True, False):
            assert await frozen.admit(claim_for(again, replace=may_replace)) == AlreadyStaged(held)


async def test_a_stronger_grant_changes_nothing_now(ledger: StageLedger) -> None:
    """The bytes are those that are promoted: they are staged already, and what was staged stays."""
    weak, strong = staged_file(1, grant="*"), staged_file(9, grant="demo")
    await stage(ledger, weak)
    await ledger.freeze(FREEZE)
    assert await ledger.admit(claim_for(strong)) == AlreadyStaged(weak)
    ended = (await stage(ledger, strong)).ended
    assert ended is not None
    assert (ended.file, ended.reason) == (strong, Reason.REPLACED)
    assert await staged(ledger) == {weak}


async def test_what_was_admitted_before_is_refused_after(ledger: StageLedger) -> None:
    """The freeze came between the two steps of an upload: nothing is shown, nothing ends, and readers see no change."""
    await stage(ledger, WHEEL)
    for file in (NEW, CHANGED):
        assert isinstance(await ledger.admit(claim_for(file)), Admitted)
    await ledger.freeze(FREEZE)
    before, events = await ledger.revisions(DEMO, (MAIN,)), await ledger.events(0)
    for _ in range(2):
        with pytest.raises(ReleaseFrozen):
            await stage(ledger, NEW)
        with pytest.raises(FileExists, match="being promoted"):
            await stage(ledger, CHANGED)
    assert await ledger.revisions(DEMO, (MAIN,)) == before
    assert await ledger.events(0) == events
    assert await ledger.entries(DEMO, (NEW.upload_id, CHANGED.upload_id)) == (None, None)
    assert await staged(ledger) == {WHEEL}


@pytest.mark.parametrize("withdrawn", [True, False])
async def test_what_may_only_add_waits_for_the_thaw_too(frozen: StageLedger, *, withdrawn: bool) -> None:
    """The refusal was the promotion's; after it the name is free, or the upload is refused for good."""
    for _ in range(2):
        with pytest.raises(FileExists, match="being promoted"):
            await stage(frozen, CHANGED, replace=False)
    assert await frozen.entries(DEMO, (CHANGED.upload_id,)) == (None,)
    await frozen.thaw(FREEZE.promotion, GIVEN_UP)
    if withdrawn:
        await frozen.forget(DEMO, [WHEEL.upload_id], WITHDRAWN)
        assert await stage(frozen, CHANGED, replace=False) == Staged(None)
        return
    with pytest.raises(FileExists):
        await stage(frozen, CHANGED, replace=False)
    (gone,) = await frozen.entries(DEMO, (CHANGED.upload_id,))
    assert isinstance(gone, Gone)
    assert gone.reason is Reason.REFUSED


async def test_the_same_bytes_that_were_admitted_before_end(ledger: StageLedger) -> None:
    """Two uploads of them raced and one is promoted: the other changes nothing, and its uploader has what it wants."""
    second = staged_file(9)
    assert isinstance(await ledger.admit(claim_for(second)), Admitted)
    await stage(ledger, WHEEL)
    await ledger.freeze(FREEZE)
    ended = (await stage(ledger, second, replace=False)).ended
    assert ended is not None
    assert ended.file == second
    assert await staged(ledger) == {WHEEL}


async def test_what_was_staged_before_may_be_staged_again(frozen: StageLedger) -> None:
    """A repeat after a lost answer is no change; nor is one of what ended before."""
    await frozen.thaw(FREEZE.promotion, GIVEN_UP)
    (gone,) = await frozen.forget(DEMO, [REST.upload_id], WITHDRAWN)
    await frozen.freeze(FREEZE)
    assert await stage(frozen, WHEEL) == Staged(None)
    assert await stage(frozen, REST) == Staged(gone)


async def test_another_life_is_told_first(frozen: StageLedger) -> None:
    """An upload whose outcome is unknown is not told that it was refused."""
    with pytest.raises(LedgerRebuilt):
        await frozen.stage(NEW, replace=True, epoch="another life")


async def test_other_releases_go_on(frozen: StageLedger) -> None:
    """Of the same project, and the same version of others; the frozen one is the only one that is kept."""
    newer = staged_file(7, version="1.1", filename="demo-1.1.tar.gz")
    other = staged_file(8, project="other", filename="other-1.0.tar.gz")
    for file in (newer, other):
        assert isinstance(await frozen.admit(claim_for(file)), Admitted)
        await stage(frozen, file)
        assert len(await frozen.forget(file.project, [file.upload_id], WITHDRAWN)) == 1


async def test_what_is_promoted_does_not_end(frozen: StageLedger) -> None:
    """Nor does anything else of the same call; who withdraws twice is refused twice."""
    newer = staged_file(7, version="1.1", filename="demo-1.1.tar.gz")
    await stage(frozen, newer)
    before, events = await frozen.revisions(DEMO, (MAIN,)), await frozen.events(0)
    for reason in (Reason.WITHDRAWN, Reason.EXPIRED, Reason.REFUSED, Reason.WITHDRAWN):
        with pytest.raises(ReleaseFrozen, match=r"demo==1\.0 is being promoted by ci"):
            await frozen.forget(DEMO, [newer.upload_id, WHEEL.upload_id], Ending(reason, NOW_US, "bob"))
    assert await staged(frozen) == {WHEEL, REST, newer}
    assert await frozen.revisions(DEMO, (MAIN,)) == before
    assert await frozen.events(0) == events


async def test_what_is_not_promoted_may_end(frozen: StageLedger) -> None:
    """An upload that was refused ends, whatever a rebuild made of it; foreign ids are passed over as ever."""
    assert len(await frozen.forget(DEMO, [REST.upload_id, NEW.upload_id], WITHDRAWN)) == 1
    assert await frozen.forget(NormalizedName("other"), [WHEEL.upload_id], WITHDRAWN) == ()
    assert await staged(frozen) == {WHEEL}


async def test_what_is_live_may_end(frozen: StageLedger) -> None:
    """Its name stays closed till the thaw; a repeat answers the same, another ending of it ends nothing."""
    live = Ending(Reason.LIVE, NOW_US, "upstream")
    first = await frozen.forget(DEMO, [WHEEL.upload_id], live)
    assert [gone.file for gone in first] == [WHEEL]
    assert await frozen.forget(DEMO, [WHEEL.upload_id], live) == first
    assert await frozen.forget(DEMO, [WHEEL.upload_id], WITHDRAWN) == ()
    for again in (CHANGED, replace(WHEEL, upload_id=upload_of(9))):
        with pytest.raises(ReleaseFrozen):
            await frozen.admit(claim_for(again))
    await frozen.thaw(FREEZE.promotion, GIVEN_UP)
    assert isinstance(await frozen.admit(claim_for(CHANGED)), Admitted)


@pytest.mark.parametrize("ends", ["thawed", "lapsed", "given up"])
async def test_after_the_end_everything_is_as_before(frozen: StageLedger, clock: LedgerClock, ends: str) -> None:
    """Uploads, replacements and withdrawals, each as if it were the first to meet the end of the freeze."""
    changes: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: frozen.admit(claim_for(CHANGED)),
        lambda: frozen.admit(claim_for(NEW)),
        lambda: stage(frozen, CHANGED),
        lambda: stage(frozen, NEW),
        lambda: frozen.forget(DEMO, [CHANGED.upload_id, NEW.upload_id], WITHDRAWN),
    )
    for number, change in enumerate(changes):
        since_us = NOW_US + number * LEASE_US
        clock.now_us = since_us
        promoted = (WHEEL, REST) if number < 3 else (CHANGED,) if number == 3 else (CHANGED, NEW)
        await frozen.thaw(FREEZE.promotion, GIVEN_UP)
        await frozen.freeze(freeze_of(*promoted, since_us=since_us, until_us=since_us + LEASE_US))
        with pytest.raises((FileExists, ReleaseFrozen)):
            await change()
        if ends == "thawed":
            await frozen.thaw(FREEZE.promotion, GIVEN_UP)
        elif ends == "lapsed":
            clock.now_us += LEASE_US
        else:
            await frozen.renew(FREEZE.promotion, fence=1, until_us=0)
        await change()
    assert await staged(frozen) == {REST}


async def test_a_durable_freeze_keeps_the_release_for_good(frozen: StageLedger, clock: LedgerClock) -> None:
    """Long after its lease ended, too, and where that was ended."""
    await frozen.renew(FREEZE.promotion, fence=1, until_us=0, durable=True)
    clock.now_us += 100 * LEASE_US
    for refused in (
        lambda: frozen.admit(claim_for(NEW)),
        lambda: stage(frozen, NEW),
        lambda: frozen.forget(DEMO, [WHEEL.upload_id], WITHDRAWN),
    ):
        with pytest.raises(ReleaseFrozen):
            await refused()
