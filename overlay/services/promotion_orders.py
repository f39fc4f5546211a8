"""What a run of `overlay promote` asks for and is answered, and what the operator has set."""

from collections.abc import Mapping
from dataclasses import dataclass

from overlay.domain.names import NormalizedName, ReleaseName, StageId, UploadId
from overlay.domain.promotion import LivePledge, Underway
from overlay.domain.promotion_plan import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionSettings:
    """`[upstream]` and `[promote]`, as promotions need them."""

    target: str
    """The upload URL; "" where nobody said where files of this upstream go."""
    rules: Rules
    lease_s: int
    absent_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run asks for."""

    releases: frozenset[ReleaseName]
    pledges: Mapping[str, str]
    """Filename to sha256."""
    holder: str
    stage: StageId
    partial: bool = False
    ignore_rules: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a run has to do; `held` is None when everything pledged is live."""

    held: Underway | None
    already_live: tuple[LivePledge, ...]
    warnings: tuple[str, ...]
    new_projects: tuple[NormalizedName, ...]
    attestations: Mapping[UploadId, str]
    """The JSON texts that were staged with files, for files that have one."""
