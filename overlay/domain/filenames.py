"""Filenames of distribution files, parsed; what `parse` returns is safe as one path component and one URL segment.

Theory: a list of what is allowed proves more than a list of what is not. The letters below occur in every file of
PyPI that installers take; none of them is a separator, a control character, a quote, a percent sign or a blank, and
the first one is a letter or digit, so the name is neither hidden, nor `.` or `..`, nor an option of a command. The
checks before the list exist only so that the usual mistakes get their own sentence.
"""

import re
from dataclasses import dataclass
from typing import Final

from packaging.tags import Tag
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

from overlay.domain.errors import BadUpload, InvalidName
from overlay.domain.names import NormalizedName, project_name
from overlay.domain.stage import Kind

# ext4, XFS, APFS and NTFS all end at 255; the sidecar's suffix is checked against the same limit.
LONGEST_FILENAME_BYTES: Final = 255 - len(".metadata")

_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
_QUOTED: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionName:
    """What a filename says of its file."""

    filename: str
    kind: Kind
    project: NormalizedName
    version: str
    """PEP 440, normalized."""
    spelled_project: str
    """The project as the filename spells it."""
    spelled_version: str
    tags: frozenset[Tag] = frozenset()
    """Empty for sdists."""


def parse(filename: str) -> DistributionName:
    """Read a wheel's or sdist's name. Raises BadUpload, saying what is wrong with it."""
    _check_letters(filename)
    if filename.endswith(".whl"):
        return _wheel(filename)
    # legacy-upload §3 step 25: PyPI's form takes `.zip` as an sdist too (and refuses it later, PEP 625); pip and uv
    # install it, so it can be staged.
    if filename.endswith((".tar.gz", ".zip")):
        return _sdist(filename)
    raise BadUpload(f"{filename!r} is neither a wheel (.whl) nor an sdist (.tar.gz, .zip).")


def _check_letters(filename: str) -> None:
    shown = ascii(filename[:_QUOTED])
    if not filename:
        raise BadUpload("The file has no name.")
    if "/" in filename or "\\" in filename:
        raise BadUpload(f"The filename {shown} contains a slash or backslash.")
    if not filename.isprintable():
        raise BadUpload(f"The filename {shown} contains characters that cannot be printed.")
    if filename.startswith("."):
        raise BadUpload(f"The filename {shown} begins with a dot.")
    if ".." in filename:
        raise BadUpload(f"The filename {shown} contains '..'.")
    if len(filename.encode("utf-8", "replace")) > LONGEST_FILENAME_BYTES:
        raise BadUpload(f"The filename {shown}… is longer than {LONGEST_FILENAME_BYTES} bytes.")
    if not _SAFE.fullmatch(filename):
        raise BadUpload(
            f"The filename {shown} contains something other than ASCII letters, digits and . _ + ! - "
            "or does not begin with a letter or digit."
        )


def _wheel(filename: str) -> DistributionName:
    try:
        _, version, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename as err:
        raise BadUpload(
            f"{filename!r} is not the filename of a wheel (name-version[-build]-python-abi-platform.whl): {err}."
        ) from err
    spelled_project, spelled_version, _ = filename.split("-", 2)
    return DistributionName(
        filename=filename,
        kind="wheel",
        project=_project(spelled_project, filename),
        version=str(version),
        spelled_project=spelled_project,
        spelled_version=spelled_version,
        tags=tags,
    )


def _sdist(filename: str) -> DistributionName:
    try:
        _, version = parse_sdist_filename(filename)
    except InvalidSdistFilename as err:
        raise BadUpload(f"{filename!r} is not the filename of an sdist (name-version.tar.gz): {err}.") from err
    stem = filename.removesuffix(".zip").removesuffix(".tar.gz")
    spelled_project, _, spelled_version = stem.rpartition("-")
    return DistributionName(
        filename=filename,
        kind="sdist",
        project=_project(spelled_project, filename),
        version=str(version),
        spelled_project=spelled_project,
        spelled_version=spelled_version,
    )


def _project(spelled: str, filename: str) -> NormalizedName:
    try:
        return project_name(spelled)
    except InvalidName as err:
        raise BadUpload(f"{filename!r} does not begin with a valid project name.") from err
