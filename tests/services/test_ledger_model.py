"""The ledger against a dict: whatever happens in whatever order, it shows what the dict shows.

Uploads are admitted and staged in separate rules, so serials arrive out of order and, over several lives of the ledger,
twice; the documents are written as `Uploads` and `Releases` write them, and a rebuild from them at any time changes
nothing that was settled.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from overlay.domain.errors import FileExists, LedgerRebuilt
from overlay.domain.layout import history_key, record_key
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import MAIN, NOTHING_STAGED, NormalizedName, Revision, StageId, UploadId
from overlay.domain.records import HistoryEntry, Record, encode
from overlay.domain.stage import Admitted, AlreadyStaged, Gone, Reason, StagedFile, Totals
from overlay.services.rebuild import rebuild
from overlay.services.reconcile import reconcile_project, settle
from overlay.storage.ledger_memory import MemoryLedger
from tests.fakes.documents import MemoryDocuments
from tests.ledgers import entry
from tests.staged import claim_for, staged_file, token

Result = TypeVar("Result")

PROJECTS: Final = ("demo", "other")
STAGES: Final = (MAIN, StageId("flag-day"))
# Few names, so that serials of one name cross often.
NAMES: Final = {"demo": ("demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"), "other": ("other-1.0.tar.gz",)}
START_US: Final = 1_700_000_000_000_000

NAMED: Final = st.sampled_from([(project, name) for project, names in NAMES.items() for name in names])
STAGE: Final = st.sampled_from([MAIN, MAIN, MAIN, STAGES[1]])
CONTENT: Final = st.sampled_from("abc")

Name = tuple[StageId, str]
Shelf = tuple[NormalizedName, StageId]


@dataclass(frozen=True)
class Admission:
    """An upload between `admit` and its record; `epoch` is the ledger's life that admitted it."""

    file: StagedFile
    may_replace: bool
    epoch: str
    is_told: bool = True
    """Whether whoever sent it hears that it is refused when it is to be staged."""


class LedgerMachine(RuleBasedStateMachine):
    """The model: which file holds each (stage, filename), and which uploads ended."""

    admitted = Bundle("admitted")
    staged = Bundle("staged")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock_us = START_US
        self.documents = MemoryDocuments()
        self.ledger: StageLedger = MemoryLedger(lambda: self.clock_us)
        self.run(rebuild(self.documents, self.ledger, lambda: self.clock_us))
        self.uploads = 0
        self.last_serial = 0
        self.held: dict[Name, StagedFile] = {}
        self.ended: dict[UploadId, Reason] = {}
        self.epochs: dict[UploadId, str] = {}
        self.tokens: set[str] = set()
        self.revisions: dict[Shelf, tuple[Revision, frozenset[UploadId]]] = {}
        self.seen: set[Revision] = set()

    def teardown(self) -> None:
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    @rule(target=admitted, named=NAMED, stage=STAGE, content=CONTENT, may_replace=st.booleans(), is_told=st.booleans())
    def admit(self, named: tuple[str, str], stage: StageId, content: str, may_replace: bool, is_told: bool) -> object:  # noqa: FBT001
        admission = self._admit(named, stage, content, may_replace=may_replace)
        return multiple() if admission is None else replace(admission, is_told=is_told)

    def _admit(self, named: tuple[str, str], stage: StageId, content: str, *, may_replace: bool) -> "Admission | None":
        self.uploads += 1
        project, filename = named
        file = staged_file(self.uploads, project=project, filename=filename, content=content, stage=stage, serial=0)
        held = self.held.get((stage, file.filename))
        try:
            answer = self.run(self.ledger.admit(claim_for(file, replace=may_replace)))
        except FileExists:
            assert held is not None
            assert held.sha256 != file.sha256
            assert not may_replace
            return None
        if isinstance(answer, AlreadyStaged):
            assert answer.file == held
            assert held.sha256 == file.sha256
            return None
        assert isinstance(answer, Admitted)
        assert held is None or (held.sha256 != file.sha256 and may_replace)
        assert answer.serial > self.last_serial, "a serial came twice, or a smaller one after a greater"
        assert answer.serial >= self.clock_us
        self.last_serial = answer.serial
        self.epochs[file.upload_id] = answer.epoch
        return Admission(replace(file, serial=answer.serial), may_replace, answer.epoch)

    @rule(target=staged, claim=consumes(admitted))
    def stage(self, claim: Admission) -> StagedFile:
        return self._stage(claim)

    def _stage(self, claim: Admission) -> StagedFile:
        file, may_replace = claim.file, claim.may_replace
        if claim.epoch != self.run(self.ledger.state()).epoch:
            with pytest.raises(LedgerRebuilt):
                self.run(self.ledger.stage(file, replace=may_replace, epoch=claim.epoch))
            self._lose_the_outcome(claim)
            return file
        record = Record(file=file, form=(), attestations=None, replace=may_replace)
        self.run(self.documents.put(record_key(file.project, file.upload_id), encode(record)))
        name = file.stage, file.filename
        held = self.held.get(name)
        try:
            answer = self.run(self.ledger.stage(file, replace=may_replace, epoch=claim.epoch))
        except FileExists:
            assert held is not None
            assert held.sha256 != file.sha256
            assert not may_replace
            self.ended[file.upload_id] = Reason.REFUSED
            if claim.is_told:
                self.run(settle(self.documents, Gone(file, Reason.REFUSED, file.staged_at_us, file.who)))
            else:  # the next reconcile writes it down: here at once, or a rebuild might come before it
                self.run(reconcile_project(self.documents, self.ledger, file.project))
                assert history_key(file.project, file.upload_id) in self.documents.held
            return file
        expected = None if held is None else held
        if held is not None and (_place(held) > _place(file) or held.sha256 == file.sha256):
            expected = file
        assert (answer.ended.file if answer.ended is not None else None) == expected
        if expected is not file:
            assert held is None or may_replace
            self.held[name] = file
            if not may_replace:
                record = replace(record, replace=True)
                self.run(self.documents.put(record_key(file.project, file.upload_id), encode(record)))
        if answer.ended is not None:
            assert answer.ended.reason is Reason.REPLACED
            self.ended[answer.ended.file.upload_id] = Reason.REPLACED
            self.run(settle(self.documents, answer.ended))
        return file

    @rule(
        target=staged,
        named=NAMED,
        stage=STAGE,
        contents=st.permutations("abc"),
        may_replace=st.booleans(),
        is_told=st.booleans(),
    )
    def race(
        self,
        named: tuple[str, str],
        stage: StageId,
        contents: list[str],
        may_replace: bool,  # noqa: FBT001
        is_told: bool,  # noqa: FBT001
    ) -> object:
        """Three uploads of one name are admitted in one order and staged in the other."""
        admissions = [self._admit(named, stage, content, may_replace=may_replace) for content in contents]
        racing = [replace(one, is_told=is_told) for one in reversed(admissions) if one is not None]
        return multiple(*(self._stage(one) for one in racing))

    @rule(file=staged, may_replace=st.booleans())
    def stage_again(self, file: StagedFile, may_replace: bool) -> None:  # noqa: FBT001
        """Idempotent by upload id: nothing changes, and who ended stays ended, also where only the history knows."""
        epoch = self.epochs[file.upload_id]
        if self.run(entry(self.ledger, file.upload_id, file.project)) is None:
            assert file.upload_id in self.ended
            with pytest.raises(LedgerRebuilt):
                self.run(self.ledger.stage(file, replace=may_replace, epoch=epoch))
            return
        if self.ended.get(file.upload_id) is Reason.REFUSED:
            with pytest.raises(FileExists):
                self.run(self.ledger.stage(file, replace=may_replace, epoch=epoch))
            return
        answer = self.run(self.ledger.stage(file, replace=may_replace, epoch=epoch))
        if answer.ended is None:
            assert file.upload_id not in self.ended
        elif answer.ended.file != file:  # as the first call answered: what it replaced then
            assert answer.ended.file.filename == file.filename
            assert answer.ended.file.upload_id in self.ended

    @rule(file=staged)
    def withdraw(self, file: StagedFile) -> None:
        staged = self.held.get((file.stage, file.filename)) == file
        if staged:
            gone = Gone(file, Reason.WITHDRAWN, self.clock_us, "bob")
            self.run(self.documents.put(history_key(file.project, file.upload_id), encode(HistoryEntry(gone=gone))))
        ending = Ending(Reason.WITHDRAWN, self.clock_us, "bob")
        answer = self.run(self.ledger.forget(file.project, [file.upload_id, UploadId("f" * 32)], ending))
        repeated = not staged and self.ended.get(file.upload_id) is Reason.WITHDRAWN and answer != ()
        assert [gone.file for gone in answer] == ([file] if staged or repeated else [])
        if staged:
            self.run(self.documents.delete(record_key(file.project, file.upload_id)))
            del self.held[file.stage, file.filename]
            self.ended[file.upload_id] = Reason.WITHDRAWN

    @rule(step_us=st.integers(-10_000_000, 10_000_000))
    def set_clock(self, step_us: int) -> None:
        """Clocks are set back, too."""
        self.clock_us = max(self.clock_us + step_us, START_US // 2)

    @rule(label=st.sampled_from("xyz"))
    def put_token(self, label: str) -> None:
        self.run(self.ledger.put_token(token(label=label)))
        self.tokens.add(label)

    @rule(label=st.sampled_from("xyz"))
    def drop_token(self, label: str) -> None:
        self.run(self.ledger.drop_token(token(label=label).id))
        self.tokens.discard(label)

    @rule()
    def rebuild(self) -> None:
        """A new ledger over the same documents shows the same, under new revisions."""
        self.ledger = MemoryLedger(lambda: self.clock_us)
        rebuilt = self.run(rebuild(self.documents, self.ledger, lambda: self.clock_us))
        assert (rebuilt.files, rebuilt.settled) == (len(self.held), 0)
        self.last_serial = max((file.serial for file in self.held.values()), default=0)
        self.tokens.clear()  # their documents are not this machine's business
        self.revisions.clear()

    @rule(project=st.sampled_from(PROJECTS))
    def reconcile(self, project: str) -> None:
        """Where no outcome was lost there is nothing to do."""
        before = dict(self.documents.held)
        self.run(reconcile_project(self.documents, self.ledger, NormalizedName(project)))
        assert self.documents.held == before

    @rule(claim=consumes(admitted))
    def lose_the_outcome_then_reconcile(self, claim: Admission) -> None:
        """A record that the ledger never heard of is settled as if it had been staged a moment ago."""
        self._lose_the_outcome(claim)

    def _lose_the_outcome(self, claim: Admission) -> None:
        file = claim.file
        record = Record(file=file, form=(), attestations=None, replace=claim.may_replace)
        self.run(self.documents.put(record_key(file.project, file.upload_id), encode(record)))
        self.run(reconcile_project(self.documents, self.ledger, file.project))
        held = self.held.get((file.stage, file.filename))
        other = held is not None and held.sha256 != file.sha256
        wins = held is None or (_place(held) < _place(file) and other and claim.may_replace)
        loser = held if wins else file
        if wins:
            self.held[file.stage, file.filename] = file
        if loser is not None:
            refused = other and not claim.may_replace
            self.ended[loser.upload_id] = Reason.REFUSED if refused else Reason.REPLACED

    @invariant()
    def it_shows_what_the_dict_shows(self) -> None:
        everything = sorted(self.held.values(), key=lambda file: (file.project, file.version, file.filename))
        index = self.run(self.ledger.index()).files
        assert sorted(index, key=lambda file: (file.project, file.version, file.filename, file.stage)) == sorted(
            everything, key=lambda file: (file.project, file.version, file.filename, file.stage)
        )
        assert self.run(self.ledger.totals()) == Totals(
            files=len(everything),
            size_bytes=sum(file.size_bytes for file in everything),
            oldest_staged_at_us=min((file.staged_at_us for file in everything), default=None),
        )
        for stage in STAGES:
            _, names = self.run(self.ledger.names((stage,)))
            assert names == tuple(sorted({file.project for file in everything if file.stage == stage}))

    @invariant()
    def a_revision_names_one_state(self) -> None:
        for project in map(NormalizedName, PROJECTS):
            snapshots = self.run(self.ledger.snapshot(project, STAGES))
            assert self.run(self.ledger.revisions(project, STAGES)) == tuple(one.revision for one in snapshots)
            for snapshot in snapshots:
                expected = [
                    file for file in self.held.values() if (file.project, file.stage) == (project, snapshot.stage)
                ]
                assert list(snapshot.files) == sorted(expected, key=lambda file: file.filename)
                self._check_revision(
                    (project, snapshot.stage),
                    snapshot.revision,
                    frozenset(file.upload_id for file in snapshot.files),
                )

    def _check_revision(self, shelf: Shelf, revision: Revision, ids: frozenset[UploadId]) -> None:
        assert (revision == NOTHING_STAGED) == (not ids)
        known = self.revisions.get(shelf)
        if known is None or known[1] != ids:
            assert revision == NOTHING_STAGED or revision not in self.seen, "an old revision names a new state"
        else:
            assert known[0] == revision, "the revision changed though nothing else did"
        self.seen.add(revision)
        self.revisions[shelf] = (revision, ids)

    @invariant()
    def an_entry_is_found_by_its_upload(self) -> None:
        for file in self.held.values():
            assert self.run(entry(self.ledger, file.upload_id, file.project)) == file
            assert self.run(entry(self.ledger, file.upload_id, NormalizedName("stranger"))) is None
        for upload in self.ended:
            for project in map(NormalizedName, PROJECTS):
                assert not isinstance(self.run(entry(self.ledger, upload, project)), StagedFile)
        assert {one.label for one in self.run(self.ledger.tokens())} == self.tokens


def _place(file: StagedFile) -> tuple[int, str]:
    return file.serial, file.upload_id


TestLedger = LedgerMachine.TestCase
