"""The sentences by which every ledger refuses what would change a release that is being promoted."""

from collections.abc import Iterable

from overlay.domain.errors import FileExists
from overlay.domain.promotion import Freeze, ReleaseName
from overlay.domain.promotion_errors import PromotionRunning, ReleaseFrozen


def taken(filename: str, held_sha256: str, keeper: Freeze | None) -> FileExists:
    """Say that other bytes hold the name; `keeper` is what keeps their release as it is, if anything does."""
    where = "staged here" if keeper is None else f"staged here and being promoted by {keeper.who}"
    return FileExists(filename, held_sha256=held_sha256, where=where)


def frozen(release: ReleaseName, keeper: Freeze) -> ReleaseFrozen:
    """Say that a promotion keeps the release as it is."""
    return ReleaseFrozen(str(release), who=keeper.who, since_us=keeper.since_us)


def running(freeze: Freeze) -> PromotionRunning:
    """Say that another run has the lease."""
    return PromotionRunning(freeze.promotion, who=freeze.who, since_us=freeze.since_us, until_us=freeze.until_us)


def in_words(releases: Iterable[ReleaseName]) -> str:
    """Name the releases."""
    return ", ".join(map(str, releases))
