"""A promotion: which staged files become live, who runs it, and how far it came (design §7).

A promotion is planned once and may be run several times: a run that was killed is taken over by the next. The server
plans, freezes and writes the journal; bytes are pushed by whoever runs it. Three things say how it stands:

    freeze      in the ledger: keeps the releases as they are. It ends with the run's lease until something may have
                been pushed (`durable`), then only with the promotion
    document    what was planned, durable
    journal     a document per file that was tried. It is written before the first byte goes out, and says less again
                only of an attempt that certainly came to nothing (`further`): a late write of a run that was overtaken
                (fencing) makes the next one look, or push, once more. The freeze stays durable all the while
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NewType

from overlay.domain.names import NormalizedName, ReleaseName, StageId, UploadId
from overlay.domain.stage import Kind

PromotionId = NewType("PromotionId", str)
"""32 lower-case hex digits, in the order of planning: 48 bits of milliseconds since the epoch, then 80 random ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Keeps the releases of one promotion as they are, in every stage. Times are microseconds since the epoch."""

    promotion: PromotionId
    stage: StageId
    releases: tuple[ReleaseName, ...]
    uploads: tuple[UploadId, ...]
    """What is promoted; all of it stays staged while the freeze holds."""
    who: str
    """The label of the token that runs it."""
    since_us: int
    holder: str
    """Names the run that has the lease: random, chosen by its command."""
    fence: int
    """Counts the runs, from 1; a run with a smaller one was overtaken."""
    until_us: int
    """When the lease ends, unless it is renewed."""
    durable: bool = False
    """Something may have been pushed: the freeze outlives its lease."""

    def holds(self, now_us: int) -> bool:
        """Say whether uploads and withdrawals are kept out."""
        return self.durable or self.leased(now_us)

    def leased(self, now_us: int) -> bool:
        """Say whether a run goes on, as far as is known."""
        return now_us < self.until_us


class FileState(StrEnum):
    """How far one file came."""

    PLANNED = "planned"
    """Nothing of it is upstream: it was not sent, or every attempt certainly came to nothing."""
    PUSHING = "pushing"
    """It may have been sent; written before the first byte goes out."""
    PUSHED = "pushed"
    """Upstream accepted it."""
    LIVE = "live"
    """The server itself saw name and digest on upstream's page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """One file of a plan."""

    project: NormalizedName
    version: str
    filename: str
    kind: Kind
    upload_id: UploadId
    sha256: str
    size_bytes: int
    wave: int
    """Files of one wave may be pushed at the same time, after all files of smaller waves were accepted."""

    @property
    def release(self) -> ReleaseName:
        """The release it belongs to."""
        return ReleaseName(self.project, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredFinding:
    """A refusal that whoever promotes chose to ignore; it stands in the receipt."""

    rule: str
    filename: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePledge:
    """A pledged file that is live with the pledged digest."""

    filename: str
    sha256: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What was planned, and the run that has it now."""

    id: PromotionId
    stage: StageId
    target: str
    """The upload URL of the index that gets the files."""
    files: tuple[PlannedFile, ...]
    """In the order of pushing; at least one."""
    who: str
    token_id: str
    planned_at_us: int
    holder: str
    fence: int
    ignored: tuple[IgnoredFinding, ...] = ()
    beside: tuple[UploadId, ...] = ()
    """What else was staged of its releases when they were frozen, in whatever stage: a rebuild cannot tell it from what
    came later."""
    already_live: tuple[LivePledge, ...] = ()
    """What was pledged with its files and was live before: nothing of it is pushed. In order of the names."""

    @property
    def releases(self) -> tuple[ReleaseName, ...]:
        """The releases of its files, each once, in order."""
        return tuple(sorted({file.release for file in self.files}))

    def freeze(self, *, until_us: int, durable: bool) -> Freeze:
        """Form the freeze that the run which has it wants."""
        return Freeze(
            promotion=self.id,
            stage=self.stage,
            releases=self.releases,
            uploads=tuple(file.upload_id for file in self.files),
            who=self.who,
            since_us=self.planned_at_us,
            holder=self.holder,
            fence=self.fence,
            until_us=until_us,
            durable=durable,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """How far one file came, and what upstream said last."""

    upload_id: UploadId
    state: FileState
    at_us: int
    fence: int
    """The run that wrote it."""
    attempt: int = 0
    """Which of that run's attempts to push it this is about, from 1."""
    status: int | None = None
    """Upstream's HTTP status; None: no answer yet, or it was lost."""
    said: str = ""
    """Upstream's words, shortened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """A promotion that did not end; `freeze` is None where the ledger lost it, or it lapsed before any push."""

    promotion: Promotion
    journal: Mapping[UploadId, JournalEntry]
    freeze: Freeze | None

    @property
    def durable(self) -> bool:
        """Say whether something may have been pushed."""
        return bool(self.journal) or (self.freeze is not None and self.freeze.durable)

    def leased(self, now_us: int) -> bool:
        """Say whether a run goes on, as far as is known."""
        return self.freeze is not None and self.freeze.leased(now_us)


class Outcome(StrEnum):
    """How a promotion ended."""

    LIVE = "live"
    """All files are live."""
    ABANDONED = "abandoned"
    """Given up after something may have been pushed; the receipt says which files are live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionEnding:
    """How, when and by whom a promotion was ended; microseconds since the epoch."""

    outcome: Outcome
    at_us: int
    who: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionReceipt:
    """A promotion that ended."""

    promotion: Promotion
    outcome: Outcome
    ended_at_us: int
    ended_by: str
    journal: tuple[JournalEntry, ...]
    """In the order of the files; files that were never pushed are left out."""

    @property
    def ending(self) -> PromotionEnding:
        """How it ended, without what became of its files."""
        return PromotionEnding(outcome=self.outcome, at_us=self.ended_at_us, who=self.ended_by)


def promotion_id(now_us: int, random: bytes) -> PromotionId:
    """Form the id of a promotion that is planned now, of ten random bytes."""
    return PromotionId(f"{now_us // 1000:012x}{random.hex()}")


def further(held: JournalEntry | None, said: JournalEntry) -> JournalEntry:
    """Return what the journal has of a file after a run said this; it may arrive late, or twice.

    An attempt that came to nothing (PLANNED) takes back its own `pushing`, never that of a later attempt, and never
    what upstream accepted.
    """
    if held is None:
        return said
    furthest = max(held.state, said.state, key=_FURTHEST.index)
    if furthest in {FileState.PUSHED, FileState.LIVE}:
        return replace(said, state=furthest)
    before, now = (held.fence, held.attempt), (said.fence, said.attempt)
    is_late = now < before or (now == before and held.state is FileState.PLANNED)
    return held if is_late else said


_FURTHEST: Final = tuple(FileState)
