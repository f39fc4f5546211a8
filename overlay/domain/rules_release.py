"""Rules about a file's release and project as they are upstream now (theory in `rules`)."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from packaging.utils import canonicalize_name

from overlay.domain.findings import Finding, error, note, warning
from overlay.domain.page_facts import ARCHIVED, QUARANTINED
from overlay.domain.stage import StagedFile

# Step 33, warehouse MAXIMUM_AGE_FOR_NEW_UPLOADS_DAYS, since 2026-07-08.
NEW_FILES_DAYS: Final = 14

NEW_PROJECT: Final = "new-project"
PROJECT_ARCHIVED: Final = "project-archived"
PROJECT_QUARANTINED: Final = "project-quarantined"
SAME_CONTENT: Final = "same-content"

_DAY_S: Final = 86_400
_STDLIB: Final = frozenset(str(canonicalize_name(name)) for name in sys.stdlib_module_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRelease:
    """What upstream has of a release."""

    exists: bool
    """Whether any file of this version is live."""
    first_upload_s: float | None = None
    """The earliest upload-time of its files, in seconds since the epoch; None if upstream does not say."""
    sdist: str | None = None
    """The filename of its sdist."""
    project_exists: bool
    filename_of: Mapping[str, str] = field(default_factory=dict)
    """sha256 to filename, of all the project's files."""
    status: str | None = None
    """PEP 792."""


def judge(file: StagedFile, siblings: Sequence[StagedFile], live: LiveRelease, now_s: float) -> tuple[Finding, ...]:
    """Report what stands in the way of adding the file to its release now."""
    return (
        *_project(file, live),
        *_age(file, live, now_s),
        *_sdists(file, siblings, live),
        *_contents(file, siblings, live),
    )


def _project(file: StagedFile, live: LiveRelease) -> Iterator[Finding]:
    if live.status == QUARANTINED:
        yield error(PROJECT_QUARANTINED, f"{file.project} is quarantined on PyPI; it takes no files (step 19).")
    if live.status == ARCHIVED:
        yield error(PROJECT_ARCHIVED, f"{file.project} is archived on PyPI; unarchive it before promoting (step 19).")
    if live.status == "deprecated":
        yield note("project-deprecated", f"{file.project} is marked as deprecated on PyPI (PEP 792).")
    if live.project_exists:
        return
    # Step 14; PyPI asks the module lists of all Python versions, we know our own.
    if file.project in _STDLIB:
        yield error("stdlib-name", f"PyPI lets nobody create {file.project}: a standard library module has the name.")
    yield note(
        NEW_PROJECT,
        f"{file.project} does not exist on PyPI yet. A token scoped to a project cannot create it (step 13): use a "
        "token for the whole account or a pending trusted publisher. PyPI refuses a new name that is prohibited, or "
        "too similar to an existing project's, which only the upload shows (step 14).",
    )


def _age(file: StagedFile, live: LiveRelease, now_s: float) -> Iterator[Finding]:
    if not live.exists:
        return
    release = f"{file.project}=={file.version}"
    if live.first_upload_s is None:
        yield warning(
            "adds-to-live-release",
            f"Adds to the live release {release}. PyPI takes new files for {NEW_FILES_DAYS} days only (step 33), and "
            "upstream does not say how old the release is.",
        )
        return
    left_s = live.first_upload_s + NEW_FILES_DAYS * _DAY_S - now_s
    if left_s < 0:
        yield error(
            "release-closed",
            f"{release} is live for {math.floor((now_s - live.first_upload_s) / _DAY_S)} days. PyPI: 'Uploading new "
            f"files to releases older than {NEW_FILES_DAYS} days is not allowed.' (step 33)",
        )
        return
    days = math.floor(left_s / _DAY_S)
    left = "less than a day" if days < 1 else f"{days} day{'' if days == 1 else 's'}"
    yield note("adds-to-live-release", f"Adds to the live release {release}; PyPI takes new files for {left} more.")


def _sdists(file: StagedFile, siblings: Sequence[StagedFile], live: LiveRelease) -> Iterator[Finding]:
    # Step 34: 'Only one sdist may be uploaded per release.'
    if file.kind != "sdist":
        return
    if live.sdist is not None and live.sdist != file.filename:
        yield error("second-sdist", f"The release has a live sdist, {live.sdist}; PyPI takes only one (step 34).")
    for other in sorted(other.filename for other in siblings if other.kind == "sdist"):
        if other != file.filename:
            yield error("second-sdist", f"{other} is staged for the release too; PyPI takes only one sdist (step 34).")


def _contents(file: StagedFile, siblings: Sequence[StagedFile], live: LiveRelease) -> Iterator[Finding]:
    # Step 31: no content under two filenames. PyPI looks among all its files; but core metadata inside the bytes names
    # their project, so what has them is of this one.
    held = live.filename_of.get(file.sha256, file.filename)
    if held != file.filename:
        yield error(
            SAME_CONTENT,
            f"PyPI has the same bytes as {held}: 'File already exists' (step 31). Leave {file.filename} out.",
        )
    for other in sorted(other.filename for other in siblings if other.sha256 == file.sha256):
        if other != file.filename:
            yield error(
                SAME_CONTENT,
                f"{other} is staged for the release with the same bytes; of the two PyPI takes one: 'File already "
                "exists' (step 31).",
            )
