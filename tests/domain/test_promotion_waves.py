"""The waves leave nothing half done that a reader would meet."""

import time
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.names import NormalizedName, ReleaseName, canonical_version
from overlay.domain.promotion import PlannedFile
from overlay.domain.promotion_waves import Required, project_order, required, waves
from overlay.domain.stage import StagedFile
from tests.staged import staged_file

Graph = Mapping[NormalizedName, Required]


def named(text: str) -> NormalizedName:
    return NormalizedName(text)


def graph(always: Mapping[str, str], extras: Mapping[str, str] | None = None) -> Graph:
    """What projects of one letter require: {"a": "bc"} says that a requires b and c."""
    more = extras or {}
    return {
        named(one): Required(
            always=frozenset(map(named, always.get(one, ""))), extras=frozenset(map(named, more.get(one, "")))
        )
        for one in {*always, *more}
    }


def files_of(*names: str) -> list[StagedFile]:
    """Staged files by name: `a-1.0-2.whl` is a wheel of a 1.0 with the build number 2, `a-1.0.tar.gz` its sdist."""
    made = []
    for number, name in enumerate(names):
        stem = name.removesuffix(".whl").removesuffix(".tar.gz").split("-")
        tail = f"-{stem[2]}-py3-none-any.whl" if name.endswith(".whl") else ".tar.gz"
        filename = f"{stem[0]}-{stem[1]}{tail}"
        made.append(staged_file(number, project=stem[0], version=stem[1], filename=filename, content=name))
    return made


def shown(planned: Sequence[PlannedFile]) -> list[set[str]]:
    """The waves as sets of short names."""
    return [
        {file.filename.replace("-py3-none-any", "") for file in planned if file.wave == number}
        for number in range(max((file.wave for file in planned), default=-1) + 1)
    ]


def test_a_new_release_begins_with_one_wheel_and_ends_with_the_sdist() -> None:
    """The first file creates it; the other wheels go together."""
    files = files_of("a-1.0.tar.gz", "a-1.0-2.whl", "a-1.0-1.whl", "a-1.0-3.whl")
    assert shown(waves(files, requires={}, known=())) == [
        {"a-1.0-1.whl"},
        {"a-1.0-2.whl", "a-1.0-3.whl"},
        {"a-1.0.tar.gz"},
    ]


def test_wheels_of_a_release_that_upstream_has_go_together() -> None:
    """Nothing is to be created any more."""
    files = files_of("a-1.0-1.whl", "a-1.0-2.whl")
    known = [ReleaseName(NormalizedName("a"), "1.0")]
    assert shown(waves(files, requires={}, known=known)) == [{"a-1.0-1.whl", "a-1.0-2.whl"}]


def test_projects_go_after_what_they_require_and_versions_in_their_order() -> None:
    """1.9 before 1.10; what is required and not promoted does not matter."""
    files = files_of("a-1.0-1.whl", "b-1.10.tar.gz", "b-1.9.tar.gz", "c-1.0-1.whl")
    requires = graph({"a": "b", "b": "c", "c": "x"})
    assert shown(waves(files, requires=requires, known=())) == [
        {"c-1.0-1.whl"},
        {"b-1.9.tar.gz"},
        {"b-1.10.tar.gz"},
        {"a-1.0-1.whl"},
    ]


def test_equal_versions_are_one_release() -> None:
    """Only its first file goes alone, and no sdist before a wheel, whatever the spelling."""
    files = files_of("a-1.0-1.whl", "a-1.0.tar.gz", "a-1.0.0-2.whl")
    assert shown(waves(files, requires={}, known=())) == [{"a-1.0-1.whl"}, {"a-1.0.0-2.whl"}, {"a-1.0.tar.gz"}]
    known = [ReleaseName(named("a"), "1.0.0.0")]
    assert shown(waves(files, requires={}, known=known)) == [{"a-1.0-1.whl", "a-1.0.0-2.whl"}, {"a-1.0.tar.gz"}]


@pytest.mark.parametrize(
    ("line", "always"),
    [
        ("Plug.In", True),
        ("plug-in>=1; python_version < '3.13'", True),
        ('plug_in[fast] >=2 ; extra == "x"', False),
        ("plug-in; 'x' == extra and os_name == 'nt'", False),
        ("plug-in; (os_name == 'nt' or os_name == 'posix') and extra == 'x'", False),
        ("plug-in; extra == 'x' or extra == 'y'", False),
        ("plug-in; os_name == 'nt' or extra == 'x'", True),
        ("plug-in; (extra == 'x' and os_name == 'nt') or python_version < '3'", True),
        ("plug-in; extra != 'x'", True),
        ("plug-in; sys_platform == 'or extra == ('", True),
        ("plug-in @ https://files.example/extra/p.whl ; extra == 'x'", False),
        ("plug-in; " + "(" * 5000 + "extra == 'x'" + ")" * 5000, False),
        ("plug-in; ) or (", True),
    ],
)
def test_what_only_an_extra_requires_is_known_by_its_marker(line: str, *, always: bool) -> None:
    """In whatever environment it might hold without one; odd markers are no error."""
    names = frozenset([named("plug-in")])
    assert required([line]) == (Required(always=names) if always else Required(extras=names))


def test_what_is_required_always_is_not_an_extras_as_well() -> None:
    """Nor is a line without a name anything."""
    assert required(["b; extra == 'x'", "b", "c; extra == 'x'", "; extra == 'x'"]) == Required(
        always=frozenset([named("b")]), extras=frozenset([named("c")])
    )


def test_a_plugin_goes_after_the_core_that_has_it_for_an_extra() -> None:
    """The commonest circle is none; and without the way back the extra decides."""
    requires = {
        named("core"): required(['acme-plugin>=2; extra == "plugins"']),
        named("acme-plugin"): required(["core>=2"]),
    }
    assert project_order([named("acme-plugin"), named("core")], requires) == ("core", "acme-plugin")
    assert project_order([named("acme"), named("core")], {named("acme"): required(["core; extra == 'x'"])}) == (
        "core",
        "acme",
    )


def test_a_circle_goes_by_name_after_what_it_requires() -> None:
    """And before what requires it."""
    requires = graph({"a": "b", "b": "cz", "c": "b", "d": "b"})
    assert "".join(project_order([named(one) for one in "zdcba"], requires)) == "zbcad"


def test_where_requirements_leave_a_choice_the_name_decides() -> None:
    """In every process: sets have no order that lasts."""
    assert "".join(project_order([named(one) for one in "abcz"], {})) == "abcz"
    assert "".join(project_order([named(one) for one in "auvwxyz"], graph({"a": "zyxwvu"}))) == "uvwxyza"


def test_what_was_ordered_before_makes_no_circle() -> None:
    """Though the search meets it again."""
    assert "".join(project_order([named(one) for one in "abc"], graph({"c": "a"}, {"b": "c"}))) == "acb"


def test_a_circle_of_extras_goes_by_what_is_required_always() -> None:
    """And what one of them has for an extra from outside of it still goes before."""
    requires = graph({"a": "b", "c": "a"}, {"b": "cz"})
    assert "".join(project_order([named(one) for one in "abcz"], requires)) == "zbac"


LETTERS = "abcdefgh"
PROJECTS = st.sampled_from([named(one) for one in LETTERS])
EDGES = st.lists(PROJECTS, max_size=2)
REQUIRED = st.builds(
    lambda always, extras: Required(always=frozenset(always), extras=frozenset(extras) - frozenset(always)),
    EDGES,
    EDGES,
)
GRAPHS = st.fixed_dictionaries({named(one): REQUIRED for one in LETTERS})


def reached(edges: Mapping[NormalizedName, Collection[NormalizedName]], one: NormalizedName) -> set[NormalizedName]:
    found, waiting = set[NormalizedName](), [one]
    while waiting:
        new = set(edges.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found


@given(GRAPHS, st.permutations([named(one) for one in LETTERS]), st.integers(0, len(LETTERS)))
def test_only_circles_break_the_order_of_requirements(
    requires: dict[NormalizedName, Required], projects: list[NormalizedName], promoted: int
) -> None:
    """What is required goes first unless it requires back, if only by way of others; an extra's counts as far.

    Every project once, whatever order they come in; of requirements only those between promoted projects matter.
    """
    projects = projects[:promoted]
    ordered = project_order(projects, requires)
    assert sorted(ordered) == sorted(projects)
    assert ordered == project_order(sorted(projects), requires)
    always = {one: required.always & {*projects} for one, required in requires.items() if one in projects}
    either = {one: always[one] | (requires[one].extras & {*projects}) for one in always}
    for edges in (always, either):
        for one in projects:
            for other in reached(edges, one):
                assert one in reached(edges, other) or ordered.index(other) < ordered.index(one)


@pytest.mark.parametrize("shape", ["chain", "ring", "ring of extras"])
def test_a_thousand_projects_are_ordered_at_once(shape: str) -> None:
    """As many as an order may name, each requiring the next, against the order of their names.

    It takes some hundredths of a second of the processor; a search per project took most of a minute, in which the
    worker answers nobody.
    """
    names = [named(f"p{number:04d}") for number in range(1000)]
    requires = {one: Required(always=frozenset([other])) for one, other in pairwise(names)}
    if shape == "ring":
        requires[names[-1]] = Required(always=frozenset(names[:1]))
    elif shape == "ring of extras":
        requires[names[-1]] = Required(extras=frozenset(names[:1]))
    files = [
        staged_file(number, project=one, filename=f"{one}-1.0.tar.gz", content=one) for number, one in enumerate(names)
    ]
    began_s = time.process_time()
    planned = waves(files, requires=requires, known=())
    assert time.process_time() - began_s < 5
    assert [file.project for file in planned] == (names if shape == "ring" else names[::-1])


FILES = st.lists(
    st.builds(
        lambda project, version, tail: f"{project}-{version}{tail}",
        st.sampled_from("abc"),
        st.sampled_from(["1.0", "1.0.0", "1.9", "1.10"]),
        st.sampled_from([".tar.gz", "-1.whl", "-2.whl", "-3.whl"]),
    ),
    min_size=1,
    unique=True,
).map(lambda names: files_of(*names))
KNOWN_RELEASES = st.sets(st.builds(ReleaseName, st.sampled_from([named(one) for one in "abc"]), st.just("1.0")))


def one_of(release: ReleaseName) -> tuple[str, str]:
    """The same for all spellings of the version."""
    return release.project, canonical_version(release.version)


@given(FILES, GRAPHS, KNOWN_RELEASES)
def test_waves_push_everything_once_and_release_by_release(
    files: list[StagedFile],
    requires: dict[NormalizedName, Required],
    known: set[ReleaseName],
) -> None:
    """No sdist before its wheels, the first of a new release alone, the same waves in whatever order files come."""
    planned = waves(files, requires=requires, known=known)
    assert sorted(file.upload_id for file in planned) == sorted(file.upload_id for file in files)
    assert waves(list(reversed(files)), requires=requires, known=known) == planned
    assert {file.wave for file in planned} == set(range(planned[-1].wave + 1))
    assert all(first.wave <= second.wave for first, second in pairwise(planned))
    by_wave: dict[int, list[PlannedFile]] = {}
    for file in planned:
        by_wave.setdefault(file.wave, []).append(file)
    begun: set[tuple[str, str]] = set()
    ended: set[tuple[str, str]] = set()
    for wave in by_wave.values():
        (release,) = {one_of(file.release) for file in wave}
        assert release not in ended
        assert release in begun | set(map(one_of, known)) or len(wave) == 1
        ended |= begun - {release}
        begun.add(release)
    for sdist in (file for file in planned if file.kind == "sdist"):
        wheels = [file for file in planned if one_of(file.release) == one_of(sdist.release) and file.kind == "wheel"]
        assert all(wheel.wave < sdist.wave for wheel in wheels)
