"""What decisions ask of upstream's page: digests, versions, yanks, status (PEP 592, 700, 792).

Versions are canonical: PyPI has one release for 1.0 and 1.0.0, whatever its files are called.

Versions are read out of the file names: a page need not list them before API version 1.1, and `versions` may hold some
without files. Full parsing of 10,746 names costs 92 ms; splitting them and parsing each version once costs a tenth.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from packaging.utils import canonicalize_version
from packaging.version import Version

from overlay.domain.names import CanonicalVersion

# PEP 792's words.
QUARANTINED: Final = "quarantined"
ARCHIVED: Final = "archived"

_SDIST: Final = (".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz", ".tar.Z", ".tar")
_BUILT: Final = (".egg", ".exe", ".msi", ".rpm", ".dmg", ".deb")
# What bdist_wininst, bdist_msi and bdist_dumb put between version and suffix: demo-1.0.win32-py2.7.exe
_PLATFORM: Final = re.compile(r"[.-](?:win32|win-amd64|win-arm64|linux-|macosx-|py[23]|noarch|\d+\.noarch).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFacts:
    """Facts of one page; a filename whose version is none (PEP 440) has none."""

    sha256_of: Mapping[str, str | None]
    """Filename to sha256 (lower-case hex), or None where the page does not say it."""
    filename_of: Mapping[str, str]
    """The other way round: sha256 to the filename, of several the first."""
    yanked: Mapping[CanonicalVersion, bool | str]
    """Version to True or the reason, of versions whose files are all yanked."""
    versions: frozenset[CanonicalVersion]
    """The versions of the listed files."""
    first_upload: Mapping[CanonicalVersion, str]
    """Version to its earliest `upload-time`, where the page has any."""
    sdists: Mapping[CanonicalVersion, str]
    """Version to the filename of its sdist."""
    status: str | None
    """The word of `project-status`."""

    @property
    def quarantined(self) -> bool:
        """Say whether upstream hides the project as unsafe (PEP 792)."""
        return self.status == QUARANTINED


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFile:
    """One file of a page, as whoever waits for it wants it."""

    sha256: str | None
    """None where the page does not say it."""
    url: str


class ListedFile(Protocol):
    """What is asked of one file of a page."""

    @property
    def filename(self) -> str:
        """The file's name."""

    @property
    def hashes(self) -> Mapping[str, str]:
        """Algorithm to hex digest."""

    @property
    def yanked(self) -> bool | str | None:
        """PEP 592."""

    @property
    def upload_time(self) -> str | None:
        """PEP 700."""


def gather(project: str, files: Iterable[ListedFile], status: str | None) -> PageFacts:
    """Collect the facts in one pass. `project` is the page's `name`, which old sdist names are split by."""
    sha256_of: dict[str, str | None] = {}
    filename_of: dict[str, str] = {}
    yanked: dict[CanonicalVersion, bool | str] = {}
    first_upload: dict[CanonicalVersion, str] = {}
    sdists: dict[CanonicalVersion, str] = {}
    canonical: dict[str, CanonicalVersion | None] = {}
    kept: set[CanonicalVersion] = set()
    prefix = _separated(project) + "-"
    for file in files:
        filename = file.filename
        sha256 = sha256_in(file.hashes)
        sha256_of[filename] = sha256
        if sha256 is not None:
            filename_of.setdefault(sha256, filename)
        raw = raw_version(filename, prefix)
        if raw not in canonical:
            canonical[raw] = _canonical(raw)
        version = canonical[raw]
        if version is None:
            continue
        if file.yanked:
            yanked.setdefault(version, file.yanked)
        else:
            kept.add(version)
        uploaded = file.upload_time
        if uploaded is not None and uploaded < first_upload.get(version, "~"):
            first_upload[version] = uploaded
        if version not in sdists and filename.endswith(_SDIST):
            sdists[version] = filename
    return PageFacts(
        sha256_of=sha256_of,
        filename_of=filename_of,
        yanked={version: word for version, word in yanked.items() if version not in kept},
        versions=frozenset(kept.union(yanked)),
        first_upload=first_upload,
        sdists=sdists,
        status=status,
    )


def sha256_in(hashes: Mapping[str, str]) -> str | None:
    """Read the sha256 off a file's hashes, in lower case: PEP 691 leaves the case of hex open."""
    sha256 = hashes.get("sha256")
    return None if sha256 is None else sha256.lower()


def raw_version(filename: str, prefix: str) -> str:
    """Cut the version out of a file name, as it is spelled there; "" or nonsense where it has none.

    `prefix` is the normalized project name and a hyphen: `a-b-1.0.tar.gz` can be split by nothing else.
    """
    if filename.endswith(".whl"):
        parts = filename.split("-", 2)
        return parts[1] if len(parts) > 1 else ""
    for suffix in _SDIST:
        if filename.endswith(suffix):
            stem = filename[: -len(suffix)]
            break
    else:
        return _built_version(filename, prefix)
    rest = _after(stem, prefix)
    return stem.rpartition("-")[2] if rest is None else rest


def _built_version(filename: str, prefix: str) -> str:
    for suffix in _BUILT:
        if filename.endswith(suffix):
            rest = _after(filename[: -len(suffix)], prefix)
            if rest is None:  # egg names escape hyphens in the project's name, so the first one ends it
                rest = filename.partition("-")[2].removesuffix(suffix)
            return _PLATFORM.sub("", rest).partition("-")[0]
    return ""


def _after(stem: str, prefix: str) -> str | None:
    return stem[len(prefix) :] if _separated(stem[: len(prefix)]) == prefix else None


def _separated(text: str) -> str:
    return text.lower().replace("_", "-").replace(".", "-")


def _canonical(raw: str) -> CanonicalVersion | None:
    try:
        return CanonicalVersion(canonicalize_version(Version(raw)))
    # PyPI still lists uploads from before PEP 440; thousands of digits are a plain ValueError.
    except ValueError:
        return None
