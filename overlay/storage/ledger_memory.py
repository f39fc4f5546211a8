"""The ledger in the process: dictionaries, changed only between two awaits, so every method is atomic.

Nothing here suspends. Rebuilt from the records at start (`overlay.services.rebuild`); refuses everything before that.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from overlay.domain.errors import LedgerBusy, LedgerRebuilt, LedgerUnavailable
from overlay.domain.events import EVENT_OF_REASON, EventFeed, EventKind
from overlay.domain.ledger_port import Ending, Lead, LedgerState
from overlay.domain.names import NormalizedName, ReleaseName, Revision, Serial, StageId, UploadId
from overlay.domain.promotion import Freeze, PromotionEnding, PromotionId
from overlay.domain.rights import Token
from overlay.domain.stage import (
    Admitted,
    AlreadyStaged,
    Claim,
    Entry,
    Gone,
    LatestProjects,
    Reason,
    Staged,
    StagedFile,
    StageIndex,
    StageSnapshot,
    Totals,
    precedence,
    repeats,
)
from overlay.storage.memory_endings import Endings, as_refused
from overlay.storage.memory_events import Events
from overlay.storage.memory_freezes import Freezes
from overlay.storage.memory_shelves import Shelves
from overlay.storage.memory_tokens import Tokens
from overlay.storage.refusals import live_upstream, refusal, taken


class MemoryLedger:
    """StageLedger for one process; `now_us` is the clock in microseconds since the epoch."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        """Start empty and not ready; `load` makes it ready."""
        self._now_us = now_us
        self._ready = False
        self._led = False
        self._server = secrets.token_hex(20)
        self._reconciled = ("", 0)
        self._clear()

    def _clear(self) -> None:
        self._shelves = Shelves()
        self._events = Events()
        self._freezes = Freezes(self._shelves.entries, self._now_us, self._events.tell_freeze)
        self._endings = Endings()
        self._replaced: dict[UploadId, UploadId] = {}
        self._live: set[UploadId] = set()
        self._last_serial = 0
        self._epoch = secrets.token_hex(4)
        self._tokens = Tokens()

    async def state(self) -> LedgerState:
        """Read how the ledger is."""
        server, at_us = self._reconciled
        epoch = self._epoch if self._ready else ""
        return LedgerState(epoch=epoch, server=self._server, reconciled_server=server, reconciled_at_us=at_us)

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[Lead]:
        """Be the one that mends the ledger."""
        if self._led:
            raise LedgerBusy
        self._led = True
        try:
            yield self
        finally:
            self._led = False

    async def load(
        self,
        files: Sequence[StagedFile],
        tokens: Sequence[Token],
        freezes: Sequence[Freeze] = (),
        live: Sequence[UploadId] = (),
    ) -> None:
        """Replace the whole content, then be ready; nothing suspends, so whoever leads is not disturbed."""
        self._ready = False
        self._clear()
        self._freezes = Freezes(self._shelves.entries, self._now_us, self._events.tell_freeze, freezes)
        for file in files:
            self._shelves.put(file)
            self._last_serial = max(self._last_serial, file.serial)
        self._live = set(live)
        self._tokens = Tokens(tokens)
        self._reconciled = ("", 0)
        self._ready = True

    async def reconciled(self, server: str, at_us: int) -> None:
        """Remember a reconcile that went through."""
        self._reconciled = (server, at_us)

    async def revisions(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[Revision, ...]:
        """Read the revision per stage."""
        self._check_ready()
        return tuple([self._shelves.revision(stage, project) for stage in stages])

    async def snapshot(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[StageSnapshot, ...]:
        """Read files and revisions of one moment."""
        self._check_ready()
        return tuple(self._shelves.snapshot(stage, project) for stage in stages)

    async def entries(self, project: NormalizedName, uploads: Sequence[UploadId]) -> tuple[Entry, ...]:
        """Look uploads up."""
        self._check_ready()
        return tuple([self._entry(project, upload) for upload in uploads])

    async def index(self) -> StageIndex:
        """Read everything that is staged."""
        self._check_ready()
        return StageIndex(
            tuple(sorted(self._shelves.entries.values(), key=lambda file: (file.project, file.version, file.filename)))
        )

    async def latest(self, stage: StageId, *, most_projects: int, most_files: int) -> LatestProjects:
        """Read the projects that something was staged for last."""
        self._check_ready()
        return self._shelves.latest(stage, most_projects=most_projects, most_files=most_files)

    async def names(self, stages: Sequence[StageId]) -> tuple[Revision, tuple[NormalizedName, ...]]:
        """Read the projects with staged files, and a revision of that set."""
        self._check_ready()
        return self._shelves.names(stages)

    async def totals(self) -> Totals:
        """Count everything that is staged."""
        self._check_ready()
        return self._shelves.totals()

    async def bytes_staged_by(self, token_id: str) -> int:
        """Sum the sizes of what this token staged."""
        self._check_ready()
        return self._shelves.bytes_staged_by(token_id)

    async def admit(self, claim: Claim) -> Admitted | AlreadyStaged:
        """Decide whether an upload may go on."""
        self._check_ready()
        held, keeper, kept = self._met_by(claim)
        refused = refusal(claim, held, keeper, may_replace=claim.replace, is_live=kept and keeper is None)
        if refused is not None:
            raise refused
        if held is not None and (kept or repeats(held, sha256=claim.sha256, grant=claim.grant)):
            return AlreadyStaged(held)
        self._last_serial = max(self._last_serial + 1, self._now_us())
        return Admitted(Serial(self._last_serial), self._epoch)

    async def stage(self, file: StagedFile, *, replace: bool, epoch: str) -> Staged:
        """Show the file; idempotent by upload id."""
        self._check_ready()
        self._last_serial = max(self._last_serial, file.serial)
        if file.upload_id in self._shelves.entries or file.upload_id in self._endings:
            return self._answer_again(file)
        if epoch != self._epoch:
            raise LedgerRebuilt
        held, keeper, kept = self._met_by(file)
        refused = refusal(file, held, keeper, may_replace=replace, is_live=kept and keeper is None)
        if refused is not None:
            if keeper is None:
                self._endings.add(file, as_refused(file))
            raise refused
        if held is None:
            self._shelves.put(file)
            self._events.tell(EventKind.STAGED, file, file.staged_at_us, file.who)
            return Staged(None)
        # Two uploads of the same bytes that raced past `admit`: the first one shown stays, nothing changes for readers.
        repeated = repeats(held, sha256=file.sha256, grant=file.grant)
        if kept or precedence(held) > precedence(file) or repeated:
            return Staged(self._end(file, Ending(Reason.REPLACED, held.staged_at_us, held.who)))
        self._drop(held)
        self._shelves.put(file)
        self._replaced[file.upload_id] = held.upload_id
        ended = self._end(held, Ending(Reason.REPLACED, file.staged_at_us, file.who))
        self._events.tell(EventKind.STAGED, file, file.staged_at_us, file.who)
        return Staged(ended)

    async def forget(self, project: NormalizedName, uploads: Sequence[UploadId], gone: Ending) -> tuple[Gone, ...]:
        """End these uploads."""
        self._check_ready()
        if gone.reason is not Reason.LIVE:
            self._freezes.check_endings(project, uploads)
            uploads = [upload for upload in uploads if upload not in self._live]
        ended = []
        for upload in uploads:
            file = self._shelves.entries.get(upload)
            if file is not None and file.project == project:
                self._drop(file)
                ended.append(self._end(file, gone))
            elif file is None and (repeated := self._endings.repeated(project, upload, gone)):
                ended.append(repeated)
        return tuple(ended)

    async def mark_live(self, uploads: Sequence[UploadId]) -> None:
        """Remember that upstream has these staged files."""
        self._check_ready()
        self._live.update(upload for upload in uploads if upload in self._shelves.entries)

    async def marked_live(self) -> frozenset[UploadId]:
        """Read which staged files are marked live."""
        self._check_ready()
        return frozenset(self._live)

    async def freeze(self, wanted: Freeze) -> Freeze:
        """Keep releases as they are, and give the lease to a run."""
        self._check_ready()
        return self._freezes.freeze(wanted)

    async def renew(self, promotion: PromotionId, *, fence: int, until_us: int, durable: bool = False) -> Freeze:
        """Prolong the lease, or end it."""
        self._check_ready()
        return self._freezes.renew(promotion, fence=fence, until_us=until_us, durable=durable)

    async def overtake(self, promotion: PromotionId) -> bool:
        """Let no run of the promotion go on."""
        self._check_ready()
        return self._freezes.overtake(promotion)

    async def thaw(self, promotion: PromotionId, ending: PromotionEnding, *, unless_durable: bool = False) -> bool:
        """End the freeze."""
        self._check_ready()
        return self._freezes.thaw(promotion, ending, unless_durable=unless_durable)

    async def freezes(self) -> tuple[Freeze, ...]:
        """Read the freezes that hold."""
        self._check_ready()
        return self._freezes.held()

    async def spend(self, token_id: str, *, per_minute: int) -> float:
        """Take one of the uploads that a token has."""
        self._check_ready()
        return self._tokens.spend(token_id, per_minute, self._now_us())

    async def events(self, after: int) -> EventFeed:
        """Read the recent events."""
        self._check_ready()
        return self._events.after(after, epoch=self._epoch)

    async def token(self, sha256: str) -> Token | None:
        """Find a token by the hash of its text."""
        self._check_ready()
        return self._tokens.find(sha256)

    async def tokens(self) -> tuple[Token, ...]:
        """List all tokens."""
        self._check_ready()
        return self._tokens.listed()

    async def put_token(self, token: Token) -> None:
        """Add or replace a token."""
        self._check_ready()
        self._tokens.put(token)

    async def drop_token(self, token_id: str) -> None:
        """Forget a token."""
        self._check_ready()
        self._tokens.drop(token_id)

    def _entry(self, project: NormalizedName, upload: UploadId) -> Entry:
        file, gone = self._shelves.entries.get(upload), self._endings.get(upload)
        found = gone.file if file is None and gone is not None else file
        return (file or gone) if found is not None and found.project == project else None

    def _met_by(self, file: StagedFile | Claim) -> tuple[StagedFile | None, Freeze | None, bool]:
        """Return what holds the name of a file, what freezes its release, and whether that or upstream keeps them."""
        held = self._shelves.holder(file.stage, file.project, file.filename)
        if held is not None and held.upload_id in self._live:
            return held, None, True
        keeper = self._freezes.keeper(ReleaseName(file.project, file.version))
        return held, keeper, keeper is not None

    def _answer_again(self, file: StagedFile) -> Staged:
        """Answer what the first call to stage the file did. Raises FileExists."""
        if self._endings.repeated(file.project, file.upload_id, as_refused(file)):
            held = self._shelves.holder(file.stage, file.project, file.filename)
            if held is not None and held.upload_id in self._live:
                raise live_upstream(file.filename, held.sha256)
            raise taken(file.filename, "" if held is None else held.sha256, None)
        return Staged(self._endings.get(self._replaced.get(file.upload_id, file.upload_id)))

    def _check_ready(self) -> None:
        if not self._ready:
            raise LedgerUnavailable("What is staged is not loaded yet; try again in a moment.")

    def _drop(self, file: StagedFile) -> None:
        self._shelves.drop(file)
        self._live.discard(file.upload_id)
        self._replaced.pop(file.upload_id, None)

    def _end(self, file: StagedFile, ending: Ending) -> Gone:
        self._events.tell(EVENT_OF_REASON[ending.reason], file, ending.at_us, ending.who)
        return self._endings.add(file, ending)
