"""What the feed of recent events tells: of staged files, and of releases whose promotion began, went on or ended.

The ledger tells of a change where it makes it, once, however often it is asked again after a lost answer:

    staged, replaced, withdrawn, refused, live      a file
    promoting, resumed, promoted, abandoned         each release of a promotion: its freeze was made, was taken over by
                                                    another run, was thawed. One that ended with its lease, or because
                                                    what it kept had changed, is told as abandoned by whoever meets it

Who follows a project hears so of the promotions of its releases, though others are in them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from overlay.domain.names import NormalizedName, ReleaseName, StageId
from overlay.domain.promotion import Outcome, PromotionId
from overlay.domain.stage import Reason, StagedFile


class EventKind(StrEnum):
    """What the event feed tells of."""

    STAGED = "staged"
    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"
    LIVE = "live"
    """Upstream has had the file for so long that our copy ended."""
    PROMOTING = "promoting"
    """The release is being promoted: it is frozen."""
    RESUMED = "resumed"
    """Another run took its promotion over."""
    PROMOTED = "promoted"
    """All that was promoted of it is live."""
    ABANDONED = "abandoned"
    """Its promotion ended otherwise: before its first push, or given up."""


EVENT_OF_REASON: Final = {
    Reason.REPLACED: EventKind.REPLACED,
    Reason.WITHDRAWN: EventKind.WITHDRAWN,
    Reason.EXPIRED: EventKind.WITHDRAWN,
    Reason.REFUSED: EventKind.REFUSED,
    Reason.LIVE: EventKind.LIVE,
}
EVENT_OF_OUTCOME: Final = {Outcome.LIVE: EventKind.PROMOTED, Outcome.ABANDONED: EventKind.ABANDONED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change, as the recent feed shows it. `number` counts from 1 within one life of the ledger."""

    number: int
    at_us: int
    kind: EventKind
    stage: StageId
    project: NormalizedName
    version: str
    who: str
    filename: str = ""
    """"" where the event is about a release; so with `sha256`."""
    sha256: str = ""
    promotion: PromotionId | None = None
    """None where the event is about a file."""


@dataclass(frozen=True, slots=True)
class EventFeed:
    """Recent events, oldest first.

    `epoch` names the ledger's life; `cut_before` is the number of the oldest event still held (numbers below were
    dropped), so a reader that asks for an older one knows what it missed.
    """

    epoch: str
    cut_before: int
    events: tuple[Event, ...]


def of_file(number: int, kind: EventKind, file: StagedFile, *, at_us: int, who: str) -> Event:
    """Form an event about a file."""
    return Event(
        number=number,
        at_us=at_us,
        kind=kind,
        stage=file.stage,
        project=file.project,
        version=file.version,
        who=who,
        filename=file.filename,
        sha256=file.sha256,
    )


def of_release(
    number: int, kind: EventKind, promotion: PromotionId, stage: StageId, release: ReleaseName, *, at_us: int, who: str
) -> Event:
    """Form an event about a release that is promoted."""
    return Event(
        number=number,
        at_us=at_us,
        kind=kind,
        stage=stage,
        project=release.project,
        version=release.version,
        who=who,
        promotion=promotion,
    )
