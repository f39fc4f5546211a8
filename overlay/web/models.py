"""What the pages for people show: one frozen model per template, complete, so that a template calls nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """A link; `href` is percent-encoded."""

    label: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands around every page."""

    title: str
    home_href: str
    help_href: str
    upstream_url: str
    version: str


@dataclass(frozen=True, slots=True)
class InstallLines:
    """Command lines that install from this overlay, ready to be copied."""

    pip: str
    uv: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedProject:
    """One project on the home page."""

    name: str
    href: str
    versions: tuple[Link, ...]
    """The newest first; () where so many files are staged that only the project's own page tells their versions."""
    more_versions: int
    """How many are not among `versions`."""
    standings: str
    """`2 staged, 1 live`; `20,000 files` where there are no versions."""
    staged_at: str
    """RFC 3339, of the latest file; `staged_words` says it to people."""
    staged_words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeModel:
    """home.html."""

    frame: Frame
    install: InstallLines
    upload: str
    read_open: bool
    projects: tuple[StagedProject, ...]
    """The latest first."""
    project_count: str
    more_projects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """One staged file."""

    filename: str
    href: str
    """Empty when the file is not served."""
    size: str
    sha256: str
    requires_python: str
    """Empty when the metadata has none."""
    standing: str
    standing_words: str
    staged_at: str
    staged_words: str
    who: str


@dataclass(frozen=True, slots=True)
class VersionSection:
    """One staged version on the project's page."""

    release: Link
    files: tuple[FileRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectModel:
    """project.html; the newest version first."""

    frame: Frame
    project: str
    install: InstallLines
    versions: tuple[VersionSection, ...]
    file_count: str
    live: Link


@dataclass(frozen=True, slots=True)
class FindingLine:
    """One finding, and the files it is about."""

    rule: str
    sentence: str
    filenames: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """The findings of one severity."""

    heading: str
    lines: tuple[FindingLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionModel:
    """The promotion that a release is in, or the last one that it was in."""

    state: str
    """running, waiting, live or abandoned."""
    words: str
    who: str
    since: str
    """RFC 3339; `since_words` says it to people."""
    since_words: str
    abandon: str
    """The command line that gives it up; empty unless it waits."""
    target: str
    others: str
    """The other releases that are promoted with it; empty where there are none."""
    ended: str
    """RFC 3339, `ended_words` says it to people, `ended_by` who did; all empty while it goes on."""
    ended_words: str
    ended_by: str
    href: str
    """Where the API has all of it; once it ended, its receipt."""
    files: tuple[tuple[str, str], ...]
    """Filename, and how far it came, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseModel:
    """release.html."""

    frame: Frame
    project: str
    version: str
    project_href: str
    install: InstallLines
    files: tuple[FileRow, ...]
    file_count: str
    findings: tuple[FindingGroup, ...]
    """The gravest first; empty when nothing was found."""
    upstream_known: bool
    promotion: PromotionModel | None
    """The one under way, else the last one."""
    compare: str
    withdraw: str
    live: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpModel:
    """help.html."""

    frame: Frame
    install: InstallLines
    upload: str
    uv_upload: str
    simple_url: str
    upload_url: str
    overlay_url: str
    document_href: str
    read_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorModel:
    """error.html; `links` lead on from here."""

    frame: Frame
    sentence: str
    links: tuple[Link, ...]
