"""Upkeep sees what the ledger needs, does it once for all workers, and heals what documents and ledger disagree on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import FileExists, LedgerRebuilt, LedgerUnavailable
from overlay.domain.layout import HISTORY, RECORDS, TOKENS, history_key, record_key, token_key, upload_of_document
from overlay.domain.ledger_port import Ending, Lead, LedgerState
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.promotion import Freeze
from overlay.domain.records import HistoryEntry, Record, TokenDocument, decode, encode
from overlay.domain.rights import Token
from overlay.domain.stage import Entry, Gone, Reason, Staged, StagedFile
from overlay.services.rebuild import rebuild
from overlay.services.reconcile import reconcile_project
from overlay.services.upkeep import Duty, Reconciled, Upkeep, disagreeing, duty, reconcile
from overlay.storage.ledger_memory import MemoryLedger
from tests.fakes.documents import MemoryDocuments
from tests.ledgers import entry, stage
from tests.staged import DEMO, GIVEN_UP, freeze_of, staged_file, token, upload_of

NOW_US = 1_700_000_000_000_000
RECONCILE_S = 60
HOUR_US = 3600 * 1_000_000
OTHER = NormalizedName("other")


class Waits:
    """Waits as often as allowed, without time; then cancels whoever waits."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def __call__(self, seconds: float) -> None:
        assert seconds > 0
        self.left -= 1
        if self.left < 0:
            raise asyncio.CancelledError


class World:
    """Documents, a ledger, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now_us = NOW_US
        self.documents = MemoryDocuments()
        self.ledger = MemoryLedger(lambda: self.now_us)

    def worker(self, times: int = 0) -> Upkeep:
        return Upkeep(
            self.documents, self.ledger, reconcile_s=RECONCILE_S, now_us=lambda: self.now_us, wait=Waits(times)
        )

    def record(self, file: StagedFile, *, may_replace: bool = True) -> None:
        body = encode(Record(file=file, form=(), attestations=None, replace=may_replace))
        self.documents.held[record_key(file.project, file.upload_id)] = body

    def reasons(self) -> dict[UploadId, Reason]:
        """Say how those ended that the history has."""
        bodies = {key: body for key, body in self.documents.held.items() if key.startswith(HISTORY)}
        return {upload_of_document(key): decode(key, bodies[key], HistoryEntry).gone.reason for key in bodies}

    def recorded(self) -> dict[UploadId, bool]:
        """Say of each record whether it may take its name from another one."""
        bodies = {key: body for key, body in self.documents.held.items() if key.startswith(RECORDS)}
        return {upload_of_document(key): decode(key, bodies[key], Record).replace for key in bodies}

    def end(self, file: StagedFile, reason: Reason = Reason.WITHDRAWN, *, live_url: str | None = None) -> None:
        entry = HistoryEntry(gone=Gone(file, reason, NOW_US, "bob"), live_url=live_url)
        self.documents.held[history_key(file.project, file.upload_id)] = encode(entry)

    def keep(self, one: Token) -> None:
        self.documents.held[token_key(one.id)] = encode(TokenDocument(token=one))


@pytest.fixture
async def world() -> World:
    made = World()
    await made.ledger.load((), ())
    async with made.ledger.lead() as lead:
        await lead.reconciled((await made.ledger.state()).server, made.now_us)
    return made


def state(*, epoch: str = "e", server: str = "a", reconciled_server: str = "a", age_us: int = 0) -> LedgerState:
    return LedgerState(
        epoch=epoch, server=server, reconciled_server=reconciled_server, reconciled_at_us=NOW_US - age_us
    )


@pytest.mark.parametrize(
    ("seen", "needed"),
    [
        (state(), Duty.NOTHING),
        (state(epoch=""), Duty.REBUILD),
        (state(epoch="", server="b", age_us=HOUR_US), Duty.REBUILD),
        (state(server="b"), Duty.RECONCILE),
        (state(age_us=RECONCILE_S * 1_000_000 - 1), Duty.NOTHING),
        (state(age_us=RECONCILE_S * 1_000_000), Duty.RECONCILE),
        (state(server="", reconciled_server=""), Duty.NOTHING),
        (state(age_us=-1), Duty.RECONCILE),
    ],
)
def test_the_state_says_what_is_needed(seen: LedgerState, needed: Duty) -> None:
    """Nothing else is looked at."""
    assert duty(seen, now_us=NOW_US, reconcile_s=RECONCILE_S) is needed


@given(recorded=st.sets(st.integers(0, 9)), ended=st.sets(st.integers(0, 9)), staged=st.sets(st.integers(0, 9)))
def test_a_project_is_looked_at_unless_its_lists_agree(recorded: set[int], ended: set[int], staged: set[int]) -> None:
    """They agree when what is recorded is staged and what ended is neither; each upload is a project here."""
    project_of = {UploadId(str(number)): NormalizedName(f"p{number}") for number in range(10)}
    found = disagreeing(
        {UploadId(str(number)): project_of[UploadId(str(number))] for number in recorded},
        [UploadId(str(number)) for number in ended],
        {UploadId(str(number)): project_of[UploadId(str(number))] for number in staged},
    )
    assert found == tuple(f"p{number}" for number in sorted((recorded - staged) | ((recorded | staged) & ended)))


async def test_a_record_that_the_ledger_lost_is_staged(world: World) -> None:
    """What a replica did not have comes back, as it was."""
    world.record(staged_file())
    assert await reconcile(world.documents, world.ledger) == Reconciled(projects=1, tokens=0)
    assert (await world.ledger.index()).files == (staged_file(),)
    assert await reconcile(world.documents, world.ledger) == Reconciled(projects=0, tokens=0)


async def test_an_ending_that_the_ledger_lost_is_repeated(world: World) -> None:
    """A withdrawn file does not stay on the page; its reason and who ended it are those of the history."""
    file = staged_file()
    world.record(file)
    await stage(world.ledger, file)
    world.end(file)
    await reconcile(world.documents, world.ledger)
    assert (await world.ledger.index()).files == ()
    assert await entry(world.ledger, file.upload_id) == Gone(file, Reason.WITHDRAWN, NOW_US, "bob")


async def test_an_ending_holds_although_its_record_is_gone(world: World) -> None:
    """A rebuild may read a record that is deleted before the ledger is ready: the history is what counts."""
    file, kept = staged_file(1), staged_file(2, filename="demo-2.0.tar.gz")
    world.record(kept)
    await stage(world.ledger, file)
    await stage(world.ledger, kept)
    world.end(file)
    await reconcile(world.documents, world.ledger)
    assert (await world.ledger.index()).files == (kept,)


async def test_projects_that_agree_are_not_touched(world: World) -> None:
    """One look at the lists is all that a reconcile costs them."""
    one, other = staged_file(1), staged_file(2, project="other", filename="other-1.0.tar.gz")
    for file in (one, other):
        world.record(file)
    await stage(world.ledger, one)
    assert (await reconcile(world.documents, world.ledger)).projects == 1
    assert {file.project for file in (await world.ledger.index()).files} == {DEMO, OTHER}


class RebuiltMeanwhile(MemoryLedger):
    """A ledger that is lost and rebuilt while a record is about to be staged; the rebuild found that it had ended."""

    def __init__(self, world: World, file: StagedFile) -> None:
        super().__init__(lambda: NOW_US)
        self._world = world
        self._file = file

    async def stage(self, file: StagedFile, *, replace: bool, epoch: str) -> Staged:
        self._world.end(self._file)
        await self.load((), ())
        return await super().stage(file, replace=replace, epoch=epoch)


async def test_a_reconcile_stages_nothing_into_a_ledger_rebuilt_since(world: World) -> None:
    """The history that it read is older than what the rebuild did; the next reconcile reads it again."""
    file = staged_file()
    world.record(file)
    ledger = RebuiltMeanwhile(world, file)
    await ledger.load((), ())
    with pytest.raises(LedgerRebuilt):
        await reconcile(world.documents, ledger)
    await reconcile(world.documents, ledger)
    assert (await ledger.index()).files == ()


async def test_an_add_only_upload_that_met_other_bytes_is_settled(world: World) -> None:
    """Nobody learned that it was refused. It never returns: not when the name is free, and not by a rebuild."""
    held, late = staged_file(1), staged_file(2, content="late")
    world.record(held)
    world.record(late, may_replace=False)
    await stage(world.ledger, held)
    assert (await reconcile(world.documents, world.ledger)).projects == 1
    assert world.reasons() == {late.upload_id: Reason.REFUSED}
    assert set(world.recorded()) == {held.upload_id}
    await world.ledger.forget(DEMO, [held.upload_id], Ending(Reason.WITHDRAWN, NOW_US, "bob"))
    world.end(held)
    assert await reconcile(world.documents, world.ledger) == Reconciled(projects=1, tokens=0)
    assert (await world.ledger.index()).files == ()
    await rebuild(world.documents, world.ledger, lambda: NOW_US)
    assert (await world.ledger.index()).files == ()


async def test_a_refusal_that_nobody_learned_is_settled(world: World) -> None:
    """The ledger had refused it; whoever sent it was killed before it wrote that down, and the holder is gone since."""
    held, late = staged_file(1), staged_file(2, content="late")
    world.record(late, may_replace=False)
    await stage(world.ledger, held)
    with pytest.raises(FileExists):
        await stage(world.ledger, late, replace=False)
    await world.ledger.forget(DEMO, [held.upload_id], Ending(Reason.WITHDRAWN, NOW_US, "bob"))
    await reconcile(world.documents, world.ledger)
    assert (await world.ledger.index()).files == ()
    assert world.reasons() == {late.upload_id: Reason.REFUSED}
    assert world.recorded() == {}


async def test_an_add_only_upload_that_is_staged_late_holds_its_name(world: World) -> None:
    """Readers see it from now on; a rebuild gives its name to no other upload that may only add."""
    lost, other = staged_file(1), staged_file(2, content="other", serial=9)
    world.record(lost, may_replace=False)
    await reconcile(world.documents, world.ledger)
    assert world.recorded() == {lost.upload_id: True}
    world.record(other, may_replace=False)
    await rebuild(world.documents, world.ledger, lambda: NOW_US)
    assert (await world.ledger.index()).files == (lost,)


async def test_what_a_promotion_keeps_out_waits_for_the_thaw(world: World) -> None:
    """It was not the name's holder that refused it; after the thaw it is decided on as if it came then."""
    held, late, new = staged_file(1), staged_file(2, content="late"), staged_file(3, filename="demo-1.0.tar.gz")
    world.record(held)
    for waiting in (late, new):
        world.record(waiting, may_replace=False)
    await stage(world.ledger, held)
    freeze = freeze_of(held, since_us=NOW_US, until_us=NOW_US + HOUR_US)
    await world.ledger.freeze(freeze)
    for _ in range(2):
        await reconcile(world.documents, world.ledger)
        assert (world.reasons(), len(world.recorded())) == ({}, 3)
    await world.ledger.thaw(freeze.promotion, GIVEN_UP)
    await reconcile(world.documents, world.ledger)
    assert set((await world.ledger.index()).files) == {held, new}
    assert world.reasons() == {late.upload_id: Reason.REFUSED}


class Counting(MemoryLedger):
    """A ledger that counts how many uploads each look-up asked for."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW_US)
        self.asked: list[int] = []

    async def entries(self, project: NormalizedName, uploads: Sequence[UploadId]) -> tuple[Entry, ...]:
        self.asked.append(len(uploads))
        return await super().entries(project, uploads)


async def test_the_ledger_is_asked_for_many_uploads_at_once(world: World) -> None:
    """Once for a project, however many records it has; and all of them are looked at."""
    ledger = Counting()
    await ledger.load((), ())
    files = [staged_file(number, filename=f"demo-{number}.tar.gz") for number in range(1, 251)]
    for file in files:
        world.record(file)
    await reconcile_project(world.documents, ledger, DEMO)
    assert set((await ledger.index()).files) == set(files)
    assert ledger.asked == [250]


class TakenAway(MemoryLedger):
    """A ledger that is asked while a withdrawal, which a promotion refused, takes its history away again."""

    def __init__(self, world: World, file: StagedFile) -> None:
        super().__init__(lambda: NOW_US)
        self._world = world
        self._file = file

    async def entries(self, project: NormalizedName, uploads: Sequence[UploadId]) -> tuple[Entry, ...]:
        self._world.documents.held.pop(history_key(self._file.project, self._file.upload_id), None)
        return await super().entries(project, uploads)


async def test_a_history_that_is_taken_away_meanwhile_ends_nothing(world: World) -> None:
    """Nor does it end the reconcile."""
    file = staged_file()
    world.record(file)
    world.end(file)
    ledger = TakenAway(world, file)
    await ledger.load((file,), ())
    await reconcile(world.documents, ledger)
    assert (await ledger.index()).files == (file,)


class LiveMeanwhile(MemoryLedger):
    """A ledger in which an upload is staged, and ends because it is live, right after it was looked up."""

    def __init__(self, world: World, file: StagedFile) -> None:
        super().__init__(lambda: NOW_US)
        self._world = world
        self._file = file

    async def entries(self, project: NormalizedName, uploads: Sequence[UploadId]) -> tuple[Entry, ...]:
        found = await super().entries(project, uploads)
        await stage(self, self._file)
        self._world.end(self._file, Reason.LIVE, live_url="https://upstream.example/demo.whl")
        await self.forget(project, uploads, Ending(Reason.LIVE, NOW_US, "bob"))
        return found


async def test_a_history_that_is_there_is_left_as_it_is(world: World) -> None:
    """Of what is live it says where that is, which the ledger does not know."""
    file = staged_file()
    world.record(file)
    ledger = LiveMeanwhile(world, file)
    await ledger.load((), ())
    await reconcile_project(world.documents, ledger, DEMO)
    body = world.documents.held[history_key(DEMO, file.upload_id)]
    assert decode("", body, HistoryEntry).live_url == "https://upstream.example/demo.whl"
    assert world.recorded() == {}


async def test_tokens_follow_their_documents(world: World) -> None:
    """A lost token comes back; one whose revocation was lost goes, once more."""
    lost, revoked, kept = token(label="lost"), token(label="revoked"), token(label="kept")
    world.keep(lost)
    world.keep(kept)
    await world.ledger.put_token(revoked)
    await world.ledger.put_token(kept)
    assert await reconcile(world.documents, world.ledger) == Reconciled(projects=0, tokens=2)
    assert {one.label for one in await world.ledger.tokens()} == {"lost", "kept"}


class RevokedMeanwhile(MemoryLedger):
    """A ledger before whose `put_token` another worker revokes the token, from its first step to its last."""

    def __init__(self, documents: MemoryDocuments) -> None:
        super().__init__(lambda: NOW_US)
        self._documents = documents

    async def put_token(self, token: Token) -> None:
        await self._documents.delete(token_key(token.id))
        await self.drop_token(token.id)
        await super().put_token(token)


async def test_a_revocation_during_a_reconcile_holds(world: World) -> None:
    """The document is looked at again after the token was put."""
    world.keep(token())
    ledger = RevokedMeanwhile(world.documents)
    await ledger.load((), ())
    await reconcile(world.documents, ledger)
    assert await ledger.tokens() == ()


async def test_workers_share_one_rebuild() -> None:
    """All see that the ledger is not ready; one reads the documents."""
    world = World()
    world.record(staged_file())
    done = await asyncio.gather(*(world.worker().look() for _ in range(5)))
    assert done.count(Duty.REBUILD) == 1
    assert (await world.ledger.index()).files == (staged_file(),)


class WrittenMeanwhile(MemoryDocuments):
    """Documents in which one upload ends, and another is recorded, right after a rebuild read them."""

    def __init__(self, world: World, ended: StagedFile, recorded: StagedFile) -> None:
        super().__init__()
        self._world = world
        self._ended = ended
        self._recorded = recorded

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        async for found in super().scan(prefix):
            yield found
        if prefix == TOKENS:
            self._world.end(self._ended)
            self._world.record(self._recorded)


async def test_what_went_on_during_a_rebuild_is_settled_at_the_next_look() -> None:
    """Neither could tell the ledger: it was not ready. Nobody waits until a reconcile is due by time."""
    world = World()
    ended, recorded = staged_file(1), staged_file(2, filename="demo-2.0.tar.gz")
    world.documents = WrittenMeanwhile(world, ended, recorded)
    world.record(ended)
    assert await world.worker().look() is Duty.REBUILD
    assert await world.worker().look() is Duty.RECONCILE
    assert (await world.ledger.index()).files == (recorded,)
    assert await world.worker().look() is Duty.NOTHING


class AnswerLost(MemoryLedger):
    """A ledger that loses the answer to a load; nobody but who waits for it can tell."""

    async def load(
        self,
        files: Sequence[StagedFile],
        tokens: Sequence[Token],
        freezes: Sequence[Freeze] = (),
        live: Sequence[UploadId] = (),
    ) -> None:
        await super().load(files, tokens, freezes, live)
        raise LedgerUnavailable("The ledger did not answer (a fault of the test).")


async def test_a_lost_answer_to_a_load_costs_no_reconcile() -> None:
    """The ledger is ready, and says itself that it has to be reconciled."""
    world = World()
    ended, recorded = staged_file(1), staged_file(2, filename="demo-2.0.tar.gz")
    world.documents, world.ledger = WrittenMeanwhile(world, ended, recorded), AnswerLost(lambda: world.now_us)
    world.record(ended)
    worker = world.worker()
    assert [await worker.look() for _ in range(3)] == [Duty.NOTHING, Duty.RECONCILE, Duty.NOTHING]
    assert (await world.ledger.index()).files == (recorded,)


async def test_workers_share_one_reconcile(world: World) -> None:
    """When it is due one does it, and the next is due a whole period later."""
    world.now_us += RECONCILE_S * 1_000_000
    done = await asyncio.gather(*(world.worker().look() for _ in range(5)))
    assert sorted(one.name for one in done) == ["NOTHING"] * 4 + ["RECONCILE"]
    assert await world.worker().look() is Duty.NOTHING
    world.now_us += RECONCILE_S * 1_000_000
    assert await world.worker().look() is Duty.RECONCILE


class AnotherWasFaster(MemoryLedger):
    """A ledger that another worker mends between a worker's look at it and its taking of the lead."""

    other: Upkeep | None = None

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[Lead]:
        other, self.other = self.other, None
        if other is not None:
            assert await other.look() is not Duty.NOTHING
        async with super().lead() as lead:
            yield lead


async def test_what_another_worker_did_meanwhile_is_not_done_again() -> None:
    """Neither the rebuild, which would be a new life for nothing, nor the reconcile."""
    world = World()
    world.ledger = ledger = AnotherWasFaster(lambda: world.now_us)
    ledger.other = world.worker()
    assert await world.worker().look() is Duty.NOTHING
    assert (await ledger.state()).epoch
    ledger.other = world.worker()
    assert await world.worker().look() is Duty.NOTHING


async def test_another_server_is_reconciled_at_once(world: World) -> None:
    """It may lack what the last one answered."""
    async with world.ledger.lead() as lead:
        await lead.reconciled("the server before", world.now_us)
    world.record(staged_file())
    assert await world.worker().look() is Duty.RECONCILE
    assert (await world.ledger.index()).files == (staged_file(),)
    assert await world.worker().look() is Duty.NOTHING


async def test_a_document_that_cannot_be_read_is_said_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is guessed, nobody is told twice, and once it is mended the ledger is rebuilt."""
    world = World()
    world.record(staged_file())
    broken = record_key(OTHER, upload_of(2))
    world.documents.held[broken] = b"{"
    worker = world.worker()
    with caplog.at_level(logging.WARNING):
        assert [await worker.look() for _ in range(3)] == [Duty.NOTHING] * 3
    assert caplog.text.count(broken) == 1
    with pytest.raises(LedgerUnavailable):
        await world.ledger.index()
    del world.documents.held[broken]
    assert await worker.look() is Duty.REBUILD


async def test_a_worker_looks_again_and_again() -> None:
    """It runs until it is cancelled, whatever it found."""
    world = World()
    with pytest.raises(asyncio.CancelledError):
        await world.worker(times=3).run()
    assert (await world.ledger.state()).epoch
