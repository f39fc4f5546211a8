"""The ledger in the process: dictionaries, changed only between two awaits, so every method is atomic.

Nothing here suspends. Rebuilt from the records at start (`overlay.services.rebuild`); refuses everything before that.
"""

import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from overlay.domain.errors import LedgerBusy, LedgerRebuilt, LedgerUnavailable
from overlay.domain.names import NormalizedName, Revision, Serial, StageId, UploadId
from overlay.domain.ports import Ending, Lead, LedgerState
from overlay.domain.promotion import Freeze, PromotionId, ReleaseName
from overlay.domain.rates import forgotten, taken
from overlay.domain.rights import Token
from overlay.domain.stage import (
    EVENT_OF_REASON,
    Admitted,
    AlreadyStaged,
    Claim,
    Event,
    EventFeed,
    EventKind,
    Gone,
    Reason,
    Staged,
    StagedFile,
    StageIndex,
    StageSnapshot,
    Totals,
    precedence,
    repeats,
)
from overlay.storage.memory_freezes import Freezes
from overlay.storage.memory_shelves import Shelves

_EVENTS_HELD: Final = 1000
# Endings that may not have reached the history yet; far more than uploads can be in flight at once.
_ENDINGS_HELD: Final = 10_000


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
        self._freezes = Freezes(self._shelves.entries, self._now_us)
        self._ended: dict[UploadId, Gone] = {}
        self._replaced: dict[UploadId, UploadId] = {}
        self._last_serial = 0
        self._events: deque[Event] = deque(maxlen=_EVENTS_HELD)
        self._events_made = 0
        self._epoch = secrets.token_hex(4)
        self._tokens: dict[str, Token] = {}
        self._paid_until_us: dict[str, int] = {}

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

    async def load(self, files: Sequence[StagedFile], tokens: Sequence[Token], freezes: Sequence[Freeze] = ()) -> None:
        """Replace the whole content, then be ready; nothing suspends, so whoever leads is not disturbed."""
        self._ready = False
        self._clear()
        self._freezes = Freezes(self._shelves.entries, self._now_us, freezes)
        for file in files:
            self._shelves.put(file)
            self._last_serial = max(self._last_serial, file.serial)
        self._tokens = {token.sha256: token for token in tokens}
        self._reconciled = (self._server, self._now_us())
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

    async def entry(self, project: NormalizedName, upload: UploadId) -> StagedFile | Gone | None:
        """Look one upload up."""
        self._check_ready()
        file = self._shelves.entries.get(upload)
        if file is not None:
            return file if file.project == project else None
        gone = self._ended.get(upload)
        return gone if gone is not None and gone.file.project == project else None

    async def index(self) -> StageIndex:
        """Read everything that is staged."""
        self._check_ready()
        return StageIndex(
            tuple(sorted(self._shelves.entries.values(), key=lambda file: (file.project, file.version, file.filename)))
        )

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
        held = self._shelves.holder(claim.stage, claim.project, claim.filename)
        release = ReleaseName(claim.project, claim.version)
        kept = self._freezes.keeps(release, claim.filename, claim.sha256, held, may_replace=claim.replace)
        if held is not None and (kept or repeats(held, sha256=claim.sha256, grant=claim.grant)):
            return AlreadyStaged(held)
        self._last_serial = max(self._last_serial + 1, self._now_us())
        return Admitted(Serial(self._last_serial), self._epoch)

    async def stage(self, file: StagedFile, *, replace: bool, epoch: str) -> Staged:
        """Show the file; idempotent by upload id."""
        self._check_ready()
        self._last_serial = max(self._last_serial, file.serial)
        if file.upload_id in self._shelves.entries or file.upload_id in self._ended:
            # A repeat: it answers what the first call did.
            return Staged(self._ended.get(self._replaced.get(file.upload_id, file.upload_id)))
        if epoch != self._epoch:
            raise LedgerRebuilt
        held = self._shelves.holder(file.stage, file.project, file.filename)
        release = ReleaseName(file.project, file.version)
        kept = self._freezes.keeps(release, file.filename, file.sha256, held, may_replace=replace)
        if held is None:
            self._shelves.put(file)
            self._tell(EventKind.STAGED, file, file.staged_at_us, file.who)
            return Staged(None)
        # Two uploads of the same bytes that raced past `admit`: the first one shown stays, nothing changes for readers.
        if kept or precedence(held) > precedence(file) or repeats(held, sha256=file.sha256, grant=file.grant):
            return Staged(self._end(file, Ending(Reason.REPLACED, held.staged_at_us, held.who)))
        self._drop(held)
        self._shelves.put(file)
        self._replaced[file.upload_id] = held.upload_id
        ended = self._end(held, Ending(Reason.REPLACED, file.staged_at_us, file.who))
        self._tell(EventKind.STAGED, file, file.staged_at_us, file.who)
        return Staged(ended)

    async def forget(self, project: NormalizedName, uploads: Sequence[UploadId], gone: Ending) -> tuple[Gone, ...]:
        """End these uploads."""
        self._check_ready()
        if gone.reason is not Reason.LIVE:
            self._freezes.check_endings(project, uploads)
        ended = []
        for upload in uploads:
            file = self._shelves.entries.get(upload)
            if file is not None and file.project == project:
                self._drop(file)
                ended.append(self._end(file, gone))
            elif file is None and self._is_repeat(project, upload, gone):
                ended.append(self._ended[upload])
        return tuple(ended)

    async def freeze(self, wanted: Freeze) -> Freeze:
        """Keep releases as they are, and give the lease to a run."""
        self._check_ready()
        return self._freezes.freeze(wanted)

    async def renew(self, promotion: PromotionId, *, fence: int, until_us: int, durable: bool = False) -> Freeze:
        """Prolong the lease, or end it."""
        self._check_ready()
        return self._freezes.renew(promotion, fence=fence, until_us=until_us, durable=durable)

    async def thaw(self, promotion: PromotionId) -> None:
        """End the freeze."""
        self._check_ready()
        self._freezes.thaw(promotion)

    async def freezes(self) -> tuple[Freeze, ...]:
        """Read the freezes that hold."""
        self._check_ready()
        return self._freezes.held()

    async def spend(self, token_id: str, *, per_minute: int) -> float:
        """Take one of the uploads that a token has."""
        self._check_ready()
        now_us = self._now_us()
        paid_until_us, wait_us = taken(self._paid_until_us.get(token_id, 0), now_us, per_minute)
        held = {one: us for one, us in self._paid_until_us.items() if not forgotten(us, now_us)}
        self._paid_until_us = held | {token_id: paid_until_us}
        return wait_us / 1_000_000

    async def events(self, after: int) -> EventFeed:
        """Read the recent events."""
        self._check_ready()
        first = self._events[0].number if self._events else self._events_made + 1
        return EventFeed(self._epoch, first, tuple(event for event in self._events if event.number > after))

    async def token(self, sha256: str) -> Token | None:
        """Find a token by the hash of its text."""
        self._check_ready()
        return self._tokens.get(sha256)

    async def tokens(self) -> tuple[Token, ...]:
        """List all tokens."""
        self._check_ready()
        return tuple(sorted(self._tokens.values(), key=lambda token: (token.created_at_s, token.id)))

    async def put_token(self, token: Token) -> None:
        """Add or replace a token."""
        self._check_ready()
        self._tokens[token.sha256] = token

    async def drop_token(self, token_id: str) -> None:
        """Forget a token."""
        self._check_ready()
        self._tokens = {sha256: token for sha256, token in self._tokens.items() if token.id != token_id}

    def _is_repeat(self, project: NormalizedName, upload: UploadId, ending: Ending) -> bool:
        held = self._ended.get(upload)
        return (
            held is not None
            and held.file.project == project
            and (held.reason, held.at_us, held.who) == (ending.reason, ending.at_us, ending.who)
        )

    def _check_ready(self) -> None:
        if not self._ready:
            raise LedgerUnavailable("What is staged is not loaded yet; try again in a moment.")

    def _drop(self, file: StagedFile) -> None:
        self._shelves.drop(file)
        self._replaced.pop(file.upload_id, None)

    def _end(self, file: StagedFile, ending: Ending) -> Gone:
        gone = Gone(file, ending.reason, ending.at_us, ending.who)
        self._ended[file.upload_id] = gone
        if len(self._ended) > _ENDINGS_HELD:
            del self._ended[next(iter(self._ended))]
        self._tell(EVENT_OF_REASON[ending.reason], file, ending.at_us, ending.who)
        return gone

    def _tell(self, kind: EventKind, file: StagedFile, at_us: int, who: str) -> None:
        self._events_made += 1
        self._events.append(
            Event(
                number=self._events_made,
                at_us=at_us,
                kind=kind,
                stage=file.stage,
                project=file.project,
                version=file.version,
                filename=file.filename,
                sha256=file.sha256,
                who=who,
            )
        )
