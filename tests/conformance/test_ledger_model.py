"""Every StageLedger does what a few dictionaries do, whatever comes in whatever order."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from overlay.domain.errors import FileExists, LedgerRebuilt, OverlayError
from overlay.domain.events import EVENT_OF_OUTCOME, EVENT_OF_REASON, Event, EventKind
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import MAIN, NOTHING_STAGED, NormalizedName, ReleaseName, Revision, Serial, StageId, UploadId
from overlay.domain.promotion import Freeze, Outcome, PromotionEnding, PromotionId
from overlay.domain.promotion_errors import PromotionLost, PromotionRunning, ReleaseFrozen, StagedChanged
from overlay.domain.rates import MINUTE_US, share_us
from overlay.domain.rights import Token
from overlay.domain.stage import Admitted, AlreadyStaged, Gone, Reason, StagedFile, Totals
from tests.ledgers import LEDGERS, NOW_US, LedgerClock, MakeLedger, in_process
from tests.staged import claim_for, freeze_of, staged_file, token

STAGES = (MAIN, StageId("flag-day"))
PROJECTS = (NormalizedName("demo"), NormalizedName("other-demo"))
PER_MINUTE = {"a": 1, "b": 3}
FROZEN = "a promotion keeps the release"
LIVE = "upstream has the name"
CHANGED = "not all of it is staged"
REBUILT = "the ledger was rebuilt"
UNKNOWN = "unknown"
LOST = "the run has no lease"
TAKEN = "another run has the lease"
REFUSALS: dict[type[OverlayError], str] = {
    LedgerRebuilt: REBUILT,
    ReleaseFrozen: FROZEN,
    PromotionRunning: TAKEN,
    StagedChanged: CHANGED,
    PromotionLost: LOST,
}
PROMOTIONS = (PromotionId("a" * 32), PromotionId("b" * 32))
LEASE_US = MINUTE_US // 2
Shelf = tuple[StageId, NormalizedName]
Place = tuple[StageId, NormalizedName, str, str]
Result = TypeVar("Result")

PLACES = st.tuples(
    st.sampled_from(STAGES), st.sampled_from(PROJECTS), st.sampled_from(["1", "2"]), st.sampled_from(["zip", "tar.gz"])
)


class Model:
    """What the ledger should hold; `clock` is its clock."""

    def __init__(self, clock: LedgerClock) -> None:
        self.clock = clock
        self.freezes: dict[PromotionId, Freeze] = {}
        self.staged: dict[UploadId, StagedFile] = {}
        self.ended: dict[UploadId, Gone] = {}
        self.replaced: dict[UploadId, UploadId] = {}
        self.live: set[UploadId] = set()
        self.events: list[tuple[EventKind, str, str]] = []
        self.told: dict[tuple[PromotionId, ReleaseName], list[EventKind]] = {}
        self.tokens: dict[str, Token] = {}
        self.changes: dict[Shelf, int] = {}
        self.credit_us: dict[str, int] = {}

    def holder(self, file: StagedFile) -> StagedFile | None:
        """Return what holds the file's name."""
        found = [held for held in self.shelf((file.stage, file.project)) if held.filename == file.filename]
        return found[0] if found else None

    def shelf(self, shelf: Shelf) -> list[StagedFile]:
        files = [file for file in self.staged.values() if (file.stage, file.project) == shelf]
        return sorted(files, key=lambda file: file.filename)

    def keeper(self, file: StagedFile) -> Freeze | None:
        """Return what keeps the file's release as it is."""
        release = ReleaseName(file.project, file.version)
        return next((freeze for freeze in self.holding() if release in freeze.releases), None)

    def holding(self) -> list[Freeze]:
        holding = [freeze for freeze in self.freezes.values() if freeze.holds(self.clock.now_us)]
        return sorted(holding, key=lambda freeze: (freeze.since_us, freeze.promotion))

    def meets(self, file: StagedFile, *, may_replace: bool) -> str | None:
        """Return what refuses the file: the sha256 that holds its name, or FROZEN."""
        held, kept = self.holder(file), self.keeper(file) is not None
        if held is not None and held.upload_id in self.live:
            return LIVE if held.sha256 != file.sha256 else None
        if held is not None and held.sha256 != file.sha256 and (kept or not may_replace):
            return held.sha256
        return FROZEN if kept and held is None else None

    def freeze(self, wanted: Freeze) -> Freeze | str:
        held = {freeze.promotion: freeze for freeze in self.holding()}
        for promotion in self.freezes.keys() - held.keys():
            self.end(promotion, EventKind.ABANDONED)
        present, kind = held.pop(wanted.promotion, None), None
        if present is not None and present.holder == wanted.holder:
            wanted = replace(present, until_us=max(present.until_us, wanted.until_us))
        elif present is not None and present.leased(self.clock.now_us):
            return TAKEN
        elif present is not None:
            kind = EventKind.RESUMED
            wanted = replace(present, holder=wanted.holder, until_us=wanted.until_us, fence=present.fence + 1)
        elif any(set(other.releases) & set(wanted.releases) for other in held.values()):
            return FROZEN
        elif not all(upload in self.staged for upload in wanted.uploads):
            return CHANGED
        else:
            kind = EventKind.PROMOTING
        self.freezes[wanted.promotion] = wanted
        if kind is not None:
            self.tell(wanted, kind)
        return wanted

    def renew(self, promotion: PromotionId, fence: int, until_us: int, *, durable: bool) -> Freeze | str:
        freeze = next((freeze for freeze in self.holding() if freeze.promotion == promotion), None)
        if freeze is None or freeze.fence != fence:
            return LOST
        if not freeze.durable and not all(upload in self.staged for upload in freeze.uploads):
            self.end(promotion, EventKind.ABANDONED)
            return LOST
        until_us = 0 if until_us == 0 else max(until_us, freeze.until_us)
        self.freezes[promotion] = replace(freeze, until_us=until_us, durable=freeze.durable or durable)
        return self.freezes[promotion]

    def end(self, promotion: PromotionId, kind: EventKind) -> None:
        freeze = self.freezes.pop(promotion, None)
        if freeze is not None:
            self.tell(freeze, kind)

    def tell(self, freeze: Freeze, kind: EventKind) -> None:
        for release in freeze.releases:
            self.told.setdefault((freeze.promotion, release), []).append(kind)

    def lapsed(self) -> set[tuple[PromotionId, ReleaseName]]:
        """What is told to have ended when somebody meets it."""
        lapsed = [freeze for freeze in self.freezes.values() if not freeze.holds(self.clock.now_us)]
        return {(freeze.promotion, release) for freeze in lapsed for release in freeze.releases}

    def stage(self, file: StagedFile, *, may_replace: bool, admitted_now: bool) -> Gone | str | None:
        """Return what ended, or the sha256 that refuses the file, or REBUILT, or FROZEN."""
        if file.upload_id in self.staged:
            return self.ended.get(self.replaced.get(file.upload_id, UploadId("")))
        refusal, held = self.meets(file, may_replace=may_replace), self.holder(file)
        if file.upload_id in self.ended:
            gone, name = self.ended[file.upload_id], UNKNOWN if held is None else held.sha256
            if held is not None and held.upload_id in self.live:
                name = LIVE
            return name if gone == _refused(file) else gone
        if not admitted_now:
            return REBUILT
        if refusal == LIVE or (refusal is not None and self.keeper(file) is None):
            self.ended[file.upload_id] = _refused(file)
        if refusal is not None:
            return refusal
        if held is not None and (held.sha256 == file.sha256 or _place(held) > _place(file)):
            return self._end(file, Ending(Reason.REPLACED, held.staged_at_us, held.who))
        ended = None
        if held is not None:
            self._drop(held)
            self.replaced[file.upload_id] = held.upload_id
            ended = self._end(held, Ending(Reason.REPLACED, file.staged_at_us, file.who))
        self.staged[file.upload_id] = file
        self._changed(file)
        self.events.append((EventKind.STAGED, file.filename, file.who))
        return ended

    def forget(self, project: NormalizedName, uploads: list[UploadId], ending: Ending) -> list[Gone] | str:
        ours = [file for upload in uploads if (file := self.staged.get(upload)) and file.project == project]
        promoted = {upload for freeze in self.holding() for upload in freeze.uploads}
        if ending.reason is not Reason.LIVE and any(file.upload_id in promoted for file in ours):
            return FROZEN
        ended = []
        for upload in uploads:
            file, gone = self.staged.get(upload), self.ended.get(upload)
            if file is not None and file.project == project:
                if upload in self.live and ending.reason is not Reason.LIVE:
                    continue
                self._drop(file)
                self._changed(file)
                ended.append(self._end(file, ending))
            elif gone is not None and gone.file.project == project and gone == _gone(gone.file, ending):
                ended.append(gone)
        return ended

    def earn(self, elapsed_us: int) -> None:
        """Give every token its share of the time; a minute's worth is the most that it can have."""
        for token_id, per_minute in PER_MINUTE.items():
            full_us = share_us(per_minute) * per_minute
            self.credit_us[token_id] = min(self.credit_us.get(token_id, full_us) + elapsed_us, full_us)

    def spend(self, token_id: str) -> int:
        """Return the microseconds to wait."""
        share = share_us(PER_MINUTE[token_id])
        credit_us = self.credit_us.get(token_id, share * PER_MINUTE[token_id])
        if credit_us >= share:
            self.credit_us[token_id] = credit_us - share
        return max(share - credit_us, 0)

    def totals(self) -> Totals:
        return Totals(
            files=len(self.staged),
            size_bytes=sum(file.size_bytes for file in self.staged.values()),
            oldest_staged_at_us=min((file.staged_at_us for file in self.staged.values()), default=None),
        )

    def load(self) -> None:
        """Forget what a rebuild does not restore."""
        self.ended, self.replaced, self.events, self.told, self.credit_us = {}, {}, [], {}, {}
        self.freezes = {freeze.promotion: freeze for freeze in self.holding()}
        for file in self.staged.values():
            self._changed(file)

    def _end(self, file: StagedFile, ending: Ending) -> Gone:
        gone = self.ended[file.upload_id] = _gone(file, ending)
        self.events.append((EVENT_OF_REASON[ending.reason], file.filename, ending.who))
        return gone

    def _drop(self, file: StagedFile) -> None:
        del self.staged[file.upload_id]
        self.live.discard(file.upload_id)

    def _changed(self, file: StagedFile) -> None:
        shelf = (file.stage, file.project)
        self.changes[shelf] = self.changes.get(shelf, 0) + 1


def _gone(file: StagedFile, ending: Ending) -> Gone:
    return Gone(file, ending.reason, ending.at_us, ending.who)


def _refused(file: StagedFile) -> Gone:
    return _gone(file, Ending(Reason.REFUSED, file.staged_at_us, file.who))


def _place(file: StagedFile) -> tuple[int, str]:
    return file.serial, file.upload_id


class LedgerMachine(RuleBasedStateMachine):
    """Does the same to a ledger and to the model, and looks at all that can be read after each step."""

    make: ClassVar[Callable[[Callable[[], int]], AbstractAsyncContextManager[StageLedger]]]
    uploads = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        self.clock = LedgerClock()
        self.model = Model(self.clock)
        self.made = 0
        self.serial = 0
        self.seen: dict[Shelf, tuple[int, Revision]] = {}
        self.revisions: set[Revision] = set()
        self.names: tuple[tuple[NormalizedName, ...], Revision] | None = None
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.ledger = self.run(self.stack.enter_async_context(type(self).make(self.clock)))

    def run(self, work: Coroutine[object, object, Result]) -> Result:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    @initialize(target=uploads, places=st.lists(PLACES, unique=True, max_size=4), frozen=st.booleans())
    def begin(self, places: list[Place], frozen: bool) -> object:  # noqa: FBT001
        """Begin with some files, of which the first may be promoted."""
        files = [replace(self._file(place, "a"), serial=Serial(NOW_US + self.made)) for place in places]
        self.model.staged = {file.upload_id: file for file in files}
        self.run(self.ledger.load(files, ()))
        self.serial = max((file.serial for file in files), default=0)
        if files and frozen:
            self.freeze(PROMOTIONS[0], places[:1], "p", LEASE_US)
        return multiple(*files)

    @rule(target=uploads, place=PLACES, content=st.sampled_from("abc"), may_replace=st.booleans())
    def admit(self, place: Place, content: str, may_replace: bool) -> object:  # noqa: FBT001
        """An upload asks for its serial."""
        file = self._file(place, content)
        held, refusal = self.model.holder(file), self.model.meets(file, may_replace=may_replace)
        answer = self.run(_or_refusal(self.ledger.admit(claim_for(file, replace=may_replace))))
        if isinstance(answer, str) or refusal is not None:
            assert answer == refusal
            return multiple()
        if isinstance(answer, AlreadyStaged):
            assert answer.file == held
            return multiple()
        assert isinstance(answer, Admitted)
        assert held is None or held.sha256 != file.sha256
        assert answer.serial > self.serial
        assert answer.serial >= self.clock.now_us
        assert answer.epoch == self.run(self.ledger.state()).epoch
        self.serial = answer.serial
        return replace(file, serial=answer.serial)

    @rule(target=uploads, place=PLACES, content=st.sampled_from("abc"), ahead=st.integers(-5, 5))
    def remember(self, place: Place, content: str, ahead: int) -> StagedFile:
        """A reconcile comes with a record of another life, whose serial may have been given again in this one."""
        serial = (self.serial or NOW_US) + ahead * 1000
        return replace(self._file(place, content), serial=Serial(serial))

    @rule(target=uploads, file=uploads, content=st.sampled_from("abc"))
    def come_late(self, file: StagedFile, content: str) -> StagedFile:
        """An upload was admitted before another one of its name was staged, and is to be staged after it."""
        suffix = file.filename.removeprefix(f"{file.project}-{file.version}.")
        self.stage(file, may_replace=True, admitted_now=True)
        late = self._file((file.stage, file.project, file.version, suffix), content)
        late = replace(late, serial=Serial(file.serial + 1))
        self.stage(late, may_replace=False, admitted_now=True)
        return late

    @rule(file=uploads, may_replace=st.booleans(), admitted_now=st.sampled_from([True, True, True, False]))
    def stage(self, file: StagedFile, may_replace: bool, admitted_now: bool) -> None:  # noqa: FBT001
        expected = self.model.stage(file, may_replace=may_replace, admitted_now=admitted_now)
        epoch = self.run(self.ledger.state()).epoch if admitted_now else "another life"
        answer = self.run(_or_refusal(self.ledger.stage(file, replace=may_replace, epoch=epoch)))
        assert (answer if isinstance(answer, str) else answer.ended) == expected
        self.serial = max(self.serial, file.serial)

    @rule(
        files=st.lists(uploads, max_size=3, unique_by=lambda file: file.upload_id),
        project=st.sampled_from(PROJECTS),
        at_us=st.sampled_from([NOW_US, NOW_US + 1]),
        reason=st.sampled_from([Reason.WITHDRAWN, Reason.WITHDRAWN, Reason.REFUSED, Reason.LIVE]),
    )
    def forget(self, files: list[StagedFile], project: NormalizedName, at_us: int, reason: Reason) -> None:
        ending, chosen = Ending(reason, at_us, "bob"), [file.upload_id for file in files]
        expected = self.model.forget(project, chosen, ending)
        answer = self.run(_or_refusal(self.ledger.forget(project, chosen, ending)))
        assert (answer if isinstance(answer, str) else list(answer)) == expected

    @rule(files=st.lists(uploads, max_size=2, unique_by=lambda file: file.upload_id))
    def mark_live(self, files: list[StagedFile]) -> None:
        uploads = [file.upload_id for file in files]
        for _ in range(2):
            self.run(self.ledger.mark_live(uploads))
        self.model.live.update(self.model.staged.keys() & set(uploads))

    @rule(
        promotion=st.sampled_from(PROMOTIONS),
        places=st.lists(PLACES, min_size=1, max_size=2, unique=True),
        holder=st.sampled_from("pq"),
        lease_us=st.sampled_from([1, LEASE_US, 2 * LEASE_US]),
    )
    def freeze(self, promotion: PromotionId, places: list[Place], holder: str, lease_us: int) -> None:
        """What is staged of one or two releases is wanted, or what is not staged."""
        files = [self._file((places[0][0], *place[1:]), "a") for place in places]
        files = [self.model.holder(file) or file for file in files]
        now_us = self.clock.now_us
        wanted = freeze_of(*files, promotion=promotion, holder=holder, since_us=now_us, until_us=now_us + lease_us)
        expected = self.model.freeze(wanted)
        for _ in range(2):  # a repeat answers the same, and so does each other refusal
            assert self.run(_or_refusal(self.ledger.freeze(wanted))) == expected

    @rule(
        promotion=st.sampled_from(PROMOTIONS),
        fence=st.sampled_from([None, None, None, 1, 2]),
        lease_us=st.sampled_from([None, 1, LEASE_US]),
        durable=st.booleans(),
    )
    def renew(self, promotion: PromotionId, fence: int | None, lease_us: int | None, durable: bool) -> None:  # noqa: FBT001
        """The run of a fence, or the one that has the lease, asks for more, or gives it up."""
        held = self.model.freezes.get(promotion)
        fence = fence or (1 if held is None else held.fence)
        until_us = 0 if lease_us is None else self.clock.now_us + lease_us
        is_repeat = held is not None and (held.fence, held.until_us, until_us, durable) == (fence, 0, 0, False)
        ended_again = held if is_repeat else None
        expected = self.model.renew(promotion, fence, until_us, durable=durable)
        for _ in range(2):
            asked = self.ledger.renew(promotion, fence=fence, until_us=until_us, durable=durable)
            answer = self.run(_or_refusal(asked))
            # That a lease is ended again is answered like the first time, unless somebody met the freeze in between.
            assert answer == expected or (ended_again is not None and (expected, answer) == (LOST, ended_again))

    @rule(promotion=st.sampled_from(PROMOTIONS), outcome=st.sampled_from(Outcome))
    def thaw(self, promotion: PromotionId, outcome: Outcome) -> None:
        """What has lapsed may have been told already, as abandoned; then it is ended as that."""
        if promotion not in {freeze.promotion for freeze in self.model.holding()}:
            outcome = Outcome.ABANDONED
        ending = PromotionEnding(outcome=outcome, at_us=self.clock.now_us, who="bob")
        for _ in range(2):
            self.run(self.ledger.thaw(promotion, ending))
        self.model.end(promotion, EVENT_OF_OUTCOME[outcome])

    @rule(token_id=st.sampled_from(sorted(PER_MINUTE)), times=st.integers(1, 4))
    def spend(self, token_id: str, times: int) -> None:
        for _ in range(times):
            wait_s = self.run(self.ledger.spend(token_id, per_minute=PER_MINUTE[token_id]))
            assert round(wait_s * 1_000_000) == self.model.spend(token_id)

    @rule(elapsed_us=st.one_of(st.sampled_from([1, MINUTE_US // 3, MINUTE_US]), st.integers(1, MINUTE_US)))
    def wait(self, elapsed_us: int) -> None:
        self.clock.now_us += elapsed_us
        self.model.earn(elapsed_us)

    @rule(label=st.sampled_from("xyz"), projects=st.sampled_from([("demo",), ("*",)]))
    def put_token(self, label: str, projects: tuple[str, ...]) -> None:
        one = token(label=label, projects=projects)
        self.run(self.ledger.put_token(one))
        self.model.tokens[one.sha256] = one

    @rule(label=st.sampled_from("xyz"))
    def drop_token(self, label: str) -> None:
        one = token(label=label)
        self.run(self.ledger.drop_token(one.id))
        self.model.tokens.pop(one.sha256, None)

    @rule(one=consumes(uploads))
    def rebuild(self, one: StagedFile) -> None:  # noqa: ARG002 - so that there is not always something to stage
        files, tokens = tuple(self.model.staged.values()), tuple(self.model.tokens.values())
        self.run(self.ledger.load(files, tokens, self.model.holding(), tuple(self.model.live)))
        self.model.load()
        # Serials of a life before are not remembered.
        self.serial = max((file.serial for file in self.model.staged.values()), default=0)

    @invariant()
    def shows_what_is_staged(self) -> None:
        self.run(self._look())

    async def _look(self) -> None:
        model, ledger = self.model, self.ledger
        for project in PROJECTS:
            revisions = await ledger.revisions(project, STAGES)
            snapshots = await ledger.snapshot(project, STAGES)
            assert tuple(snapshot.revision for snapshot in snapshots) == revisions
            for stage, snapshot in zip(STAGES, snapshots, strict=True):
                assert list(snapshot.files) == model.shelf((stage, project))
                self._check_revision((stage, project), snapshot.revision)
        order = sorted(model.staged.values(), key=lambda file: (file.project, file.version, file.filename))
        index = (await ledger.index()).files
        assert sorted(index, key=_all) == sorted(order, key=_all)
        assert [(file.project, file.filename) for file in index] == [(file.project, file.filename) for file in order]
        for stage in STAGES:
            latest = await ledger.latest(stage, most_projects=len(PROJECTS), most_files=2)
            shelves = {project: model.shelf((stage, project)) for project in PROJECTS if model.shelf((stage, project))}
            assert latest.count == len(latest.projects) == len(shelves)
            for found in latest.projects:
                files = shelves[found.project]
                assert (found.file_count, list(found.files)) == (len(files), files if len(files) <= 2 else [])
                assert found.staged_at_us >= max(file.staged_at_us for file in files)
            times = [found.staged_at_us for found in latest.projects]
            assert times == sorted(times, reverse=True)
        assert await ledger.totals() == model.totals()
        for token_id in PER_MINUTE:
            own = [file.size_bytes for file in model.staged.values() if file.token_id == token_id]
            assert await ledger.bytes_staged_by(token_id) == sum(own)
        revision, names = await ledger.names(STAGES)
        assert list(names) == sorted({file.project for file in model.staged.values()})
        assert self.names is None or names == self.names[0] or revision != self.names[1]
        self.names = names, revision
        assert {one.sha256: one for one in await ledger.tokens()} == model.tokens
        assert list(await ledger.freezes()) == model.holding()
        assert await ledger.marked_live() == model.live
        for sha256, one in model.tokens.items():
            assert await ledger.token(sha256) == one
        known = model.staged | model.ended
        for project in PROJECTS:
            expected = [one if _project(one) == project else None for one in known.values()]
            assert list(await ledger.entries(project, list(known))) == expected
        feed = await ledger.events(0)
        of_files = [event for event in feed.events if event.promotion is None]
        assert [(event.kind, event.filename, event.who) for event in of_files] == model.events
        self._check_told([event for event in feed.events if event.promotion is not None])
        assert [event.number for event in feed.events] == list(range(1, len(feed.events) + 1))
        assert (await ledger.events(len(feed.events) // 2)).events == feed.events[len(feed.events) // 2 :]

    def _check_told(self, events: Sequence[Event]) -> None:
        """Each release of a promotion is told of as the model does; what has lapsed may be told to have ended."""
        told: dict[tuple[PromotionId, ReleaseName], list[EventKind]] = {}
        for event in events:
            assert event.promotion is not None
            told.setdefault((event.promotion, ReleaseName(event.project, event.version)), []).append(event.kind)
        lapsed = self.model.lapsed()
        assert told.keys() - lapsed <= self.model.told.keys() <= told.keys()
        for key, kinds in told.items():
            expected = self.model.told.get(key, [])
            assert kinds == expected or (key in lapsed and kinds == [*expected, EventKind.ABANDONED])

    def _check_revision(self, shelf: Shelf, revision: Revision) -> None:
        """A revision is new after each change and stays till the next; "" when nothing is staged."""
        assert (revision == NOTHING_STAGED) == (not self.model.shelf(shelf))
        changes = self.model.changes.get(shelf, 0)
        before = self.seen.get(shelf)
        if before is not None and before[0] == changes:
            assert revision == before[1]
        elif revision != NOTHING_STAGED:
            assert revision not in self.revisions
            self.revisions.add(revision)
        self.seen[shelf] = changes, revision

    def _file(self, place: Place, content: str) -> StagedFile:
        stage, project, version, suffix = place
        self.made += 1
        filename = f"{project}-{version}.{suffix}"
        file = staged_file(
            self.made,
            project=project,
            version=version,
            filename=filename,
            content=content,
            stage=stage,
            token_id=sorted(PER_MINUTE)[self.made % 2],
        )
        return replace(file, size_bytes=self.made)


async def _or_refusal(work: Coroutine[object, object, Result]) -> Result | str:
    try:
        return await work
    except FileExists as refused:
        return LIVE if "live upstream" in str(refused) else refused.held_sha256
    except tuple(REFUSALS) as refused:
        return REFUSALS[type(refused)]


def _project(entry: StagedFile | Gone) -> NormalizedName:
    return entry.file.project if isinstance(entry, Gone) else entry.project


def _all(file: StagedFile) -> tuple[str, str]:
    return file.stage, file.upload_id


@pytest.mark.parametrize("make", LEDGERS)
def test_the_ledger_does_what_the_model_does(make: MakeLedger, request: pytest.FixtureRequest) -> None:
    """The model is small enough to be believed by reading it."""

    class Machine(LedgerMachine):
        pass

    Machine.make = staticmethod(lambda now_us: make(request, now_us))
    examples = settings().max_examples * 2 if make is in_process else settings().max_examples // 2
    run_state_machine_as_test(Machine, settings=settings(max_examples=examples, stateful_step_count=25))
