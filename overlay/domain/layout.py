"""Where things lie below the root of a store (design §5); the only place that forms these keys."""

from typing import Final

from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.ports import BlobKey

SIDECAR: Final = ".metadata"
RECORDS: Final = "records/"
HISTORY: Final = "history/"
TOKENS: Final = "state/tokens/"
STORE_MARK: Final = "state/store.json"
"""Says that a store lies here, and in which layout; readiness reads it."""
SWEEP_MARK: Final = "state/sweep.json"
"""Says when the last regular sweep began, for all who would sweep."""


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


def upload_of_document(key: str) -> UploadId:
    """Return the upload that a record or history document is about."""
    return UploadId(key.rpartition("/")[2].removesuffix(".json"))
