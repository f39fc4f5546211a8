"""Every StageLedger keeps a file that is live as it is, until it ends because it is live."""

from dataclasses import replace

import pytest

from overlay.domain.errors import FileExists, LedgerUnavailable
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import MAIN, StageId
from overlay.domain.stage import Admitted, AlreadyStaged, Gone, Reason, StagedFile
from tests.ledgers import NOW_US, stage
from tests.staged import DEMO, claim_for, freeze_of, staged_file, upload_of

WHEEL = staged_file(1)
SOURCE = staged_file(2, filename="demo-1.0.tar.gz", content="source")
CHANGED = staged_file(6, content="changed")
ELSEWHERE = replace(staged_file(8, content="changed"), stage=StageId("flag-day"))
WITHDRAWN = Ending(Reason.WITHDRAWN, NOW_US, "bob")
LIVE = Ending(Reason.LIVE, NOW_US, "overlay")


@pytest.fixture
async def marked(ledger: StageLedger) -> StageLedger:
    """Stage two files, of which upstream has one."""
    for file in (WHEEL, SOURCE):
        await stage(ledger, file)
    await ledger.mark_live([WHEEL.upload_id])
    return ledger


async def staged(ledger: StageLedger) -> set[StagedFile]:
    (snapshot,) = await ledger.snapshot(DEMO, (MAIN,))
    return set(snapshot.files)


async def test_other_bytes_are_refused_for_good(marked: StageLedger) -> None:
    """Whatever they may replace, and also where they were admitted before; other names and stages go on."""
    for may_replace in (True, False):
        with pytest.raises(FileExists, match="is live upstream") as refused:
            await marked.admit(claim_for(CHANGED, replace=may_replace))
        assert refused.value.held_sha256 == WHEEL.sha256
        with pytest.raises(FileExists, match="is live upstream"):
            await stage(marked, CHANGED, replace=may_replace)
    (gone,) = await marked.entries(DEMO, (CHANGED.upload_id,))
    assert isinstance(gone, Gone)
    assert gone.reason is Reason.REFUSED
    assert await staged(marked) == {WHEEL, SOURCE}
    for other in (staged_file(7, filename=SOURCE.filename, content="changed"), ELSEWHERE):
        assert isinstance(await marked.admit(claim_for(other)), Admitted)
        await stage(marked, other)


async def test_a_promotion_of_the_release_does_not_make_it_wait(marked: StageLedger) -> None:
    """What is promoted beside it ends some day; what is live is so for good."""
    await marked.freeze(freeze_of(SOURCE, since_us=NOW_US, until_us=NOW_US + 1))
    with pytest.raises(FileExists, match="is live upstream"):
        await marked.admit(claim_for(CHANGED))
    with pytest.raises(FileExists, match="is live upstream"):
        await stage(marked, CHANGED)


async def test_the_same_bytes_are_already_staged(marked: StageLedger) -> None:
    """Whatever the grant: a stronger one would only bring another copy."""
    again = replace(WHEEL, upload_id=upload_of(9), grant="demo")
    weak = replace(SOURCE, grant="*", upload_id=upload_of(8), filename="demo-1.0.zip")
    await stage(marked, weak)
    await marked.mark_live([weak.upload_id])
    strong = replace(weak, upload_id=upload_of(10), grant="demo")
    for one, held in ((again, WHEEL), (strong, weak)):
        for may_replace in (True, False):
            assert await marked.admit(claim_for(one, replace=may_replace)) == AlreadyStaged(held)
        ended = (await stage(marked, one)).ended
        assert ended is not None
        assert (ended.file, ended.reason) == (one, Reason.REPLACED)
    assert await staged(marked) == {WHEEL, SOURCE, weak}


async def test_only_its_being_live_ends_it(marked: StageLedger) -> None:
    """Any other ending passes over it, also where others end in the same call; readers see no change then."""
    for reason in (Reason.WITHDRAWN, Reason.EXPIRED, Reason.REFUSED, Reason.REPLACED):
        before = await marked.revisions(DEMO, (MAIN,))
        assert await marked.forget(DEMO, [WHEEL.upload_id], Ending(reason, NOW_US, "bob")) == ()
        assert await marked.revisions(DEMO, (MAIN,)) == before
    both = [WHEEL.upload_id, SOURCE.upload_id]
    for _ in range(2):
        assert [gone.file for gone in await marked.forget(DEMO, both, WITHDRAWN)] == [SOURCE]
    assert await staged(marked) == {WHEEL}
    for _ in range(2):
        assert [gone.file for gone in await marked.forget(DEMO, both, LIVE)] == [WHEEL]
    assert await staged(marked) == set()


async def test_the_mark_goes_with_the_file(marked: StageLedger) -> None:
    """Upstream may have deleted it since: its name is free, and a repeat of the mark marks nothing."""
    assert await marked.marked_live() == {WHEEL.upload_id}
    await marked.forget(DEMO, [WHEEL.upload_id], LIVE)
    await marked.mark_live([WHEEL.upload_id])
    assert await marked.marked_live() == frozenset()
    assert isinstance(await marked.admit(claim_for(CHANGED)), Admitted)
    await stage(marked, CHANGED)
    assert await staged(marked) == {CHANGED, SOURCE}
    assert len(await marked.forget(DEMO, [CHANGED.upload_id], WITHDRAWN)) == 1


async def test_marking_may_be_repeated(marked: StageLedger) -> None:
    """After a lost answer, and with more; what is not staged is passed over, and readers see no change."""
    before, events = await marked.revisions(DEMO, (MAIN,)), await marked.events(0)
    for _ in range(2):
        await marked.mark_live([WHEEL.upload_id, SOURCE.upload_id, CHANGED.upload_id])
        assert await marked.marked_live() == {WHEEL.upload_id, SOURCE.upload_id}
    await marked.mark_live([])
    assert await marked.revisions(DEMO, (MAIN,)) == before
    assert await marked.events(0) == events


async def test_a_load_brings_the_marks(marked: StageLedger) -> None:
    """And nothing of those before."""
    await marked.load((WHEEL, SOURCE), (), (), (SOURCE.upload_id,))
    assert await marked.marked_live() == {SOURCE.upload_id}
    assert [gone.file for gone in await marked.forget(DEMO, [WHEEL.upload_id, SOURCE.upload_id], WITHDRAWN)] == [WHEEL]
    await marked.load((WHEEL, SOURCE), ())
    assert await marked.marked_live() == frozenset()


async def test_nothing_is_marked_while_the_ledger_is_not_loaded(fresh: StageLedger) -> None:
    """As with everything else."""
    with pytest.raises(LedgerUnavailable):
        await fresh.mark_live([WHEEL.upload_id])
    with pytest.raises(LedgerUnavailable):
        await fresh.marked_live()
