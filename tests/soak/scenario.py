"""What the clients of a soak act on: a few projects at a time, some of which upstream has too, and bytes to upload."""

import random
import zipfile
from collections import deque
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

from tests.builders import EPOCH, Built, metadata, wheel
from tests.fakes.index import ScriptedIndex

FAMILY: Final = "soak-"
"""What the names of all projects begin with."""
ACTS_EACH: Final = 90
"""After about so many acts a project is left as it is: what is checked for one name grows with its acts."""
LARGE_BYTES: Final = 9 * 1024 * 1024
"""More than one part of a multipart upload."""
_KEPT: Final = 3
_KEPT_BYTES: Final = 200_000
_LINKS: Final = 200
_NOISE: Final = random.Random(0).randbytes(LARGE_BYTES)


@dataclass(frozen=True)
class Project:
    """A project with one file a version."""

    name: str
    """Normalized."""
    filenames: tuple[str, ...]
    live: Built | None
    """What upstream lists of it, always."""

    def version(self, filename: str) -> str:
        return filename.split("-")[1]


@dataclass(frozen=True)
class Link:
    """A staged file as some page linked it."""

    project: str
    filename: str
    upload: str
    sha256: str


@dataclass
class Scenario:
    """The projects of one run; clients share it, each with dice of its own."""

    index: ScriptedIndex
    dice: random.Random
    names: int
    """Projects that clients act on at a time; few, so that they meet."""
    projects: list[Project] = field(default_factory=list)
    links: deque[Link] = field(default_factory=lambda: deque(maxlen=_LINKS))
    _active: list[Project] = field(default_factory=list)
    _sent: dict[str, deque[Built]] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _made: int = 0

    def pick(self, dice: random.Random) -> Project:
        """Choose one of the active projects, and retire one now and then."""
        while len(self._active) < self.names:
            self._active.append(self._new())
        if self.dice.randrange(ACTS_EACH) == 0:
            self._active[self.dice.randrange(self.names)] = self._new()
        return dice.choice(self._active)

    def some_names(self) -> list[Project]:
        """Return the active projects."""
        return list(self._active)

    def build(self, dice: random.Random, project: Project, filename: str, *, once: bool = False) -> Built:
        """Make bytes for a filename: mostly new ones, at times those of an earlier upload, rarely large ones.

        `once`: new ones, which no other upload has.
        """
        sent = self._sent.setdefault(filename, deque(maxlen=_KEPT))
        if sent and not once and dice.random() < 0.2:
            return dice.choice(sent)
        self._made += 1
        version, payload = project.version(filename), f"upload {self._made}".encode()
        size = dice.choice((10, 1000, 1000, 100_000))
        if dice.random() < 0.01:
            return _large(project.name, version, payload)
        noise = {f"{project.name}/noise": dice.randbytes(size)}
        built = wheel(project.name, version, payload=payload, metadata_body=_plain(project.name, version), files=noise)
        if len(built.body) < _KEPT_BYTES and not once:
            sent.append(built)
        return built

    def link(self, link: Link) -> None:
        """Remember where a file was linked."""
        if link.upload not in self._seen:
            self._seen.add(link.upload)
            self.links.append(link)

    def _new(self) -> Project:
        number = len(self.projects)
        name = f"{FAMILY}{number}"
        live = wheel(name, "0.9") if number % 3 == 0 else None
        if live is not None:
            self.index.add(live)
        versions = ("1.0", "2.0") if number % 4 == 1 else ("1.0",)
        stem = name.replace("-", "_")
        project = Project(name, tuple(f"{stem}-{version}-py3-none-any.whl" for version in versions), live)
        self.projects.append(project)
        return project


def _plain(name: str, version: str) -> bytes:
    return metadata(name, version, extra_lines=("Description-Content-Type: text/plain",))


def _large(name: str, version: str, payload: bytes) -> Built:
    """Build it without compression, which would hold up every client."""
    small = wheel(name, version, payload=payload, metadata_body=_plain(name, version))
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(small.body)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}/noise", EPOCH), _NOISE)
        for member in source.namelist():
            archive.writestr(zipfile.ZipInfo(member, EPOCH), source.read(member))
    return Built(small.filename, buffer.getvalue())
