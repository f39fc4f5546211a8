"""The index of what is staged, as a protocol. Its conformance suite runs on every ledger (`tests/conformance`)."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from overlay.domain.events import EventFeed
from overlay.domain.names import NormalizedName, Revision, StageId, UploadId
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
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How staged files end."""

    reason: Reason
    at_us: int
    who: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """What upkeep watches (`overlay.services.upkeep`)."""

    epoch: str
    """Names this life of the ledger; "" while it is not ready."""
    server: str
    """Names the process that holds the ledger: another one may lack what the last one answered. "" when unknown."""
    reconciled_server: str
    """The server that was last reconciled with the documents; "" until one was since the load."""
    reconciled_at_us: int


class Lead(Protocol):
    """The right of one worker to mend the ledger."""

    async def load(
        self,
        files: Sequence[StagedFile],
        tokens: Sequence[Token],
        freezes: Sequence[Freeze] = (),
        live: Sequence[UploadId] = (),
    ) -> None:
        """Replace the whole content, then be ready; not reconciled, for the documents went on while they were read.

        `live` are those of the files that are marked live. New serials exceed every serial in `files`.
        Raises LedgerUnavailable, also when the lead was lost: then the ledger is not ready, or another's; where only
        the last answer was lost it may be ready.
        """

    async def reconciled(self, server: str, at_us: int) -> None:
        """Remember that a reconcile which began at `at_us`, on this server, went through."""


class StageLedger(Protocol):
    """An index over the records: what is staged now. Can be rebuilt from the documents at any time.

    Every method but `load`, `state` and `lead` raises LedgerUnavailable while the ledger is not rebuilt, every method
    when it does not answer. Changes may be repeated after a lost answer: they then answer the same.
    """

    async def load(
        self,
        files: Sequence[StagedFile],
        tokens: Sequence[Token],
        freezes: Sequence[Freeze] = (),
        live: Sequence[UploadId] = (),
    ) -> None:
        """Take the lead and replace the whole content. Raises LedgerBusy."""

    async def state(self) -> LedgerState:
        """Read how the ledger is; also while it is not ready."""

    def lead(self) -> AbstractAsyncContextManager[Lead]:
        """Be the one that mends the ledger until the context ends, or the process dies; else raises LedgerBusy."""

    async def revisions(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[Revision, ...]:
        """Read the revision per stage, as of some moment after this call began."""

    async def snapshot(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[StageSnapshot, ...]:
        """Read files and revisions of one moment; files in order of their names."""

    async def entries(self, project: NormalizedName, uploads: Sequence[UploadId]) -> tuple[Entry, ...]:
        """Look uploads up, not all at one moment. Older endings may be unknown, too (they are in the history)."""

    async def index(self) -> StageIndex:
        """Read everything that is staged at some moment after this call began, by project, version, filename.

        However much that is, other questions are answered meanwhile. Raises LedgerUnavailable also when the ledger is
        loaded anew meanwhile, and when more changes meanwhile than the recent events tell, time and again.
        """

    async def latest(self, stage: StageId, *, most_projects: int, most_files: int) -> LatestProjects:
        """Read the projects that something was staged for last, each as of some moment after this call began.

        At least one project and at most some hundred files of one are asked for. However much is staged, no more is
        read than is answered. Those of one microsecond are in any order.
        """

    async def names(self, stages: Sequence[StageId]) -> tuple[Revision, tuple[NormalizedName, ...]]:
        """Read the projects with staged files, sorted, with a revision that changes when the set does."""

    async def totals(self) -> Totals:
        """Count everything that is staged; cheap, however much that is."""

    async def bytes_staged_by(self, token_id: str) -> int:
        """Sum the sizes of what this token staged and is staged still; cheap, too."""

    async def admit(self, claim: Claim) -> Admitted | AlreadyStaged:
        """Decide whether an upload may go on, and give it its serial. Changes nothing that readers see.

        The same bytes by a stronger grant (`stage.repeats`) may go on whatever `replace` says.
        Raises FileExists when other bytes hold the name and the claim may not replace them, which no claim may while a
        promotion keeps the release as it is, and ReleaseFrozen for a new name then. The same bytes under the same name
        are AlreadyStaged then, whatever the grant.
        """

    async def stage(self, file: StagedFile, *, replace: bool, epoch: str) -> Staged:
        """Show the file. Idempotent by upload id; of (stage, filename) the greatest `stage.precedence` wins.

        `epoch` is the ledger's life in which the file was admitted, or began to be looked for in the history in vain.
        Serials given later exceed the file's. A repeat answers what the first call did.
        Raises FileExists when other bytes hold the name and `replace` is false, or they are live: the upload has ended,
        as refused at its `staged_at_us` by its `who`, and no event tells it. While a promotion keeps the release as it
        is, it raises FileExists for other bytes, ReleaseFrozen for a new name, and nothing changed: the thaw decides.
        The same bytes end at once then, whatever the grant. An upload id that ended is never staged again. The ledger
        remembers endings for its own life only: in another one it raises LedgerRebuilt for an upload unknown to it.
        """

    async def forget(self, project: NormalizedName, uploads: Sequence[UploadId], gone: Ending) -> tuple[Gone, ...]:
        """End these uploads; returns those that were staged until now. Unknown ids are passed over.

        A repeat (of the same ending, to the microsecond) answers what the first call did. Raises ReleaseFrozen when one
        of them is being promoted, unless it ends because it is live; then nothing changed.
        """

    async def mark_live(self, uploads: Sequence[UploadId]) -> None:
        """Remember that upstream has these staged files: each stays as it is until it ends because it is live.

        From then on `admit` and `stage` refuse other bytes of its name for good (FileExists), have the same bytes for
        staged already, whatever the grant, and `forget` passes over it. What is not staged is passed over.
        """

    async def marked_live(self) -> frozenset[UploadId]:
        """Read which of the staged files are marked live."""

    async def freeze(self, wanted: Freeze) -> Freeze:
        """Keep the releases as they are, all of them or none, and give the lease to `wanted.holder`; return what holds.

        A freeze of the same promotion is taken over once its lease ended: holder, `who` and `until_us` are the wanted
        ones, everything else stays, and the fence grows by one. Its present holder may ask again, which renews the
        lease. No fence is smaller than `wanted.fence`, which is that of a new freeze: a ledger that lost what it knew
        last gives none twice. Freezes that hold no more are gone. One wanted durable is so at once, whatever is staged:
        it was lost after something may have been pushed.
        Raises ReleaseFrozen when another promotion holds one of the releases, PromotionRunning while another run has
        the lease, StagedChanged when an upload of a new freeze is not staged in its stage and one of its releases.
        """

    async def renew(self, promotion: PromotionId, *, fence: int, until_us: int, durable: bool = False) -> Freeze:
        """Prolong the lease (never shorten it: but 0 ends it at once) and, if `durable`, make the freeze outlive it.

        A freeze that is not durable and whose lease is ended so, is gone; a durable one may be renewed after its lease
        ended, until another run took it over. Returns the freeze as it is then.
        Raises PromotionLost when the fence is another one, or the freeze is gone or lapsed; also when it is not durable
        and one of its uploads is not staged any more: hosts whose clocks differ never push what was replaced meanwhile.
        """

    async def overtake(self, promotion: PromotionId) -> bool:
        """Let no run of the promotion go on: its lease ends, and the fence grows; once more by a repeat.

        Returns whether its freeze is left: one that is not durable lapses by this.
        """

    async def thaw(self, promotion: PromotionId, ending: PromotionEnding, *, unless_durable: bool = False) -> bool:
        """End the freeze, and tell how; one that is not there is fine, and nothing is told then.

        Returns whether none is left: with `unless_durable`, one that outlives its lease stays.
        """

    async def freezes(self) -> tuple[Freeze, ...]:
        """Read the freezes that hold now, the oldest first."""

    async def spend(self, token_id: str, *, per_minute: int) -> float:
        """Take one of a token's uploads a minute; return 0.0, or the seconds to wait, and then none was taken.

        After a pause they may be taken all at once. Repeated after a lost answer, it takes another one. What was spent
        is no durable truth: a rebuild forgets it.
        """

    async def events(self, after: int) -> EventFeed:
        """Read the recent events (`overlay.domain.events`) with a number greater than `after`."""

    async def token(self, sha256: str) -> Token | None:
        """Find a token by the sha256 (hex) of its text."""

    async def tokens(self) -> tuple[Token, ...]:
        """List all tokens, oldest first."""

    async def put_token(self, token: Token) -> None:
        """Add or replace a token."""

    async def drop_token(self, token_id: str) -> None:
        """Forget a token; one that is not there is fine."""
