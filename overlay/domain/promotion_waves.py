"""Who goes first: the order in which a promotion pushes its files, so that a stop in the middle harms least.

A project goes after those that it requires: whoever installs it finds them live. In a release wheels go before the
sdist, so that no installer builds from source what is about to come as a wheel. The first file of a release that
upstream does not have goes alone: it creates the release (and the project), which two at once would race for.

Projects that require each other in a circle have no such order. They go by name then, and what is required from outside
of the circle still goes before all of it.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from packaging.utils import canonicalize_name
from packaging.version import Version

from overlay.domain.names import NormalizedName
from overlay.domain.promotion import PlannedFile, ReleaseName
from overlay.domain.stage import StagedFile

# PEP 508: "The identifier grammar is … letterOrDigit identifier_end*"; what comes behind a name does not matter here.
_NAME: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")

Requires = Mapping[NormalizedName, Collection[NormalizedName]]


def waves(
    files: Sequence[StagedFile], *, requires: Requires, known: Collection[ReleaseName]
) -> tuple[PlannedFile, ...]:
    """Order the files and number their waves from 0.

    `requires` has the projects that a project's metadata names, also such as are not promoted; `known` the releases
    that upstream has.
    """
    by_release: dict[ReleaseName, list[StagedFile]] = {}
    for file in sorted(files, key=lambda file: (Version(file.version), file.filename)):
        by_release.setdefault(ReleaseName(file.project, file.version), []).append(file)
    ordered = [
        wave
        for project in project_order({file.project for file in files}, requires)
        for release, group in by_release.items()
        if release.project == project
        for wave in _waves_of(group, known=release in known)
    ]
    return tuple(_planned(file, number) for number, wave in enumerate(ordered) for file in wave)


def required(requires_dist: Iterable[str]) -> frozenset[NormalizedName]:
    """Return the projects that Requires-Dist names, whatever their markers, extras and versions say."""
    found = [_NAME.match(line) for line in requires_dist]
    return frozenset(NormalizedName(canonicalize_name(name[1])) for name in found if name is not None)


def project_order(projects: Collection[NormalizedName], requires: Requires) -> tuple[NormalizedName, ...]:
    """Order projects so that each goes after those that it requires, by name where that leaves a choice."""
    direct = {one: {other for other in requires.get(one, ()) if other in projects} - {one} for one in projects}
    reached = {one: _reached(one, direct) for one in projects}
    left, ordered = sorted(projects), list[NormalizedName]()
    while left:
        # What a project waits for: all that it requires, but for those that require it, too.
        first = next(
            one for one in left if not any(other in left and one not in reached[other] for other in reached[one])
        )
        left.remove(first)
        ordered.append(first)
    return tuple(ordered)


def _reached(start: NormalizedName, direct: Mapping[NormalizedName, Collection[NormalizedName]]) -> set[NormalizedName]:
    """Follow the requirements to their ends; a project in a circle reaches itself."""
    found: set[NormalizedName] = set()
    waiting = [start]
    while waiting:
        new = set(direct[waiting.pop()]) - found
        found |= new
        waiting += new
    return found


def _waves_of(files: Sequence[StagedFile], *, known: bool) -> Iterator[Sequence[StagedFile]]:
    wheels = [file for file in files if file.kind == "wheel"]
    if wheels and not known:
        yield wheels[:1]
        wheels = wheels[1:]
    if wheels:
        yield wheels
    for file in files:  # one sdist a release; more, where the target takes them, one after the other
        if file.kind == "sdist":
            yield [file]


def _planned(file: StagedFile, wave: int) -> PlannedFile:
    return PlannedFile(
        project=file.project,
        version=file.version,
        filename=file.filename,
        kind=file.kind,
        upload_id=file.upload_id,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        wave=wave,
    )
