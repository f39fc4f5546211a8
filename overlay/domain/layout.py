"""Where things lie below the root of a store (design §5); the only place that forms these keys."""

from string import ascii_lowercase, digits
from typing import Final

from overlay.domain.names import NormalizedName, ReleaseName, StageId, UploadId
from overlay.domain.ports import BlobKey
from overlay.domain.promotion import PromotionId

SIDECAR: Final = ".metadata"
RECORDS: Final = "records/"
HISTORY: Final = "history/"
TOKENS: Final = "state/tokens/"
PROMOTIONS: Final = "state/promotions/"
RECEIPTS: Final = "receipts/"
ENDED: Final = "receipts/by-release/"
"""What finds the receipts of a release: documents whose keys say everything."""
STORE_MARK: Final = "state/store.json"
"""Says that a store lies here, and in which layout; readiness reads it."""
SWEEP_MARK: Final = "state/sweep.json"
"""Says when the last regular sweep began, for all who would sweep."""
LIVE_MARK: Final = "state/live.json"
"""Says likewise when somebody last began to look for staged files that became live."""


def parts(prefix: str) -> tuple[str, ...]:
    """Divide RECORDS or HISTORY by the first letters of their projects: these prefixes have all the keys between them.

    PEP 503: a normalized name begins with a letter or a digit.
    """
    return tuple(prefix + first for first in ascii_lowercase + digits)


def blob_key(upload: UploadId, filename: str) -> BlobKey:
    """Name a file's bytes."""
    return BlobKey(f"{upload}/{filename}")


def sidecar_key(upload: UploadId, filename: str) -> BlobKey:
    """Name a file's core metadata."""
    return BlobKey(f"{upload}/{filename}{SIDECAR}")


def upload_of(key: BlobKey) -> UploadId:
    """Return the upload a blob belongs to."""
    return UploadId(key.partition("/")[0])


def record_key(project: NormalizedName, upload: UploadId) -> str:
    """Name the record of a staged file."""
    return f"{RECORDS}{project}/{upload}.json"


def record_prefix(project: NormalizedName) -> str:
    """Return the prefix of a project's records."""
    return f"{RECORDS}{project}/"


def history_key(project: NormalizedName, upload: UploadId) -> str:
    """Name the history document of an upload that ended."""
    return f"{HISTORY}{project}/{upload}.json"


def history_prefix(project: NormalizedName) -> str:
    """Return the prefix of a project's history documents."""
    return f"{HISTORY}{project}/"


def token_key(token_id: str) -> str:
    """Name a token's document."""
    return f"{TOKENS}{token_id}.json"


def promotion_key(promotion: PromotionId) -> str:
    """Name the document of a promotion that is under way."""
    return f"{PROMOTIONS}{promotion}/plan.json"


def journal_prefix(promotion: PromotionId) -> str:
    """Return the prefix of everything about a promotion that is under way."""
    return f"{PROMOTIONS}{promotion}/"


def journal_key(promotion: PromotionId, upload: UploadId) -> str:
    """Name the document that says how far one file of a promotion came."""
    return f"{PROMOTIONS}{promotion}/{upload}.json"


def receipt_key(promotion: PromotionId) -> str:
    """Name the document of a promotion that ended."""
    return f"{RECEIPTS}{promotion}.json"


def ended_key(release: ReleaseName, stage: StageId, promotion: PromotionId) -> str:
    """Name the document by which a release's receipt is found."""
    return f"{ended_prefix(release.project)}{release.version}/{stage}/{promotion}.json"


def ended_prefix(project: NormalizedName) -> str:
    """Return the prefix of what finds the receipts of a project."""
    return f"{ENDED}{project}/"


def ended_of_document(key: str) -> tuple[ReleaseName, StageId, PromotionId]:
    """Return what the key of a document below ENDED says."""
    project, version, stage, name = key.removeprefix(ENDED).split("/")
    release = ReleaseName(NormalizedName(project), version)
    return release, StageId(stage), PromotionId(name.removesuffix(".json"))


def promotion_of_document(key: str) -> PromotionId:
    """Return the promotion that a document below PROMOTIONS is about."""
    return PromotionId(key.removeprefix(PROMOTIONS).partition("/")[0])


def is_plan(key: str) -> bool:
    """Say whether a document below PROMOTIONS is the plan, not a part of its journal."""
    return key.endswith("/plan.json")


def upload_of_document(key: str) -> UploadId:
    """Return the upload that a record or history document is about."""
    return UploadId(key.rpartition("/")[2].removesuffix(".json"))
