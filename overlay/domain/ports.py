"""What we need from the world, as protocols. Each has one conformance suite in `tests/conformance`."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NewType, Protocol

from overlay.domain.names import NormalizedName, Revision, StageId, UploadId
from overlay.domain.page import UpstreamPage
from overlay.domain.prepared_list import PreparedList
from overlay.domain.promotion import Freeze, PromotionId
from overlay.domain.rights import Token
from overlay.domain.stage import (
    Admitted,
    AlreadyStaged,
    Claim,
    EventFeed,
    Gone,
    Reason,
    Staged,
    StagedFile,
    StageIndex,
    StageSnapshot,
    Totals,
)

BlobKey = NewType("BlobKey", str)
"""`<upload-id>/<filename>`, see `overlay.domain.layout`."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One stored blob; `modified_at_s` is seconds since the epoch."""

    key: BlobKey
    size_bytes: int
    modified_at_s: float


class BlobWriter(Protocol):
    """Bytes on their way into a store."""

    @property
    def path(self) -> Path | None:
        """A local file holding every byte written so far, readable until the context ends; None where there is none."""

    async def write(self, chunk: bytes) -> None:
        """Append. The chunk is the writer's from here on. Raises StoreFull, StoreUnavailable."""


class BlobStore(Protocol):
    """Bytes, written once and never changed.

    Errors: BlobNotFound for an unknown key, StoreUnavailable when the store does not answer, StoreFull when it takes
    no more.
    """

    def create(self, key: BlobKey) -> AbstractAsyncContextManager[BlobWriter]:
        """Write one blob. A clean exit commits it durably, an exception or a cancellation leaves nothing."""

    async def size(self, key: BlobKey) -> int:
        """Bytes stored under the key."""

    def read(self, key: BlobKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of [start, stop) in chunks. Raises BlobNotFound at the first step. The caller closes it."""

    async def locate(self, key: BlobKey) -> Path | None:
        """Return a local file with the bytes (for sendfile); None, whatever the key, where the store has no files."""

    async def delete(self, key: BlobKey) -> None:
        """Delete; deleting what is not there is fine."""

    def infos(self) -> AsyncIterator[BlobInfo]:
        """List every blob, in any order. Blobs made or deleted meanwhile may or may not appear."""

    async def abandon(self, *, begun_before_s: float) -> int:
        """Clear away what writers that never ended (a killed process) left; returns how many.

        Only what was begun before that moment, in seconds since the epoch: a writer that lives on after it fails.
        """


class Presigns(Protocol):
    """What a BlobStore may be able to do besides: let clients fetch a blob from the store itself."""

    async def presigned(self, key: BlobKey, *, filename: str, expires_s: int) -> str:
        """Form a URL that answers GET, also with Range, to anybody until it expires; it names the file `filename`.

        Does not look whether the blob is there. Raises StoreUnavailable.
        """


class Documents(Protocol):
    """Small documents, replaced whole: the durable truth. Keys are slash-separated, see `overlay.domain.layout`."""

    async def put(self, key: str, body: bytes) -> None:
        """Store durably; a reader sees the old or the new document, never a mixture."""

    async def get(self, key: str) -> bytes:
        """Read one. Raises DocumentNotFound."""

    async def delete(self, key: str) -> None:
        """Delete durably; deleting what is not there is fine."""

    def keys(self, prefix: str) -> AsyncIterator[str]:
        """List the keys below a prefix that ends in a slash, in any order."""

    def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """Read every document below a prefix, in any order; one that vanishes meanwhile is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """What upkeep watches (`overlay.services.upkeep`)."""

    epoch: str
    """Names this life of the ledger; "" while it is not ready."""
    server: str
    """Names the process that holds the ledger: another one may lack what the last one answered. "" when unknown."""
    reconciled_server: str
    """The server that was last reconciled with the documents, or loaded from them."""
    reconciled_at_us: int


class Lead(Protocol):
    """The right of one worker to mend the ledger."""

    async def load(self, files: Sequence[StagedFile], tokens: Sequence[Token], freezes: Sequence[Freeze] = ()) -> None:
        """Replace the whole content, then be ready and reconciled. New serials exceed every serial in `files`.

        Raises LedgerUnavailable, also when the lead was lost: then the ledger is not ready, or another's.
        """

    async def reconciled(self, server: str, at_us: int) -> None:
        """Remember that a reconcile which began at `at_us`, on this server, went through."""


class StageLedger(Protocol):
    """An index over the records: what is staged now. Can be rebuilt from the documents at any time.

    Every method but `load`, `state` and `lead` raises LedgerUnavailable while the ledger is not rebuilt, every method
    when it does not answer. Changes may be repeated after a lost answer: they then answer the same.
    """

    async def load(self, files: Sequence[StagedFile], tokens: Sequence[Token], freezes: Sequence[Freeze] = ()) -> None:
        """Take the lead and replace the whole content. Raises LedgerBusy."""

    async def state(self) -> LedgerState:
        """Read how the ledger is; also while it is not ready."""

    def lead(self) -> AbstractAsyncContextManager[Lead]:
        """Be the one that mends the ledger until the context ends; it goes to another if this process dies.

        Raises LedgerBusy when another leads.
        """

    async def revisions(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[Revision, ...]:
        """Read the revision per stage, as of some moment after this call began."""

    async def snapshot(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[StageSnapshot, ...]:
        """Read files and revisions of one moment; files in order of their names."""

    async def entry(self, project: NormalizedName, upload: UploadId) -> StagedFile | Gone | None:
        """Look one upload up. Recent endings are `Gone`; older ones may be unknown (they are in the history)."""

    async def index(self) -> StageIndex:
        """Read everything that is staged, ordered by project, version, filename."""

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
        Raises FileExists when other bytes hold the name and `replace` is false, or a promotion keeps the release as it
        is, and ReleaseFrozen for a new name then; nothing changed. The same bytes end at once then, whatever the grant.
        An upload id that ended is never staged again. The ledger remembers endings for its own life only: in another
        one it raises LedgerRebuilt for an upload that it does not know, which may have ended before.
        """

    async def forget(self, project: NormalizedName, uploads: Sequence[UploadId], gone: "Ending") -> tuple[Gone, ...]:
        """End these uploads; returns those that were staged until now. Unknown ids are passed over.

        A repeat (of the same ending, to the microsecond) answers what the first call did. Raises ReleaseFrozen when one
        of them is being promoted, unless it ends because it is live; then nothing changed.
        """

    async def freeze(self, wanted: Freeze) -> Freeze:
        """Keep the releases as they are, all of them or none, and give the lease to `wanted.holder`; return what holds.

        A freeze of the same promotion is taken over once its lease ended: holder, `who` and `until_us` are the wanted
        ones, everything else stays, and the fence grows by one. Its present holder may ask again, which renews the
        lease. `wanted.fence` is the fence of a new freeze. Freezes that hold no more are gone. One wanted durable is so
        at once, whatever is staged: it was lost after something may have been pushed.
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

    async def thaw(self, promotion: PromotionId) -> None:
        """End the freeze; one that is not there is fine."""

    async def freezes(self) -> tuple[Freeze, ...]:
        """Read the freezes that hold now, the oldest first."""

    async def spend(self, token_id: str, *, per_minute: int) -> float:
        """Take one of a token's uploads a minute; return 0.0, or the seconds to wait, and then none was taken.

        After a pause they may be taken all at once. Repeated after a lost answer, it takes another one. What was spent
        is no durable truth: a rebuild forgets it.
        """

    async def events(self, after: int) -> EventFeed:
        """Read the recent events with a number greater than `after`."""

    async def token(self, sha256: str) -> Token | None:
        """Find a token by the sha256 (hex) of its text."""

    async def tokens(self) -> tuple[Token, ...]:
        """List all tokens, oldest first."""

    async def put_token(self, token: Token) -> None:
        """Add or replace a token."""

    async def drop_token(self, token_id: str) -> None:
        """Forget a token; one that is not there is fine."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How staged files end."""

    reason: Reason
    at_us: int
    who: str


class UpstreamSource(Protocol):
    """The live index itself, uncached."""

    async def fetch(self, project: NormalizedName, previous: UpstreamPage | None) -> UpstreamPage:
        """Ask for a project page, conditionally when `previous` is given (then it may be returned with a new time).

        Raises UpstreamUnavailable (no answer, 5xx, refusal) and UpstreamCorrupt (an answer that is no page).
        """


class Upstream(Protocol):
    """The index we overlay, as its readers see it: cached, one flight per project."""

    async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:
        """Return upstream's page; `body` None means that upstream said it has no such project.

        Without `no_older_than_s` the rules for readers hold (design §4): fresh, else stale while revalidating, else
        stale when upstream fails. With it the answer is at most that many seconds old, or an error.
        Raises UpstreamUnavailable, UpstreamCorrupt.
        """

    @property
    def trouble(self) -> str:
        """Why the last question to upstream failed, in a sentence without secrets; "" when it was answered."""

    async def known(self, project: NormalizedName) -> UpstreamPage | None:
        """Return the page in hand, however old within `stale_s`; never waits for upstream, never raises for it."""


class ProjectList(Protocol):
    """Upstream's list of projects."""

    async def prepared(self) -> PreparedList:
        """Return the list in hand, revalidated in the background; the first call waits for upstream.

        Raises UpstreamUnavailable, UpstreamCorrupt when there is none within `stale_s`.
        """
