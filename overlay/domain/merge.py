"""Merge upstream's page with staged files: pure, total, deterministic.

The laws (tests/domain/test_merge.py holds them as properties): the overlay only adds, so upstream's files are a prefix
of the result, unchanged; a staged file appears once, if and only if upstream does not list its name; nothing staged
changes nothing; the order of staging is irrelevant; merging twice is merging once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from packaging.version import Version

from overlay.domain.names import CanonicalVersion, canonical_version
from overlay.domain.page import File, ProjectPage
from overlay.domain.stage import StagedFile

NOT_YANKED: Final[Mapping[CanonicalVersion, bool | str]] = {}


def merge(page: ProjectPage, staged: Sequence[File], versions: Sequence[str]) -> ProjectPage:
    """Add staged files, in order of their names, and their versions to upstream's page."""
    held = {file.filename for file in page.files}
    added = {file.filename: file for file in staged if file.filename not in held}
    if not added:
        return page
    files = page.files + tuple(added[name] for name in sorted(added))
    if page.versions is None:  # before API version 1.1 there is no such key
        return replace(page, files=files)
    return replace(page, files=files, versions=union(page.versions, versions))


def union(upstream: Sequence[str], staged: Iterable[str]) -> tuple[str, ...]:
    """Append the staged versions that upstream has in no spelling, in their PEP 440 order.

    PEP 700: "versions … MUST be unique"; upstream's spelling is kept where two are equal.
    """
    held = {_comparable(version) for version in upstream}
    new = {version for version in staged if _comparable(version) not in held}
    return (*upstream, *sorted(new, key=lambda version: (Version(version), version)))


def shown(file: StagedFile, files_base: str, yanked: Mapping[CanonicalVersion, bool | str] = NOT_YANKED) -> File:
    """Form the simple API's noun for a staged file.

    `files_base` leads from the page to the view's root; `yanked` has upstream's word per version, which a staged file
    of that version inherits (PEP 592 is about releases at PyPI).
    """
    url = f"{files_base}files/{file.project}/{file.upload_id}/{quote(file.filename, safe='+')}"
    return File(
        filename=file.filename,
        url=url,
        hashes={"sha256": file.sha256},  # pip checks only the first hash of a page
        requires_python=file.requires_python,
        # PEP 658: the sidecar is byte for byte the wheel's METADATA; an sdist's PKG-INFO need not be static.
        core_metadata={"sha256": file.metadata_sha256} if file.kind == "wheel" else None,
        yanked=yanked.get(canonical_version(file.version), False) if yanked else False,
        size=file.size_bytes,
        upload_time=timestamp(file.staged_at_us),
    )


def timestamp(at_us: int) -> str:
    """Form PEP 700's `upload-time`: UTC with a literal Z; installers reject other forms."""
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(microsecond=at_us % 1_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _comparable(version: str) -> Version | str:
    try:
        return Version(version)
    except ValueError:  # old uploads have versions that PEP 440 does not know, or of thousands of digits
        return version
