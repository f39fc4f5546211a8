"""The nouns of the simple API, upstream's page as it came, and the pages we make (1.4; PEP 503, 592, 691, 700, 714)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Final

from overlay.domain.names import MAIN, NormalizedName, Revision, StageId, Validator

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]

NOTHING: Final[Mapping[str, JsonValue]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One distribution file of a project page."""

    filename: str
    url: str
    """Absolute, or relative to the page (PEP 503)."""
    hashes: Mapping[str, str]
    """Algorithm (a name of hashlib, lower case) to hex digest."""
    requires_python: str | None = None
    core_metadata: bool | Mapping[str, str] | None = None
    """Whether `<url>.metadata` is served, with its hashes where known (PEP 714). None: not said."""
    gpg_sig: bool | None = None
    yanked: bool | str = False
    """PEP 592: False, True, or the reason."""
    size: int | None = None
    """Bytes; mandatory from API version 1.1 on."""
    upload_time: str | None = None
    provenance: str | None = None
    extra: Mapping[str, JsonValue] = field(default_factory=lambda: NOTHING)
    """Keys we do not interpret; they pass through unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectStatus:
    """PEP 792. `status` is active, archived, quarantined or deprecated; an unknown word is kept."""

    status: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPage:
    """One project's files."""

    name: str
    files: tuple[File, ...]
    versions: tuple[str, ...] | None = None
    """None before API version 1.1."""
    status: ProjectStatus | None = None
    meta: Mapping[str, JsonValue] = field(default_factory=lambda: MappingProxyType({"api-version": "1.4"}))
    extra: Mapping[str, JsonValue] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamPage:
    """Upstream's page of one project as it came: checked once, then kept as bytes."""

    project: NormalizedName
    body: bytes | None
    """Decoded JSON of the simple API, every `url` absolute. None: upstream has no such project."""
    validator: Validator
    """sha256 of upstream's decoded body, `ABSENT` when there is none."""
    fetched_at_s: float
    """Seconds since the epoch when upstream last said so (a 304 counts)."""
    gzip: bytes | None = None
    """The body as upstream compressed it, where it did and `body` is unchanged."""
    etag: str | None = None
    last_modified: str | None = None
    last_serial: str | None = None
    """X-PyPI-Last-Serial."""

    def confirmed(self, at_s: float) -> "UpstreamPage":
        """Return the same page, said anew at this time."""
        return replace(self, fetched_at_s=at_s)


class Format(Enum):
    """A representation of a simple page; the value is its content type."""

    __hash__ = object.__hash__  # members are unique; Enum's own is written in Python, and each page asks for several
    JSON = "application/vnd.pypi.simple.v1+json"
    HTML_V1 = "application/vnd.pypi.simple.v1+html"
    HTML = "text/html"


class Encoding(Enum):
    """A content coding (RFC 9110 §8.4.1); the value is its token."""

    __hash__ = object.__hash__  # as above
    IDENTITY = "identity"
    GZIP = "gzip"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class View:
    """What a reader sees at one root URL: upstream (if `live`) merged with stages, the left one first."""

    stages: tuple[StageId, ...]
    live: bool = True

    @property
    def name(self) -> str:
        """Name the view in keys and logs; it holds stage ids, never secrets."""
        return ("live+" if self.live else "staged+") + "+".join(self.stages)

    @property
    def files_base(self) -> str:
        """Return the way from one of the view's project pages to the root, relative: `../../`."""
        return "../../" if self.live else "../../../"


MAIN_VIEW: Final = View((MAIN,))
STAGED_VIEW: Final = View((MAIN,), live=False)


@dataclass(frozen=True, slots=True)
class PageKey:
    """All that determines a page's bytes, so that a cached page is never invalidated."""

    renderer: str
    view: str
    project: str
    validator: Validator
    revisions: tuple[Revision, ...]
    format: Format
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Rendition:
    """A page in one format and one encoding. `etag` is a strong entity tag with its quotes."""

    body: bytes
    format: Format
    encoding: Encoding
    etag: str
    last_serial: str | None = None
