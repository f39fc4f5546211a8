"""Who goes first: the order in which a promotion pushes its files, so that a stop in the middle harms least.

A project goes after those that it requires: whoever installs it finds them live. In a release wheels go before the
sdist, so that no installer builds from source what is about to come as a wheel. The first file of a release that
upstream does not have goes alone: it creates the release (and the project), which two at once would race for.

Projects that require each other in a circle have no such order. They go by name then, and what is required from outside
of the circle still goes before all of it. What is required for an extra only (`core[plugins]`) is wished for before,
too; but a plugin requires its core, so in a circle only what is required always counts.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from packaging.utils import canonicalize_name
from packaging.version import Version

from overlay.domain.names import NormalizedName, ReleaseName
from overlay.domain.promotion import PlannedFile
from overlay.domain.stage import StagedFile

# PEP 508: "The identifier grammar is … letterOrDigit identifier_end*"; what comes behind a name does not matter here.
_NAME: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_QUOTED: Final = re.compile(r"\"[^\"]*\"|'[^']*'")
_MARKER: Final = re.compile(r"([()]|\band\b|\bor\b)")
_NEEDS_EXTRA: Final = re.compile(r"\bextra\b(?!\s*!=)")

_Edges = Mapping[NormalizedName, Collection[NormalizedName]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """The projects that a project's metadata names, whatever their versions and other markers say."""

    always: frozenset[NormalizedName] = frozenset()
    """Without any extra."""
    extras: frozenset[NormalizedName] = frozenset()
    """With some extra only."""


Requires = Mapping[NormalizedName, Required]


def waves(
    files: Sequence[StagedFile], *, requires: Requires, known: Collection[ReleaseName]
) -> tuple[PlannedFile, ...]:
    """Order the files and number their waves from 0.

    `requires` has what a project's metadata names, also such projects as are not promoted; `known` the releases that
    upstream has.
    """
    releases: dict[NormalizedName, dict[ReleaseName, list[StagedFile]]] = {}
    for file in sorted(files, key=lambda file: (Version(file.version), file.filename)):
        releases.setdefault(file.project, {}).setdefault(file.release, []).append(file)
    ordered = [
        wave
        for project in project_order(releases, requires)
        for release, group in releases[project].items()
        for wave in _waves_of(group, known=release in known)
    ]
    return tuple(_planned(file, number) for number, wave in enumerate(ordered) for file in wave)


def required(requires_dist: Iterable[str]) -> Required:
    """Read the values of Requires-Dist; one that cannot be read names nothing."""
    always, extras = set[NormalizedName](), set[NormalizedName]()
    for line in requires_dist:
        name = _NAME.match(line)
        if name is not None:
            found = always if _holds_without_extra(line.partition(";")[2]) else extras
            found.add(NormalizedName(canonicalize_name(name[1])))
    return Required(always=frozenset(always), extras=frozenset(extras - always))


def project_order(projects: Collection[NormalizedName], requires: Requires) -> tuple[NormalizedName, ...]:
    """Order projects so that each goes after those that it requires; the same order whatever order they come in.

    Among projects that extras hold together in a circle, only what is required always counts; among those that always
    require each other, the name does.
    """
    always = {project: required.always for project, required in requires.items()}
    either = {project: required.always | required.extras for project, required in requires.items()}
    return tuple(
        project
        for circle in _circles(projects, either)
        for tight in _circles(circle, always)
        for project in sorted(tight)
    )


def _circles(projects: Collection[NormalizedName], requires: _Edges) -> list[list[NormalizedName]]:
    """Group projects that reach each other, and put each group after those that it requires.

    Strongly connected components by Gabow's path-based search, in one pass over all edges: a group is complete, and its
    requirements are, when the search leaves the project by which it was entered. A path of iterators stands for
    recursion, which a chain of a thousand projects would exhaust.
    """
    among = frozenset(projects)
    groups: list[list[NormalizedName]] = []
    places: dict[NormalizedName, int] = {}  # in `open_`, while the project is there
    open_: list[NormalizedName] = []  # entered, and in no group yet
    entries: list[int] = []  # places in `open_` by which groups were entered, as far as is known
    path: list[tuple[NormalizedName, Iterator[NormalizedName]]] = []
    grouped: set[NormalizedName] = set()

    def enter(project: NormalizedName) -> None:
        places[project] = len(open_)
        entries.append(len(open_))
        open_.append(project)
        path.append((project, iter(sorted(among.intersection(requires.get(project, ()))))))

    for start in sorted(among):
        if start not in places:
            enter(start)
        while path:
            project, others = path[-1]
            for other in others:
                if other not in places:
                    enter(other)
                    break
                while other not in grouped and entries[-1] > places[other]:  # a circle: what was entered later is in it
                    entries.pop()
            else:
                path.pop()
                if entries[-1] == places[project]:
                    group = open_[entries.pop() :]
                    del open_[places[project] :]
                    grouped.update(group)
                    groups.append(group)
    return groups


def _holds_without_extra(marker: str) -> bool:
    """Say whether an environment marker can hold when no extra is asked for, whatever the environment; "" holds.

    `any` of the parts between `or`, in which `every` part between `and` can hold, parenthesis by parenthesis. What is
    no marker reads as something: nothing but the order of a promotion depends on it.
    """
    some, every = False, True
    outer: list[tuple[bool, bool]] = []
    for part in _MARKER.split(_QUOTED.sub("''", marker)):
        match part:
            case "(":
                outer.append((some, every))
                some, every = False, True
            case ")" if outer:
                inner = some or every
                some, every = outer.pop()
                every = every and inner
            case "or":
                some, every = some or every, True
            case _:
                every = every and _NEEDS_EXTRA.search(part) is None
    return some or every


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
