"""Orders that come twice, late, or at once with a giving up; and what a killed process or a lost ledger left."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from overlay.domain.errors import StoreUnavailable
from overlay.domain.events import EventKind
from overlay.domain.layout import promotion_key, record_prefix
from overlay.domain.names import StageId
from overlay.domain.ports import BlobKey
from overlay.domain.promotion import FileState, Freeze, PromotionReceipt
from overlay.domain.promotion_errors import PromotionLost, PromotionRunning, StagedChanged
from overlay.domain.stage import StageIndex
from overlay.services.freezes import freeze_again
from overlay.storage.ledger_memory import MemoryLedger
from tests.desk import ADMIN, CI, PUSHING, RELEASE, SOURCE, WHEEL, Desk, other_bytes
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
from tests.staged import DEMO, staged_file

ANOTHER = staged_file(9, filename="demo-1.0-py2-none-any.whl", content="another wheel")
OTHER = staged_file(5, project="other", version="2.0", filename="other-2.0-py3-none-any.whl", content="other")
Meanwhile = Callable[[], Awaitable[object]]


class Interrupted(MemoryLedger):
    """Something else happens just before, or just after, a release is frozen; once each."""

    before: Meanwhile | None = None
    after: Meanwhile | None = None

    async def freeze(self, wanted: Freeze) -> Freeze:
        before, self.before = self.before, None
        if before is not None:
            await before()
        frozen = await super().freeze(wanted)
        after, self.after = self.after, None
        if after is not None:
            await after()
        return frozen


class InterruptedDocuments(MemoryDocuments):
    """Something else happens just before a document is put, for the first time after it is set."""

    meanwhile: Meanwhile | None = None

    async def put(self, key: str, body: bytes) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        await super().put(key, body)


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.ledger.load((), ())
    await made.stage(WHEEL, SOURCE)
    return made


async def interrupted(desk: Desk) -> Interrupted:
    """Give the desk a ledger that can be interrupted."""
    ledger = Interrupted(lambda: desk.now_us)
    await ledger.load((await desk.ledger.index()).files, ())
    desk.ledger, desk.promotions = ledger, desk.process(desk.documents, ledger)
    return ledger


# Orders that come twice


async def test_an_order_that_came_late_does_not_thaw_what_its_repetition_pushes(desk: Desk) -> None:
    """The client gave its first answer up and asked again; that run has begun when the first order finds a change."""
    ledger = await interrupted(desk)

    async def run() -> None:
        planned = await desk.plan(WHEEL, SOURCE, partial=True)
        assert planned.held is not None
        await desk.push(planned.held, planned.held.promotion.files[0])

    ledger.before, ledger.after = lambda: desk.stage(ANOTHER), run
    with pytest.raises(StagedChanged):
        await desk.plan(WHEEL, SOURCE, partial=True)
    (freeze,) = await desk.ledger.freezes()
    assert (freeze.durable, freeze.uploads) == (True, (WHEEL.upload_id, SOURCE.upload_id))


@pytest.mark.parametrize("has_plan", [False, True])
async def test_an_order_that_comes_twice_at_once_is_one_promotion(desk: Desk, *, has_plan: bool) -> None:
    """A connection broke, and the client asked again: it is not told that its own run is in its way."""
    ledger = await interrupted(desk)
    answers = []

    async def again() -> None:
        answers.append(await desk.held(WHEEL, SOURCE))
        if not has_plan:
            await desk.documents.delete(promotion_key(answers[0].promotion.id))

    ledger.before = again
    answers.append(await desk.held(WHEEL, SOURCE))
    first, second = answers
    assert second.freeze == first.freeze
    assert (second.promotion.id, second.promotion.files) == (first.promotion.id, first.promotion.files)
    assert desk.papers() == {promotion_key(first.promotion.id)}


async def test_of_two_runs_that_begin_at_once_the_second_waits(desk: Desk) -> None:
    """It is told that the other one runs, as if it had come a moment later."""
    ledger = await interrupted(desk)
    ledger.before = lambda: desk.held(WHEEL, SOURCE, run="b")
    with pytest.raises(PromotionRunning):
        await desk.plan(WHEEL, SOURCE, run="a")


# Giving up while a run begins to push


@pytest.mark.parametrize("begun", [False, True])
async def test_a_run_pushes_nothing_once_its_promotion_is_given_up(desk: Desk, *, begun: bool) -> None:
    """Given up between the ledger's leave and the journal's entry, which the receipt then cannot have."""
    desk.documents = documents = InterruptedDocuments()
    desk.promotions = desk.process(documents, desk.ledger)
    desk.settling = desk.settler(documents, desk.ledger)
    await desk.stage(WHEEL, SOURCE)
    held = await desk.held(WHEEL, SOURCE)
    name, receipts = held.promotion.id, list[PromotionReceipt]()
    if begun:
        await desk.promotions.journal(CI, name, WHEEL.upload_id, 1, PUSHING)

    async def give_up() -> None:
        receipts.append(await desk.promotions.abandon(ADMIN, name))

    documents.meanwhile = give_up
    with pytest.raises(PromotionLost):
        await desk.promotions.journal(CI, name, SOURCE.upload_id, 1, PUSHING)
    assert [entry.upload_id for entry in receipts[0].journal] == [WHEEL.upload_id] * begun
    await desk.settling.settle()
    assert (desk.papers(), await desk.ledger.freezes()) == (set(), ())


async def test_a_run_is_overtaken_before_the_journal_is_read(desk: Desk) -> None:
    """Whoever gives up reads all that was written; what would be written later is refused by its fence."""
    ledger = await interrupted(desk)
    held = await desk.held(WHEEL, SOURCE)
    name = held.promotion.id
    await desk.promotions.journal(CI, name, WHEEL.upload_id, 1, PUSHING)
    desk.upstream.down = True
    fences = list[int]()
    read = desk.documents.scan

    class Read(MemoryDocuments):
        async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
            fences.extend(freeze.fence for freeze in await ledger.freezes())
            async for found in read(prefix):
                yield found

    documents = Read()
    documents.held = desk.documents.held
    await desk.process(documents, ledger).abandon(ADMIN, name)
    assert fences[-1] == 2


# What a killed process or a lost ledger left


async def test_a_promotion_that_lost_its_freeze_is_taken_up_all_the_same(desk: Desk) -> None:
    """A second one would push a file again that may be on its way, and not know that it was tried."""
    first = await desk.held(WHEEL, SOURCE)
    await desk.promotions.journal(CI, first.promotion.id, WHEEL.upload_id, 1, PUSHING)
    await desk.ledger.load((WHEEL, SOURCE), ())
    second = await desk.held(WHEEL, SOURCE, run="b")
    assert (second.promotion.id, second.journal[WHEEL.upload_id].state) == (first.promotion.id, FileState.PUSHING)
    (freeze,) = await desk.ledger.freezes()
    assert (freeze.durable, freeze.fence) == (True, 2)


async def test_what_lost_its_freeze_and_was_never_begun_is_planned_anew(desk: Desk) -> None:
    """So is what has ended, of which a killed process left documents."""
    first = await desk.held(WHEEL, SOURCE)
    await desk.ledger.load((WHEEL, SOURCE), ())
    second = await desk.held(WHEEL, SOURCE, run="b")
    assert second.promotion.id != first.promotion.id
    await desk.push(second, second.promotion.files[0])
    left = {key: desk.documents.held[key] for key in desk.papers()}
    await desk.promotions.abandon(CI, second.promotion.id)
    desk.documents.held |= left
    third = await desk.held(WHEEL, SOURCE, run="c")
    assert third.promotion.id not in {first.promotion.id, second.promotion.id}
    told = [event.kind for event in (await desk.ledger.events(0)).events if event.promotion == second.promotion.id]
    assert told == [EventKind.PROMOTING, EventKind.ABANDONED]


class Unwritable(MemoryDocuments):
    """Takes no plan."""

    async def put(self, key: str, body: bytes) -> None:
        if key.endswith("plan.json"):
            raise StoreUnavailable("The test's store is down.")
        await super().put(key, body)


async def test_a_freeze_without_its_plan_that_has_other_files_is_not_used(desk: Desk) -> None:
    """What was live then has been deleted upstream since: it would be pushed, and is not frozen."""
    await desk.stage(OTHER)
    desk.upstream.add(OTHER)
    documents = Unwritable()
    documents.held = desk.documents.held
    desk.promotions = desk.process(documents, desk.ledger)
    with pytest.raises(StoreUnavailable):
        await desk.plan(WHEEL, SOURCE, OTHER)
    desk.upstream.listed[OTHER.project] = {}
    desk.promotions = desk.process(desk.documents, desk.ledger)
    with pytest.raises(StagedChanged, match=r"demo==1\.0, other==2\.0"):
        await desk.plan(WHEEL, SOURCE, OTHER)
    assert (await desk.ledger.freezes(), desk.papers()) == ((), set())
    held = await desk.held(WHEEL, SOURCE, OTHER)
    assert held.freeze is not None
    assert held.freeze.releases == (RELEASE, OTHER.release)


async def test_no_run_gets_the_fence_of_another(desk: Desk) -> None:
    """The ledger failed over to a replica that knew the first run only, and the third goes on as an older one."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    name, (old, *_) = held.promotion.id, await desk.ledger.freezes()
    await desk.promotions.end(CI, name, 1)
    await desk.held(WHEEL, SOURCE, run="b")
    await desk.promotions.end(CI, name, 2)
    third = await desk.held(WHEEL, SOURCE, run="c")
    assert third.freeze is not None
    await desk.ledger.load((WHEEL, SOURCE), (), [replace(old, until_us=0)])
    fourth = await desk.held(WHEEL, SOURCE, run="d")
    assert (third.freeze.fence, fourth.promotion.fence) == (3, 4)
    await desk.ledger.load((WHEEL, SOURCE), (), [replace(old, until_us=0)])
    await freeze_again(desk.documents, desk.ledger)
    assert [freeze.fence for freeze in await desk.ledger.freezes()] == [4]
    with pytest.raises(PromotionLost):
        await desk.promotions.renew(CI, name, 3)


# How long it takes


class Slow(MemoryDocuments):
    """Counts how many records are read at once, until the release is frozen."""

    def __init__(self, ledger: MemoryLedger) -> None:
        super().__init__()
        self.most = 0
        self.late: list[str] = []
        self._ledger = ledger
        self._now = 0

    async def get(self, key: str) -> bytes:
        if not key.startswith(record_prefix(DEMO)):
            return await super().get(key)
        if await self._ledger.freezes():
            self.late.append(key)
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        return await super().get(key)


class SlowBlobs(MemoryBlobs):
    """Counts how many blobs are read at once."""

    most = 0
    now = 0

    async def read(self, key: BlobKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        async for chunk in super().read(key, start, stop):
            yield chunk
        self.now -= 1


async def test_many_files_are_read_some_at_once_and_before_the_lease_begins() -> None:
    """A lease of ten seconds is not spent by reading two hundred files one after the other."""
    desk = Desk()
    await desk.ledger.load((), ())
    documents = desk.documents = Slow(desk.ledger)
    blobs = desk.blobs = SlowBlobs()
    desk.promotions = desk.process(documents, desk.ledger)
    wheels = [
        staged_file(number, filename=f"demo-1.0-{number}-py3-none-any.whl", content=str(number))
        for number in range(100, 140)
    ]
    await desk.stage(*wheels, OTHER)
    await desk.plan(*wheels, OTHER)
    assert (documents.most, blobs.most, documents.late) == (16, 16, [])


class Unindexed(MemoryLedger):
    """Never reads everything that is staged."""

    async def index(self) -> StageIndex:
        raise AssertionError


async def test_a_plan_reads_its_own_projects_only(desk: Desk) -> None:
    """Of these whatever is staged of its releases, in other stages, too."""
    beside, later = other_bytes(WHEEL, number=8, stage=StageId("flag-day")), staged_file(7, version="1.1")
    ledger = Unindexed(lambda: desk.now_us)
    await ledger.load((WHEEL, SOURCE), ())
    desk.ledger, desk.promotions = ledger, desk.process(desk.documents, ledger)
    await desk.stage(beside, replace(later, filename="demo-1.1-py3-none-any.whl"), OTHER)
    assert (await desk.held(WHEEL, SOURCE)).promotion.beside == (beside.upload_id,)
