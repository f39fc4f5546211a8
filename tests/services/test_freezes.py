"""What documents of promotions make of a rebuild, a reconcile and a withdrawal: their releases stay as they are."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from overlay.domain.errors import RecordCorrupt
from overlay.domain.layout import blob_key, history_key, promotion_key, receipt_key, record_key
from overlay.domain.ledger_port import Ending
from overlay.domain.names import MAIN, StageId, UploadId
from overlay.domain.promotion import (
    FileState,
    Freeze,
    JournalEntry,
    Outcome,
    PlannedFile,
    Promotion,
    PromotionId,
    PromotionReceipt,
)
from overlay.domain.promotion_errors import ReleaseFrozen
from overlay.domain.records import HistoryEntry, ReceiptDocument, Record, encode
from overlay.domain.stage import Gone, Reason, StagedFile
from overlay.services.promotion_papers import clear, put_entry, put_plan, read_plan
from overlay.services.rebuild import rebuild
from overlay.services.reconcile import end, reconcile_project
from overlay.services.sweep import sweep
from overlay.services.upkeep import reconcile
from overlay.storage.ledger_memory import MemoryLedger
from tests.desk import LEASE_S, Desk
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
from tests.staged import DEMO, GIVEN_UP, staged_file

NOW_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
FIRST, SECOND = PromotionId("1" * 32), PromotionId("2" * 32)
WHEEL = staged_file(1)
SOURCE = staged_file(2, filename="demo-1.0.tar.gz", content="source")
OTHER = staged_file(3, project="other", version="2.0", filename="other-2.0.tar.gz")
YOUNGER = {"serial": NOW_US, "staged_at_us": NOW_US}
WITHDRAWN = Ending(Reason.WITHDRAWN, NOW_US, "bob")


class Store:
    """Documents, and the ledgers that are made of them."""

    def __init__(self) -> None:
        self.documents = MemoryDocuments()

    async def record(self, *files: StagedFile) -> None:
        for file in files:
            body = encode(Record(file=file, form=(), attestations=None))
            await self.documents.put(record_key(file.project, file.upload_id), body)

    async def end(self, file: StagedFile, reason: Reason, *, live_url: str | None = None) -> str:
        entry = HistoryEntry(gone=Gone(file, reason, NOW_US, "bob"), live_url=live_url)
        key = history_key(file.project, file.upload_id)
        await self.documents.put(key, encode(entry))
        return key

    async def plan(
        self,
        *files: StagedFile,
        promotion: PromotionId = FIRST,
        at_us: int = NOW_US,
        beside: Sequence[StagedFile] = (),
    ) -> Promotion:
        made = plan_of(*files, promotion=promotion, at_us=at_us, beside=beside)
        await put_plan(self.documents, made)
        return made

    async def begin(self, plan: Promotion) -> None:
        """Write the journal of its first file."""
        upload = plan.files[0].upload_id
        entry = JournalEntry(upload_id=upload, state=FileState.PUSHING, at_us=NOW_US, fence=1)
        await put_entry(self.documents, plan.id, entry)

    async def rebuilt(self, *, lease_s: float = 60) -> MemoryLedger:
        ledger = MemoryLedger(lambda: NOW_US)
        await rebuild(self.documents, ledger, lambda: NOW_US, lease_s=lease_s)
        return ledger

    def recorded(self) -> set[str]:
        return {key for key in self.documents.held if key.startswith("records/")}

    def history(self) -> set[str]:
        return {key for key in self.documents.held if key.startswith("history/")}


@pytest.fixture
async def store() -> Store:
    made = Store()
    await made.record(WHEEL, SOURCE, OTHER)
    return made


def plan_of(
    *files: StagedFile, promotion: PromotionId = FIRST, at_us: int = NOW_US, beside: Sequence[StagedFile] = ()
) -> Promotion:
    planned = [
        PlannedFile(
            project=file.project,
            version=file.version,
            filename=file.filename,
            kind=file.kind,
            upload_id=file.upload_id,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
            wave=wave,
        )
        for wave, file in enumerate(files)
    ]
    return Promotion(
        id=promotion,
        stage=files[0].stage,
        target="https://upload.example/legacy/",
        files=tuple(planned),
        who="ci",
        token_id="t1",
        planned_at_us=at_us,
        holder="run",
        fence=3,
        beside=tuple(file.upload_id for file in beside),
    )


def again(file: StagedFile, number: int, **changes: object) -> StagedFile:
    """A later upload of the name, with other bytes."""
    other = staged_file(number, project=file.project, version=file.version, filename=file.filename, content="again")
    return replace(other, **{**YOUNGER, **changes})  # type: ignore[arg-type]


async def uploads(ledger: MemoryLedger) -> set[UploadId]:
    return {file.upload_id for file in (await ledger.index()).files}


def ids(*files: StagedFile) -> set[UploadId]:
    return {file.upload_id for file in files}


# A rebuild


@pytest.mark.parametrize("begun", [True, False])
async def test_a_rebuild_freezes_again(store: Store, *, begun: bool) -> None:
    """For good once something may have been pushed, else for a lease: the run that has it may go on, and knows it."""
    plan = await store.plan(WHEEL, OTHER, beside=(SOURCE,))
    if begun:
        await store.begin(plan)
    ledger = await store.rebuilt(lease_s=30)
    expected = Freeze(
        promotion=FIRST,
        stage=MAIN,
        releases=plan.releases,
        uploads=(WHEEL.upload_id, OTHER.upload_id),
        who="ci",
        since_us=NOW_US,
        holder="run",
        fence=3,
        until_us=NOW_US + 30 * SECOND_US,
        durable=begun,
    )
    assert await ledger.freezes() == (expected,)
    assert await uploads(ledger) == ids(WHEEL, SOURCE, OTHER)
    renewed = await ledger.renew(FIRST, fence=3, until_us=NOW_US + 90 * SECOND_US)
    assert renewed == replace(expected, until_us=NOW_US + 90 * SECOND_US)


async def test_what_is_promoted_wins_its_name_over_any_serial(store: Store) -> None:
    """The other one waits: neither staged nor in the history; after the end it is staged, as it would have been."""
    await store.begin(await store.plan(WHEEL, beside=(SOURCE,)))
    later, earlier = again(WHEEL, 8), again(WHEEL, 9, serial=0, staged_at_us=1)
    await store.record(later, earlier)
    before = store.recorded()
    await store.rebuilt()
    ledger = await store.rebuilt()
    for _ in range(2):
        assert await uploads(ledger) == ids(WHEEL, SOURCE, OTHER)
        await reconcile(store.documents, ledger)
        assert (store.recorded(), store.history()) == (before, set())
    await clear(store.documents, ledger, FIRST, GIVEN_UP)
    await reconcile(store.documents, ledger)
    assert await uploads(ledger) == ids(later, SOURCE, OTHER)
    assert store.history() == {history_key(DEMO, file.upload_id) for file in (WHEEL, earlier)}


async def test_a_release_is_found_as_it_was_frozen(store: Store) -> None:
    """With what is not promoted of it, in every stage; other names and other bytes wait, whatever their time."""
    elsewhere = replace(again(WHEEL, 7), stage=StageId("flag-day"))
    changed, new = again(SOURCE, 8), replace(again(WHEEL, 9, staged_at_us=1), filename="demo-1.0-cp311-none-any.whl")
    await store.record(elsewhere, changed, new)
    await store.begin(await store.plan(WHEEL, beside=(SOURCE, elsewhere)))
    ledger = await store.rebuilt()
    for _ in range(2):
        assert await uploads(ledger) == ids(WHEEL, SOURCE, OTHER, elsewhere)
        assert store.history() == set()
        await reconcile(store.documents, ledger)
    await clear(store.documents, ledger, FIRST, GIVEN_UP)
    await reconcile(store.documents, ledger)
    assert await uploads(ledger) == ids(WHEEL, changed, OTHER, elsewhere, new)


async def test_before_the_first_push_nothing_waits(store: Store) -> None:
    """The freeze may have lapsed, so it may have been answered; a plan that is not staged any more is over."""
    new = replace(again(WHEEL, 9), filename="demo-1.0-cp311-none-any.whl")
    await store.record(new)
    plan = await store.plan(WHEEL, SOURCE)
    ledger = await store.rebuilt()
    assert await uploads(ledger) == ids(WHEEL, SOURCE, OTHER, new)
    assert await ledger.freezes() == (plan.freeze(until_us=NOW_US + 60 * SECOND_US, durable=False),)
    later = again(WHEEL, 8)
    await store.record(later)
    ledger = await store.rebuilt()
    assert await uploads(ledger) == ids(later, SOURCE, OTHER, new)
    assert await ledger.freezes() == ()
    assert store.history() == {history_key(DEMO, WHEEL.upload_id)}


async def test_other_releases_are_found_as_ever(store: Store) -> None:
    """Their greatest serial wins, and the others enter the history."""
    await store.begin(await store.plan(WHEEL, beside=(SOURCE,)))
    later = again(OTHER, 8)
    await store.record(later)
    assert await uploads(await store.rebuilt()) == ids(WHEEL, SOURCE, later)
    assert store.history() == {history_key(OTHER.project, OTHER.upload_id)}


async def test_a_promotion_that_ended_freezes_nothing(store: Store) -> None:
    """Its receipt says so, whatever a killed process left beside it."""
    plan = await store.plan(WHEEL)
    await store.begin(plan)
    receipt = PromotionReceipt(promotion=plan, outcome=Outcome.LIVE, ended_at_us=1, ended_by="ci", journal=())
    await store.documents.put(receipt_key(FIRST), encode(ReceiptDocument(receipt=receipt)))
    later = again(WHEEL, 8)
    await store.record(later)
    ledger = await store.rebuilt()
    assert await ledger.freezes() == ()
    assert await uploads(ledger) == ids(later, SOURCE, OTHER)


async def test_a_journal_without_a_plan_freezes_nothing(store: Store) -> None:
    """A late write of a run that was overtaken by the end."""
    await store.begin(plan_of(WHEEL))
    assert await (await store.rebuilt()).freezes() == ()


async def test_of_one_release_the_promotion_that_may_have_pushed_counts(store: Store) -> None:
    """Others of it lapsed before that was planned; of several that lapsed the latest counts."""
    await store.plan(WHEEL, at_us=NOW_US - 2, beside=(SOURCE,))
    await store.plan(SOURCE, promotion=SECOND, at_us=NOW_US - 1)
    assert [freeze.promotion for freeze in await (await store.rebuilt()).freezes()] == [SECOND]
    await store.begin(plan_of(WHEEL))
    (freeze,) = await (await store.rebuilt()).freezes()
    assert (freeze.promotion, freeze.durable) == (FIRST, True)


async def test_a_withdrawal_that_was_refused_kills_nothing(store: Store) -> None:
    """Killed between the history and the ledger's refusal: what may have been pushed stays, and the history goes."""
    await store.begin(await store.plan(WHEEL, SOURCE))
    await store.end(SOURCE, Reason.WITHDRAWN)
    assert await uploads(await store.rebuilt()) == ids(WHEEL, SOURCE, OTHER)
    assert store.history() == set()


async def test_a_withdrawal_before_the_first_push_ends_the_plan(store: Store) -> None:
    """The freeze may have lapsed before, so it may have been answered; nothing was pushed."""
    await store.plan(WHEEL, SOURCE)
    key = await store.end(SOURCE, Reason.WITHDRAWN)
    ledger = await store.rebuilt()
    assert await uploads(ledger) == ids(WHEEL, OTHER)
    assert await ledger.freezes() == ()
    assert store.history() == {key}


async def test_what_ended_because_it_is_live_stays_ended(store: Store) -> None:
    """The rest of its promotion goes on, and its name is not given to anybody meanwhile."""
    plan = await store.plan(WHEEL, SOURCE)
    await store.begin(plan)
    key = await store.end(WHEEL, Reason.LIVE)
    await store.record(again(WHEEL, 8, staged_at_us=1))
    ledger = await store.rebuilt()
    assert await uploads(ledger) == ids(SOURCE, OTHER)
    assert await ledger.freezes() == (plan.freeze(until_us=NOW_US + 60 * SECOND_US, durable=True),)
    assert store.history() == {key}


async def test_a_refused_withdrawal_may_be_taken_back_while_the_documents_are_read(store: Store) -> None:
    """What was listed in the history is not there any more."""

    class Late(MemoryDocuments):
        async def keys(self, prefix: str) -> AsyncIterator[str]:
            async for key in super().keys(prefix):
                yield key
            if history_key(DEMO, SOURCE.upload_id).startswith(prefix):
                yield history_key(DEMO, SOURCE.upload_id)

    plan, late = await store.plan(WHEEL, SOURCE), Late()
    await store.begin(plan)
    late.held, store.documents = store.documents.held, late
    ledger = await store.rebuilt()
    assert await uploads(ledger) == ids(WHEEL, SOURCE, OTHER)
    assert await ledger.freezes() == (plan.freeze(until_us=NOW_US + 60 * SECOND_US, durable=True),)


async def test_an_ended_upload_without_its_record_is_not_revived(store: Store) -> None:
    """Its withdrawal went through: a record is deleted last."""
    await store.begin(await store.plan(WHEEL, SOURCE))
    key = await store.end(SOURCE, Reason.WITHDRAWN)
    await store.documents.delete(record_key(DEMO, SOURCE.upload_id))
    assert await uploads(await store.rebuilt()) == ids(WHEEL, OTHER)
    assert store.history() == {key}


async def test_a_plan_that_cannot_be_read_is_not_passed_over(store: Store) -> None:
    """Nothing is guessed: the release might be half live."""
    await store.documents.put(promotion_key(FIRST), b"{")
    with pytest.raises(RecordCorrupt, match=promotion_key(FIRST)):
        await store.rebuilt()


async def test_of_two_promotions_that_may_have_pushed_the_later_one_counts(store: Store) -> None:
    """There are never two, unless a Redis forgot the first freeze before anybody else learned of it."""
    await store.begin(await store.plan(WHEEL, beside=(SOURCE,)))
    late = await store.plan(SOURCE, promotion=SECOND, at_us=NOW_US + 1)
    await store.begin(late)
    ledger = await store.rebuilt()
    assert [freeze.promotion for freeze in await ledger.freezes()] == [SECOND]
    assert await uploads(ledger) == ids(SOURCE, OTHER)


# A reconcile


async def test_a_reconcile_freezes_again_what_the_ledger_lost(store: Store) -> None:
    """As after the loss of a Redis that had not replicated; also where only that it is for good was lost."""
    plan = await store.plan(WHEEL, SOURCE)
    durable = plan.freeze(until_us=NOW_US + 5, durable=True)
    leased, ended = replace(durable, durable=False), replace(durable, until_us=0)
    # While nothing can have been pushed nothing is restored: the run is told that it lost its lease.
    for begun, known, expected in (
        *((False, known, known) for known in ((), (leased,), (durable,))),
        *((True, known, (durable,) if known else (ended,)) for known in ((), (leased,), (durable,))),
    ):
        if begun:
            await store.begin(plan)
        ledger = MemoryLedger(lambda: NOW_US)
        await ledger.load((WHEEL, SOURCE, OTHER), (), known)
        await reconcile(store.documents, ledger)
        assert await ledger.freezes() == expected


async def test_a_reconcile_takes_no_promotion_over(store: Store) -> None:
    """The plan of the next run may not be written yet: who has the lease is the ledger's to say."""
    plan = await store.plan(WHEEL)
    await store.begin(plan)
    for durable, until_us in ((True, 0), (False, NOW_US + 5)):
        held = replace(plan.freeze(until_us=until_us, durable=durable), holder="the next run", fence=4)
        ledger = MemoryLedger(lambda: NOW_US)
        await ledger.load((WHEEL, SOURCE, OTHER), (), (held,))
        await reconcile(store.documents, ledger)
        assert await ledger.freezes() == (held,)


async def test_what_the_ledger_lost_of_a_release_is_staged_before_it_is_frozen_again(store: Store) -> None:
    """Both were lost together; another promotion that was planned since is not disturbed."""
    plan = await store.plan(WHEEL)
    await store.begin(plan)
    ledger = MemoryLedger(lambda: NOW_US)
    await ledger.load((OTHER,), ())
    await reconcile(store.documents, ledger)
    assert await uploads(ledger) == ids(WHEEL, SOURCE, OTHER)
    assert [freeze.promotion for freeze in await ledger.freezes()] == [FIRST]
    await ledger.thaw(FIRST, GIVEN_UP)
    since = plan_of(WHEEL, promotion=SECOND, at_us=NOW_US).freeze(until_us=NOW_US + 5, durable=False)
    await ledger.freeze(since)
    await reconcile(store.documents, ledger)
    assert await ledger.freezes() == (since,)


@pytest.mark.parametrize("durable", [True, False])
async def test_a_reconcile_leaves_what_is_promoted(store: Store, *, durable: bool) -> None:
    """A history that a refused withdrawal left goes when nothing can have come of it, else it waits for the end."""
    ledger = await store.rebuilt()
    plan = await store.plan(WHEEL)
    await ledger.freeze(plan.freeze(until_us=NOW_US + 5, durable=durable))
    key = await store.end(WHEEL, Reason.WITHDRAWN)
    await reconcile_project(store.documents, ledger, DEMO)
    assert await uploads(ledger) == ids(WHEEL, SOURCE, OTHER)
    assert store.history() == (set() if durable else {key})
    await clear(store.documents, ledger, FIRST, GIVEN_UP)
    await reconcile_project(store.documents, ledger, DEMO)
    assert await uploads(ledger) == (ids(WHEEL, SOURCE, OTHER) if durable else ids(SOURCE, OTHER))


async def test_a_reconcile_ends_what_is_live(store: Store) -> None:
    """Also while it is promoted; where it is live stays written down."""
    ledger = await store.rebuilt()
    plan = await store.plan(WHEEL, SOURCE)
    await ledger.freeze(plan.freeze(until_us=NOW_US + 5, durable=True))
    key = await store.end(WHEEL, Reason.LIVE, live_url="https://files.example/demo")
    written = store.documents.held[key]
    for _ in range(2):
        await reconcile_project(store.documents, ledger, DEMO)
        assert await uploads(ledger) == ids(SOURCE, OTHER)
        assert store.documents.held[key] == written
    assert record_key(DEMO, WHEEL.upload_id) not in store.documents.held


# Plans


async def test_a_plan_says_what_else_was_staged_when_it_was_frozen() -> None:
    """In every stage; a run that takes it up later changes nothing of that."""
    desk, elsewhere = Desk(), replace(again(WHEEL, 7), stage=StageId("flag-day"))
    await desk.ledger.load((), ())
    await desk.stage(WHEEL, SOURCE, OTHER, elsewhere)
    for run in "ab":
        held = (await desk.plan(WHEEL, partial=True, run=run)).held
        assert held is not None
        assert set(held.promotion.beside) == ids(SOURCE, elsewhere)
        assert await read_plan(desk.documents, held.promotion.id) == held.promotion
        await desk.push(held, held.promotion.files[0])
        desk.upstream.listed.clear()
        desk.pass_s(LEASE_S)


# Endings


async def test_a_refused_ending_leaves_no_trace(store: Store) -> None:
    """The freeze came after whoever withdraws had looked."""
    ledger = await store.rebuilt()
    await ledger.freeze(plan_of(WHEEL).freeze(until_us=NOW_US + 5, durable=False))
    held = dict(store.documents.held)
    with pytest.raises(ReleaseFrozen):
        await end(store.documents, ledger, DEMO, [SOURCE, WHEEL], WITHDRAWN)
    assert store.documents.held == held
    assert await uploads(ledger) == ids(WHEEL, SOURCE, OTHER)


async def test_bytes_of_a_plan_are_never_swept(store: Store) -> None:
    """Whatever became of its uploads: ended, without a record, or with a history that is taken away again."""
    blobs, later_s = MemoryBlobs(), NOW_US / SECOND_US + 1
    lost = staged_file(4, filename="demo-1.0.zip")
    for file in (WHEEL, SOURCE, OTHER):
        await store.end(file, Reason.WITHDRAWN)
    for file in (WHEEL, SOURCE, OTHER, lost):
        blobs.held[blob_key(file.upload_id, file.filename)] = b"bytes"
    await store.documents.delete(record_key(DEMO, SOURCE.upload_id))
    await store.plan(WHEEL, SOURCE, lost)
    await sweep(blobs, store.documents, ended_before_s=later_s, orphaned_before_s=later_s)
    assert set(blobs.held) == {blob_key(file.upload_id, file.filename) for file in (WHEEL, SOURCE, lost)}
    assert store.recorded() == {record_key(DEMO, WHEEL.upload_id)}
    await clear(store.documents, await store.rebuilt(), FIRST, GIVEN_UP)
    await sweep(blobs, store.documents, ended_before_s=later_s, orphaned_before_s=later_s)
    assert not blobs.held
