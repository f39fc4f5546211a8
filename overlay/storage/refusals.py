"""The sentences by which every ledger refuses bytes under a name, and what would change a release being promoted."""

from collections.abc import Iterable

from overlay.domain.errors import FileExists
from overlay.domain.names import ReleaseName
from overlay.domain.promotion import Freeze
from overlay.domain.promotion_errors import PromotionRunning, ReleaseFrozen
from overlay.domain.stage import Claim, StagedFile


def refusal(
    file: StagedFile | Claim, held: StagedFile | None, keeper: Freeze | None, *, may_replace: bool, is_live: bool
) -> FileExists | ReleaseFrozen | None:
    """Say why bytes may not come under their name, if so: `held` holds it, `keeper` keeps the release as it is.

    What holds it `is_live` where upstream has it: then no freeze matters.
    """
    if held is not None and is_live:
        return None if held.sha256 == file.sha256 else live_upstream(file.filename, held.sha256)
    if held is not None and held.sha256 != file.sha256 and (keeper is not None or not may_replace):
        return taken(file.filename, held.sha256, keeper)
    if held is None and keeper is not None:
        return frozen(ReleaseName(file.project, file.version), keeper)
    return None


def taken(filename: str, held_sha256: str, keeper: Freeze | None) -> FileExists:
    """Say that other bytes hold the name; `keeper` is what keeps their release as it is, if anything does.

    `held_sha256` is "" where nothing holds the name any more, of an upload that was refused and asks again.
    """
    if not held_sha256:
        where = "staged here no more, but was when this upload came: send it again"
    else:
        where = "staged here" if keeper is None else f"staged here and being promoted by {keeper.who}"
    return FileExists(filename, held_sha256=held_sha256 or "unknown", where=where)


def live_upstream(filename: str, held_sha256: str) -> FileExists:
    """Say that other bytes hold the name for good: upstream has them."""
    return FileExists(filename, held_sha256=held_sha256, where="live upstream")


def frozen(release: ReleaseName, keeper: Freeze) -> ReleaseFrozen:
    """Say that a promotion keeps the release as it is, which is named as that promotion spells its version."""
    spelled = next(one for one in keeper.releases if one == release)
    return ReleaseFrozen(str(spelled), who=keeper.who, since_us=keeper.since_us)


def running(freeze: Freeze) -> PromotionRunning:
    """Say that another run has the lease."""
    return PromotionRunning(freeze.promotion, who=freeze.who, since_us=freeze.since_us, until_us=freeze.until_us)


def in_words(releases: Iterable[ReleaseName]) -> str:
    """Name the releases."""
    return ", ".join(map(str, releases))
