"""Names that prove their own validity: a bare `str` is not one of them."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType

from packaging.utils import InvalidName as PackagingInvalidName
from packaging.utils import canonicalize_name, canonicalize_version

from overlay.domain.errors import InvalidName

NormalizedName = NewType("NormalizedName", str)
"""A project name in PEP 503 form."""

CanonicalVersion = NewType("CanonicalVersion", str)
"""The one spelling of versions that are equal (PEP 440), "1" for 1.0 and 1.0.0: to compare by, not to show."""

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


@lru_cache(maxsize=4096)  # the files of a project have the same few versions, and each costs 7 µs
def canonical_version(version: str) -> CanonicalVersion:
    """Spell a version as all that are equal to it. What is no version (PEP 440) stays as it is."""
    return CanonicalVersion(canonicalize_version(version))


@dataclass(frozen=True, slots=True, eq=False)
class ReleaseName:
    """One version of one project; versions that are equal (PEP 440: 1.0 and 1.0.0) name one release, as on PyPI."""

    project: NormalizedName
    version: str
    """Normalized, and as it is spelled where the name comes from: to show, not to compare."""

    def __str__(self) -> str:
        return f"{self.project}=={self.version}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReleaseName) and self._compared() == other._compared()

    def __lt__(self, other: "ReleaseName") -> bool:
        return self._compared() < other._compared()

    def __hash__(self) -> int:
        return hash(self._compared())

    def _compared(self) -> tuple[NormalizedName, CanonicalVersion]:
        return self.project, canonical_version(self.version)


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
