"""Names that prove their own validity: a bare `str` is not one of them."""

import re
from typing import NewType

from packaging.utils import InvalidName as PackagingInvalidName
from packaging.utils import canonicalize_name

from overlay.domain.errors import InvalidName

NormalizedName = NewType("NormalizedName", str)
"""A project name in PEP 503 form."""

StageId = NewType("StageId", str)
"""Names a stage; `MAIN` unless named."""

UploadId = NewType("UploadId", str)
"""The 128 random bits of one upload, 32 lower-case hex digits: blob key, record name and URL part in one."""

Serial = NewType("Serial", int)
"""The place of an upload in the ledger's order; strictly increasing, never below the clock in microseconds."""

Revision = NewType("Revision", str)
"""Names one state of a project's staged files in one stage; compared for equality only. "" when nothing is staged."""

Validator = NewType("Validator", str)
"""sha256 (hex) of upstream's decoded page body, or "absent"."""

MAIN = StageId("main")
NOTHING_STAGED = Revision("")
ABSENT = Validator("absent")

_STAGE = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
# A project name becomes a folder and part of a file name; 255 bytes is the limit of common file systems.
_LONGEST_NAME = 200


def project_name(raw: str) -> NormalizedName:
    """Normalize a project name (PEP 503).

    Raises InvalidName.
    """
    if len(raw) > _LONGEST_NAME:
        raise InvalidName("project name", raw)
    try:
        return NormalizedName(canonicalize_name(raw, validate=True))
    except PackagingInvalidName as err:
        raise InvalidName("project name", raw) from err


def stage_id(raw: str) -> StageId:
    """Check a stage name. Raises InvalidName."""
    if not _STAGE.fullmatch(raw):
        raise InvalidName("stage name", raw)
    return StageId(raw)


def upload_id(raw: str) -> UploadId:
    """Check an upload id. Raises InvalidName."""
    if not _UPLOAD_ID.fullmatch(raw):
        raise InvalidName("upload id", raw)
    return UploadId(raw)
