"""The one decision of who sees what of a staged file (design §4).

Page, file, sidecar, HTML page, home, events and API ask here; `merge` gets only what `listable` let through.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, StrEnum
from functools import cache
from typing import Final, assert_never

from overlay.domain.page_facts import PageFacts
from overlay.domain.rights import EVERY_PROJECT
from overlay.domain.stage import Gone, Reason, StagedFile, StageSnapshot


class Visibility(Enum):
    """What a caller gets of a staged file."""

    LISTED = "listed"
    UNLISTED = "served but unlisted"
    DENIED = "denied"


class Standing(StrEnum):
    """How a staged file stands towards upstream, in the words people see."""

    STAGED = "staged"
    LIVE = "live"
    """Upstream lists the name with the same bytes; its entry is shown."""
    CONFLICT = "conflict"
    """Upstream lists the name with other bytes."""
    QUARANTINED = "quarantined"
    FOREIGN = "foreign"
    """Staged by a `*` token, and upstream has a project of this name with files never staged here."""
    REPLACED = "replaced"
    ENDED = "ended"


_VISIBILITY_OF: Final = {
    Standing.STAGED: Visibility.LISTED,
    Standing.LIVE: Visibility.UNLISTED,
    Standing.REPLACED: Visibility.UNLISTED,
    Standing.CONFLICT: Visibility.DENIED,
    Standing.QUARANTINED: Visibility.DENIED,
    Standing.FOREIGN: Visibility.DENIED,
    Standing.ENDED: Visibility.DENIED,
}


def visibility(standing: Standing) -> Visibility:
    """Say what a caller gets."""
    return _VISIBILITY_OF[standing]


def standing(file: StagedFile, upstream: PageFacts | None, snapshots: Iterable[StageSnapshot]) -> Standing:
    """Say how one file of the ledger stands; see `judge`."""
    return judge(upstream, snapshots)(file)


def judge(upstream: PageFacts | None, snapshots: Iterable[StageSnapshot]) -> Callable[[StagedFile], Standing]:
    """Say how files of the ledger stand; `upstream` is None where the project is absent or unknown there.

    Whether upstream has foreign files is found out once for all: every file of the snapshots counts for that.
    """

    @cache
    def is_foreign() -> bool:
        return upstream is not None and has_foreign_files(upstream, snapshots)

    def standing_of(file: StagedFile) -> Standing:
        if upstream is None:
            return Standing.STAGED
        if upstream.quarantined:
            return Standing.QUARANTINED
        if file.filename in upstream.sha256_of:
            return Standing.LIVE if upstream.sha256_of[file.filename] == file.sha256 else Standing.CONFLICT
        if file.grant == EVERY_PROJECT and is_foreign():
            return Standing.FOREIGN
        return Standing.STAGED

    return standing_of


def ended_standing(gone: Gone, now_us: int, grace_s: int) -> Standing:
    """Say how an upload that ended stands: a replaced one is served `grace_s` longer, a live one for good."""
    match gone.reason:
        case Reason.REPLACED:
            return Standing.REPLACED if now_us < gone.at_us + grace_s * 1_000_000 else Standing.ENDED
        case Reason.LIVE:
            return Standing.LIVE
        case Reason.WITHDRAWN | Reason.EXPIRED | Reason.REFUSED:
            return Standing.ENDED
        case _:
            assert_never(gone.reason)


def listable(upstream: PageFacts | None, snapshots: Sequence[StageSnapshot]) -> tuple[StagedFile, ...]:
    """Return the files that pages list, one per filename: of stacked stages the left one wins."""
    listed: dict[str, StagedFile] = {}
    standing_of = judge(upstream, snapshots)
    for snapshot in snapshots:
        for file in snapshot.files:
            if file.filename not in listed and standing_of(file) is Standing.STAGED:
                listed[file.filename] = file
    return tuple(listed[name] for name in sorted(listed))


def has_foreign_files(upstream: PageFacts, snapshots: Iterable[StageSnapshot]) -> bool:
    """Say whether upstream lists files of the project that are not staged here with the same bytes."""
    ours = {(file.filename, file.sha256) for snapshot in snapshots for file in snapshot.files}
    return any((filename, sha256) not in ours for filename, sha256 in upstream.sha256_of.items())
