"""What is staged: the nouns of the ledger and of the durable documents."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from overlay.domain.names import NormalizedName, ReleaseName, Revision, Serial, StageId, UploadId
from overlay.domain.rights import EVERY_PROJECT

Kind = Literal["wheel", "sdist"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFacts:
    """What reading the archive once showed and its rules need later; small, so that the ledger can hold it."""

    unpacked_bytes: int
    largest_ratio: float = 0.0
    """Greatest unpacked : packed ratio of one member; 0 for sdists, where only the whole is known."""
    top_level: tuple[str, ...] = ()
    """sdist: the names at the top of the archive, at most ten."""
    has_wheel_file: bool = True
    has_record: bool = True
    missing_license_files: tuple[str, ...] = ()
    bad_entry_points: str | None = None
    odd_framing: str | None = None
    """A zip or tar feature that PyPI refuses and installers accept, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """One file that is staged: everything the overlay knows of it but its bytes, metadata and form."""

    stage: StageId
    project: NormalizedName
    name: str
    """The project's name as the metadata spells it."""
    version: str
    """PEP 440, normalized."""
    filename: str
    kind: Kind
    upload_id: UploadId
    serial: Serial
    size_bytes: int
    sha256: str
    blake2_256: str
    metadata_sha256: str
    """sha256 of the stored core metadata; advertised for wheels only."""
    requires_python: str | None
    staged_at_us: int
    """Microseconds since the epoch, UTC."""
    who: str
    """The label of the token that staged it."""
    token_id: str
    grant: str
    """The pattern that allowed the upload: "admin", an exact name, a prefix with -*, or "*"."""
    facts: ArchiveFacts

    @property
    def release(self) -> ReleaseName:
        """The release it belongs to."""
        return ReleaseName(self.project, self.version)


@dataclass(frozen=True, slots=True)
class StageSnapshot:
    """What is staged for one project in one stage, at one revision."""

    project: NormalizedName
    stage: StageId
    revision: Revision
    files: tuple[StagedFile, ...]


class Reason(StrEnum):
    """Why a staged file ended."""

    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    REFUSED = "refused"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Gone:
    """A staged file that ended."""

    file: StagedFile
    reason: Reason
    at_us: int
    who: str


Entry: TypeAlias = StagedFile | Gone | None
"""What the ledger knows of an upload; None: nothing."""


def file_of(entry: StagedFile | Gone) -> StagedFile:
    """Return the file of an upload that is staged, or ended."""
    return entry.file if isinstance(entry, Gone) else entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an upload asks of the ledger before its record is written."""

    stage: StageId
    project: NormalizedName
    version: str
    filename: str
    upload_id: UploadId
    sha256: str
    grant: str
    replace: bool
    """Whether other staged bytes of this name may be replaced."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The claim holds; `serial` is the upload's place in the order, `epoch` the ledger's life that gave it."""

    serial: Serial
    epoch: str


@dataclass(frozen=True, slots=True)
class AlreadyStaged:
    """These very bytes are staged under this name; nothing changes."""

    file: StagedFile


def precedence(file: StagedFile) -> tuple[Serial, UploadId]:
    """Return what decides between two files of one name: the greater one wins, in the ledger as in a rebuild.

    Two uploads may share a serial. A host whose clock runs ahead admits A; Redis is lost; the rebuild cannot know A's
    serial, whose record is not written yet, so B, admitted later elsewhere, may be given the same. No choice of the
    next serial rules that out, for nobody knows how far ahead A's clock was. Both are recorded then, and whoever is
    staged first, the upload id decides, so that every rebuild finds the same winner.
    """
    return file.serial, file.upload_id


def repeats(held: StagedFile, *, sha256: str, grant: str) -> bool:
    """Say whether bringing these bytes under the held file's name would change nothing.

    What `*` staged is hidden beside foreign files upstream (design §9); a grant that names the project shows it.
    """
    return held.sha256 == sha256 and not (held.grant == EVERY_PROJECT and grant != EVERY_PROJECT)


@dataclass(frozen=True, slots=True)
class Staged:
    """The outcome of `stage`: `ended` is the entry that must enter the history, if any.

    It is the older file of the same name, or the given one itself when a greater serial holds the name already.
    """

    ended: Gone | None


@dataclass(frozen=True, slots=True)
class StageIndex:
    """All that is staged: per stage and project the files."""

    files: tuple[StagedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestProject:
    """What is staged of a project in one stage."""

    project: NormalizedName
    staged_at_us: int
    """When its latest file was staged, or a later one that has ended."""
    file_count: int
    """At least 1."""
    files: tuple[StagedFile, ...]
    """All of them, in order of their names; () where they are more than were asked for."""


@dataclass(frozen=True, slots=True)
class LatestProjects:
    """The projects that something was staged for last, the latest first, and how many there are in all."""

    projects: tuple[LatestProject, ...]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """All that is staged, in numbers."""

    files: int
    size_bytes: int
    oldest_staged_at_us: int | None
    """When the file was staged that has been longest; None when nothing is."""
