"""From what is staged to the models of the pages; pure. Nothing that came with an upload ever becomes a link."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from packaging.version import Version

from overlay.domain.findings import Finding, Severity
from overlay.domain.listing import Standing, Visibility, visibility
from overlay.domain.merge import timestamp
from overlay.domain.quantities import count_words, minute_words, size_words
from overlay.domain.stage import StagedFile
from overlay.domain.to_wire import file_path
from overlay.domain.wire import API, ReleasePromotionView
from overlay.services.releases import Latest, ListedProject, Release, StagedEntry
from overlay.web.models import (
    ErrorModel,
    FileRow,
    FindingGroup,
    FindingLine,
    Frame,
    HelpModel,
    HomeModel,
    InstallLines,
    Link,
    ProjectModel,
    ReleaseModel,
    StagedProject,
    VersionSection,
)
from overlay.web.page_promotions import promotion_model
from overlay.web.site import Site, live_link, project_href, release_href

MOST_VERSIONS: Final = 10

STANDINGS: Final = {
    Standing.STAGED: "Listed here; upstream does not have it.",
    Standing.LIVE: "Upstream has the same bytes: its entry is listed, and this copy has stepped back.",
    Standing.CONFLICT: "Upstream has other bytes under this name: this copy is neither listed nor served.",
    Standing.QUARANTINED: "Upstream has quarantined the project: nothing of it is listed or served here.",
    Standing.FOREIGN: (
        "Staged with a token for *, but upstream has a project of this name with files that were never staged here: "
        "neither listed nor served. An admin can make a token that names the project."
    ),
    Standing.REPLACED: "Replaced by a later upload: no longer listed, served a little longer.",
    Standing.ENDED: "Ended: neither listed nor served.",
}
"""Each standing in words; total."""

HEADINGS: Final = {
    Severity.ERROR: "PyPI would refuse",
    Severity.WARNING: "PyPI would take it, and you might regret it",
    Severity.NOTE: "Worth knowing",
}
"""Each severity as a heading, the gravest first; total."""

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_CREDENTIALS: Final = ' -u __token__ -p "$OVERLAY_TOKEN" dist/*'


def home(site: Site, latest: Latest) -> HomeModel:
    """Form the home page, the project that something was staged for last first."""
    count = max(latest.count, len(latest.projects))  # counted a moment before
    latest_first = sorted(latest.projects, key=lambda listed: (-_latest_us(listed), listed.staged.project))
    return HomeModel(
        frame=_frame(site, "What is staged"),
        install=_install(site, "PROJECT"),
        upload=_upload(site),
        read_open=site.read_open,
        projects=tuple(_staged_project(site, listed) for listed in latest_first),
        project_count=count_words(count, "project"),
        more_projects=count - len(latest.projects),
    )


def project(site: Site, name: str, entries: Sequence[StagedEntry]) -> ProjectModel:
    """Form a project's page from its staged files, at least one."""
    versions = _newest_first(entry.file for entry in entries)
    return ProjectModel(
        frame=_frame(site, name),
        project=name,
        install=_install(site, f"{name}=={versions[0]}"),
        versions=tuple(
            VersionSection(
                Link(version, release_href(site, name, version)),
                tuple(_row(site, entry.file, entry.standing) for entry in entries if entry.file.version == version),
            )
            for version in versions
        ),
        file_count=count_words(len(entries), "file"),
        live=live_link(site, name),
    )


def release(site: Site, staged: Release, promotion: ReleasePromotionView | None = None) -> ReleaseModel:
    """Form a release's page; `promotion` is the one under way, else the last one."""
    requirement = f"{staged.project}=={staged.version}"
    quoted = shlex.quote(requirement)
    return ReleaseModel(
        frame=_frame(site, f"{staged.project} {staged.version}"),
        project=staged.project,
        version=staged.version,
        project_href=project_href(site, staged.project),
        install=_install(site, requirement),
        files=tuple(_row(site, entry.file, entry.standing) for entry in staged.entries),
        file_count=count_words(len(staged.entries), "file"),
        findings=_groups([(entry.file.filename, found) for entry in staged.entries for found in entry.findings]),
        upstream_known=staged.upstream_known,
        promotion=None if promotion is None else promotion_model(site, promotion, quoted),
        compare=f"overlay show {quoted} --sums | (cd dist && sha256sum -c)",
        withdraw=f"overlay withdraw {quoted}",
        live=live_link(site, staged.project),
    )


def help_page(site: Site) -> HelpModel:
    """Form the help page."""
    return HelpModel(
        frame=_frame(site, "Help"),
        install=_install(site, "PROJECT"),
        upload=_upload(site),
        uv_upload=shlex.join(["uv", "publish", "--publish-url", f"{site.root}/legacy/"])
        + ' --token "$OVERLAY_TOKEN" dist/*',
        simple_url=f"{site.root}/simple/",
        upload_url=f"{site.root}/legacy/",
        overlay_url=shlex.quote(site.root),
        document_href=f"{site.prefix}{API}/openapi.json",
        read_open=site.read_open,
    )


def error(site: Site, title: str, sentence: str, links: Sequence[Link] = ()) -> ErrorModel:
    """Form an error's page."""
    return ErrorModel(frame=_frame(site, title), sentence=sentence, links=tuple(links))


def _frame(site: Site, title: str) -> Frame:
    return Frame(
        title=title,
        home_href=f"{site.prefix}/",
        help_href=f"{site.prefix}/help",
        upstream_url=site.upstream_url,
        version=site.version,
    )


def _install(site: Site, requirement: str) -> InstallLines:
    simple = f"{site.root}/simple/"
    address = urlsplit(site.root)
    host = address.hostname or ""
    # pip ignores an index on http beyond this machine unless its host is trusted; uv asks for nothing (clients §7).
    trusted = ["--trusted-host", host] if address.scheme == "http" and host not in _LOOPBACK else []
    return InstallLines(
        pip=shlex.join(["pip", "install", "--index-url", simple, *trusted, requirement]),
        uv=shlex.join(["uv", "pip", "install", "--default-index", simple, requirement]),
    )


def _upload(site: Site) -> str:
    return shlex.join(["twine", "upload", "--repository-url", f"{site.root}/legacy/"]) + _CREDENTIALS


def _staged_project(site: Site, listed: ListedProject) -> StagedProject:
    name = listed.staged.project
    versions = _newest_first(entry.file for entry in listed.entries)
    counts = Counter(entry.standing for entry in listed.entries)
    standings = ", ".join(f"{counts[standing]} {standing.value}" for standing in Standing if counts[standing])
    staged_at = timestamp(_latest_us(listed))
    return StagedProject(
        name=name,
        href=project_href(site, name),
        versions=tuple(Link(version, release_href(site, name, version)) for version in versions[:MOST_VERSIONS]),
        more_versions=max(len(versions) - MOST_VERSIONS, 0),
        standings=standings or count_words(listed.staged.file_count, "file"),
        staged_at=staged_at,
        staged_words=minute_words(staged_at),
    )


def _row(site: Site, file: StagedFile, standing: Standing) -> FileRow:
    staged_at = timestamp(file.staged_at_us)
    return FileRow(
        filename=file.filename,
        href="" if visibility(standing) is Visibility.DENIED else site.prefix + file_path(file),
        size=size_words(file.size_bytes),
        sha256=file.sha256,
        requires_python=file.requires_python or "",
        standing=standing.value,
        standing_words=STANDINGS[standing],
        staged_at=staged_at,
        staged_words=minute_words(staged_at),
        who=file.who,
    )


def _groups(found: Iterable[tuple[str, Finding]]) -> tuple[FindingGroup, ...]:
    """Group by severity; what is said of several files is said once."""
    lines: dict[Severity, dict[tuple[str, str], list[str]]] = {severity: {} for severity in HEADINGS}
    for filename, finding in found:
        lines[finding.severity].setdefault((finding.rule, finding.sentence), []).append(filename)
    return tuple(
        FindingGroup(
            HEADINGS[severity],
            tuple(FindingLine(rule, sentence, tuple(names)) for (rule, sentence), names in said.items()),
        )
        for severity, said in lines.items()
        if said
    )


def _newest_first(files: Iterable[StagedFile]) -> list[str]:
    return sorted({file.version for file in files}, key=lambda version: (Version(version), version), reverse=True)


def _latest_us(listed: ListedProject) -> int:
    return max((entry.file.staged_at_us for entry in listed.entries), default=listed.staged.staged_at_us)
