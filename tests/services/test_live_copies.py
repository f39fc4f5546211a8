"""What is live upstream stays staged as it is until no reader needs the copy, and never comes back after that."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from overlay.domain.errors import FileExists, StaysLive
from overlay.domain.layout import history_key, record_key
from overlay.domain.ledger_port import Ending
from overlay.domain.names import MAIN, NormalizedName, Serial, UploadId
from overlay.domain.ports import Documents
from overlay.domain.records import HistoryEntry, Record, decode, encode
from overlay.domain.stage import Gone, Reason, StagedFile
from overlay.services.facts import facts_reader
from overlay.services.live_copies import keep_live
from overlay.services.reconcile import end, reconcile_project
from overlay.services.releases import Releases, Withdrawn
from overlay.services.reports import Reports
from overlay.services.upkeep import reconcile
from overlay.storage.ledger_memory import MemoryLedger
from tests.desk import ADMIN, CI, NOW_US, SOURCE, WHEEL, Desk, other_bytes
from tests.fakes.documents import MemoryDocuments
from tests.faults import Fault, FaultyDocuments, FaultyLedger, Killed, Steps, killed
from tests.ledgers import stage
from tests.staged import DEMO, claim_for

OTHER_BYTES = replace(other_bytes(WHEEL, number=9), serial=Serial(NOW_US), staged_at_us=NOW_US)
URL = f"https://files.example/{WHEEL.filename}"
MINUTE_S = 60


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.ledger.load((), ())
    await made.stage(WHEEL, SOURCE)
    return made


async def promote(desk: Desk, *files: StagedFile) -> None:
    """Push all of them, and look: the promotion has ended."""
    held = await desk.held(*files)
    for file in held.promotion.files:
        await desk.push(held, file)
    assert held.freeze is not None
    _, receipt = await desk.promotions.look(CI, held.promotion.id, held.freeze.fence)
    assert receipt is not None


async def put_record(desk: Desk, file: StagedFile) -> None:
    """Write what an upload that got no answer leaves."""
    record = Record(file=file, form=(), attestations=None)
    await desk.documents.put(record_key(file.project, file.upload_id), encode(record))


async def put_history(desk: Desk, file: StagedFile, reason: Reason = Reason.WITHDRAWN) -> None:
    """Write what a withdrawal that was killed leaves."""
    gone = Gone(file, reason, desk.now_us, "bob")
    await desk.documents.put(history_key(file.project, file.upload_id), encode(HistoryEntry(gone=gone)))


def ended(desk: Desk, file: StagedFile) -> HistoryEntry | None:
    key = history_key(file.project, file.upload_id)
    return decode(key, desk.documents.held[key], HistoryEntry) if key in desk.documents.held else None


def record_of(desk: Desk, file: StagedFile) -> Record:
    key = record_key(file.project, file.upload_id)
    return decode(key, desk.documents.held[key], Record)


async def staged(desk: Desk) -> set[StagedFile]:
    (snapshot,) = await desk.ledger.snapshot(DEMO, (MAIN,))
    return set(snapshot.files)


def releases(desk: Desk, documents: Documents | None = None) -> Releases:
    return Releases(
        documents=documents or desk.documents,
        ledger=desk.ledger,
        upstream=desk.upstream,
        facts_of=facts_reader(),
        reports=Reports(desk.blobs),
        now_us=lambda: desk.now_us,
        fresh_s=60,
    )


# After a promotion


async def test_what_was_promoted_is_kept_before_its_promotion_thaws(desk: Desk) -> None:
    """Its record says since when it is live and where; other bytes are refused, by a ledger that was rebuilt, too."""
    await promote(desk, WHEEL, SOURCE)
    assert await desk.ledger.freezes() == ()
    for rebuilt in (False, True):
        if rebuilt:
            await desk.rebuild()
        record = record_of(desk, WHEEL)
        assert (record.live_since_us, record.live_url) == (desk.now_us, URL)
        with pytest.raises(FileExists, match="is live upstream"):
            await desk.ledger.admit(claim_for(OTHER_BYTES))
        with pytest.raises(FileExists, match="is live upstream"):
            await stage(desk.ledger, OTHER_BYTES)
        assert await staged(desk) == {WHEEL, SOURCE}


async def test_the_freeze_goes_last(desk: Desk) -> None:
    """At no step of the end is a file neither frozen nor kept."""
    held = await desk.held(WHEEL, SOURCE)
    for file in held.promotion.files:
        await desk.push(held, file)

    async def check(_: int, name: str) -> None:
        freezes, marked = await desk.ledger.freezes(), await desk.ledger.marked_live()
        assert freezes or marked == {WHEEL.upload_id, SOURCE.upload_id}
        seen.append(name)

    seen: list[str] = []
    steps = Steps(meanwhile=check)
    service = desk.process(FaultyDocuments(desk.documents, steps), FaultyLedger(desk.ledger, steps))
    await service.look(CI, held.promotion.id, 1)
    await check(0, "")
    assert seen.index("mark live") < seen.index("put receipts") < seen.index("thaw")


async def test_what_is_live_of_an_abandoned_promotion_is_kept(desk: Desk) -> None:
    """The rest may be replaced and withdrawn."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    await desk.promotions.abandon(CI, held.promotion.id)
    assert await desk.ledger.marked_live() == {WHEEL.upload_id}
    withdrawn = await releases(desk).withdraw(ADMIN, DEMO, "1.0")
    assert ([gone.file for gone in withdrawn.ended], withdrawn.staying) == ([SOURCE], (WHEEL,))


async def test_what_is_seen_live_is_kept_while_the_rest_is_pushed(desk: Desk) -> None:
    """With its address, which a look that ends the promotion may not get any more."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    await desk.promotions.look(CI, held.promotion.id, 1)
    assert await desk.ledger.marked_live() == {WHEEL.upload_id}
    first_us = desk.now_us
    desk.pass_s(MINUTE_S)
    await desk.push(held, held.promotion.files[1])
    desk.upstream.down = True
    await desk.promotions.abandon(CI, held.promotion.id)
    record = record_of(desk, WHEEL)
    assert (record.live_since_us, record.live_url) == (first_us, URL)


@pytest.mark.parametrize("rebuilds", [False, True])
async def test_an_upload_that_waited_for_the_thaw_does_not_replace_it(desk: Desk, *, rebuilds: bool) -> None:
    """It was killed while the release was frozen, and comes later than what was promoted: nobody has seen it."""
    held = await desk.held(WHEEL, SOURCE)
    await put_record(desk, OTHER_BYTES)
    for file in held.promotion.files:
        await desk.push(held, file)
    await desk.promotions.look(CI, held.promotion.id, 1)
    if rebuilds:
        await desk.rebuild()
        entry = ended(desk, OTHER_BYTES)
        assert entry is not None
        assert entry.gone.reason is Reason.REFUSED
    await reconcile_project(desk.documents, desk.ledger, DEMO)
    assert await staged(desk) == {WHEEL, SOURCE}
    assert ended(desk, WHEEL) is None


@pytest.mark.parametrize("when", ["frozen", "kept", "kept, then lost"])
async def test_a_history_that_ends_it_otherwise_is_void(desk: Desk, when: str) -> None:
    """A withdrawal was refused, or passed it over, and was killed before it took its history away."""
    held = await desk.held(WHEEL, SOURCE)
    for file in held.promotion.files:
        await desk.push(held, file)
    if when == "frozen":
        await put_history(desk, WHEEL)
    await desk.promotions.look(CI, held.promotion.id, 1)
    if when != "frozen":
        await put_history(desk, WHEEL)
    if when == "kept, then lost":
        await desk.rebuild()
    elif when == "kept":
        await reconcile_project(desk.documents, desk.ledger, DEMO)
    assert ended(desk, WHEEL) is None
    assert await staged(desk) == {WHEEL, SOURCE}
    assert await desk.ledger.marked_live() == {WHEEL.upload_id, SOURCE.upload_id}


async def test_a_history_that_says_live_is_none_of_those(desk: Desk) -> None:
    """The copy stepped back, and whoever did that was killed before it deleted the record."""
    await promote(desk, WHEEL, SOURCE)
    await put_history(desk, WHEEL, Reason.LIVE)
    await desk.rebuild()
    assert await staged(desk) == {SOURCE}
    await keep_live(desk.documents, desk.ledger, {WHEEL.upload_id: DEMO}, urls={}, at_us=desk.now_us)
    assert ended(desk, WHEEL) is not None


async def test_a_lost_copy_takes_its_name_back(desk: Desk) -> None:
    """Redis lost it before it had replicated, and other bytes were staged since."""
    await promote(desk, WHEEL, SOURCE)
    await desk.ledger.load((SOURCE,), (), (), (SOURCE.upload_id,))
    await put_record(desk, OTHER_BYTES)
    await stage(desk.ledger, OTHER_BYTES)
    await reconcile_project(desk.documents, desk.ledger, DEMO)
    assert await staged(desk) == {WHEEL, SOURCE}
    assert await desk.ledger.marked_live() == {WHEEL.upload_id, SOURCE.upload_id}
    entry = ended(desk, OTHER_BYTES)
    assert entry is not None
    assert entry.gone.reason is Reason.REFUSED


# Withdrawals


async def test_what_is_live_is_not_withdrawn(desk: Desk) -> None:
    """The refusal says since when, and what to do; nothing of the try is left."""
    await promote(desk, WHEEL, SOURCE)
    held = dict(desk.documents.held)
    for filenames, what in (((), "demo==1.0"), ((WHEEL.filename,), WHEEL.filename)):
        with pytest.raises(StaysLive) as refused:
            await releases(desk).withdraw(ADMIN, DEMO, "1.0", filenames)
        assert str(refused.value) == (
            f"{what} is live upstream since 2027-01-15 08:00:00 UTC: yank or delete it there. It leaves the overlay by "
            "itself."
        )
    assert desk.documents.held == held
    assert await staged(desk) == {WHEEL, SOURCE}


async def test_the_rest_is_withdrawn(desk: Desk) -> None:
    """Of what somebody published by other means, it stays as of what was promoted."""
    desk.upstream.add(WHEEL)
    await desk.settling.notice()
    withdrawn = await releases(desk).withdraw(ADMIN, DEMO, "1.0")
    assert withdrawn == Withdrawn((Gone(SOURCE, Reason.WITHDRAWN, desk.now_us, ADMIN.label),), (WHEEL,))
    assert await staged(desk) == {WHEEL}
    assert ended(desk, WHEEL) is None
    assert record_of(desk, WHEEL).live_since_us == desk.now_us


@pytest.mark.parametrize("rebuilds", [False, True])
async def test_a_withdrawal_that_is_killed_ends_nothing_that_is_live(*, rebuilds: bool) -> None:
    """At any step; a reconcile or a rebuild takes the wrong history away."""
    for at in range(6):
        desk = Desk()
        await desk.ledger.load((), ())
        await desk.stage(WHEEL, SOURCE)
        desk.upstream.add(WHEEL)
        await desk.settling.notice()
        documents = FaultyDocuments(desk.documents, Steps(Fault(at, False, killed)))
        with contextlib.suppress(Killed):
            await releases(desk, documents).withdraw(ADMIN, DEMO, "1.0")
        if rebuilds:
            await desk.rebuild()
        else:
            await reconcile_project(desk.documents, desk.ledger, DEMO)
        assert WHEEL in await staged(desk)
        assert ended(desk, WHEEL) is None


async def test_what_ended_before_it_was_marked_gets_no_record_again(desk: Desk) -> None:
    """It was replaced while upstream was asked; as a live file it would win its name back from what replaced it."""
    await stage(desk.ledger, OTHER_BYTES)
    await put_history(desk, WHEEL, Reason.REPLACED)
    before = dict(desk.documents.held)
    await keep_live(desk.documents, desk.ledger, {WHEEL.upload_id: DEMO}, urls={}, at_us=desk.now_us)
    assert desk.documents.held == before


class StagedLate(MemoryLedger):
    """A ledger in which another worker stages what has just been ended in vain."""

    late: StagedFile

    async def forget(self, project: NormalizedName, uploads: Sequence[UploadId], gone: Ending) -> tuple[Gone, ...]:
        ended = await super().forget(project, uploads, gone)
        await stage(self, self.late)
        return ended


async def test_what_is_staged_just_after_its_end_ends_again() -> None:
    """An upload that a freeze refused ends itself while a reconcile stages its record: its bytes are being deleted."""
    ledger, documents = StagedLate(lambda: NOW_US), MemoryDocuments()
    await ledger.load((), ())
    ledger.late = WHEEL
    await end(documents, ledger, DEMO, [WHEEL], Ending(Reason.REFUSED, NOW_US, "ci"))
    assert set((await ledger.index()).files) == {WHEEL}
    await reconcile(documents, ledger)
    assert (await ledger.index()).files == ()
