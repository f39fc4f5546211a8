"""What the scripted PyPI has: projects, releases, and files on disk."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version


@dataclass(frozen=True, kw_only=True)
class Digests:
    """What a file's bytes are known by, in hex."""

    md5: str
    sha256: str
    blake2_256: str


@dataclass(kw_only=True)
class ShelvedFile:
    """One file."""

    filename: str
    path: Path
    size_bytes: int
    digests: Digests
    uploaded_at_s: float
    metadata: bytes | None
    """METADATA of a wheel."""
    attested: bool = False
    visible_from: float = 0
    """Its project page's requests after which it is on the page; infinite: not until it is shown."""

    @property
    def is_sdist(self) -> bool:
        return not self.filename.endswith(".whl")

    @property
    def url_path(self) -> str:
        """The path of its URL, formed as pypi.org does."""
        digest = self.digests.blake2_256
        return f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{self.filename}"


@dataclass(kw_only=True)
class Release:
    """One version; its metadata is that of its first file."""

    version: str
    created_at_s: float
    requires_python: str | None = None
    yanked: bool | str = False
    files: dict[str, ShelvedFile] = field(default_factory=dict)


@dataclass(kw_only=True)
class ShelvedProject:
    """One project."""

    name: str
    """As the last upload spelled it."""
    owners: frozenset[str]
    status: str = "active"
    status_reason: str = ""
    serial: int = 0
    page_requests: int = 0
    appeared_with: ShelvedFile | None = None
    """The upload that made it; its page is not there before the file is."""
    releases: dict[Version, Release] = field(default_factory=dict)

    @property
    def normalized(self) -> str:
        return canonicalize_name(self.name)

    @property
    def files(self) -> list[ShelvedFile]:
        return [file for release in self.releases.values() for file in release.files.values()]

    def visible(self, file: ShelvedFile) -> bool:
        return file.visible_from <= self.page_requests


class Shelves:
    """All projects by normalized name, and the names that are used up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.projects: dict[str, ShelvedProject] = {}
        self.burned: set[str] = set()
        """Names of files that were there, whether or not they still are."""
        self.serial = 0
        self.lag_requests: int | None = 0
        self.wrong_digests: dict[str, str] = {}
        """Filename to the sha256 that the page says."""

    def project(self, name: str) -> ShelvedProject | None:
        return self.projects.get(canonicalize_name(name))

    def create(self, name: str, owners: frozenset[str]) -> ShelvedProject:
        project = ShelvedProject(name=name, owners=owners)
        self.projects[project.normalized] = project
        self.touch(project)
        return project

    def touch(self, project: ShelvedProject) -> None:
        """Note a change."""
        self.serial += 1
        project.serial = self.serial

    def put(self, project: ShelvedProject, version: Version, file: ShelvedFile, *, requires_python: str | None) -> None:
        """Add a file, moving it from where it lies now."""
        release = project.releases.get(version)
        if release is None:
            release = Release(version=str(version), created_at_s=file.uploaded_at_s, requires_python=requires_python)
            project.releases[version] = release
        place = self.folder / f"{len(self.burned)}-{file.digests.sha256}"
        shutil.move(file.path, place)
        file.path = place
        release.files[file.filename] = file
        self.burned.add(file.filename)
        self.touch(project)

    def visible_from(self, project: ShelvedProject) -> float:
        """Say when a file that is stored now will be on its page."""
        if self.lag_requests is None:
            return float("inf")
        return project.page_requests + self.lag_requests + 1 if self.lag_requests else 0

    def find(self, filename: str) -> tuple[ShelvedProject, Release, ShelvedFile] | None:
        for project in self.projects.values():
            for release in project.releases.values():
                if filename in release.files:
                    return project, release, release.files[filename]
        return None

    def with_content(self, blake2_256: str) -> ShelvedFile | None:
        """Find the file with these bytes, in any project."""
        for project in self.projects.values():
            for file in project.files:
                if file.digests.blake2_256 == blake2_256:
                    return file
        return None
