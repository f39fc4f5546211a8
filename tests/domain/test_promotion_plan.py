"""The preflight settles every pledge, and the waves leave nothing half done that a reader would meet."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import BadUpload
from overlay.domain.findings import Finding, Severity, error, note, warning
from overlay.domain.names import MAIN, NormalizedName, Revision
from overlay.domain.page_facts import PageFacts
from overlay.domain.promotion import PlannedFile, ReleaseName
from overlay.domain.promotion_plan import Candidate, Preflight, Rules, assign, preflight
from overlay.domain.promotion_target import rules_at, target_of
from overlay.domain.promotion_waves import project_order, waves
from overlay.domain.rules_release import LiveRelease
from overlay.domain.stage import StagedFile, StageSnapshot
from tests.staged import DEMO, digest, staged_file

NOW_S = 1_800_000_000.0
RELEASE = ReleaseName(DEMO, "1.0")
WHEEL = staged_file(1)
SOURCE = staged_file(2, filename="demo-1.0.tar.gz", content="source")
NEW = LiveRelease(exists=False, project_exists=False)
KNOWN = LiveRelease(exists=False, project_exists=True)


def page(sha256_of: Mapping[str, str | None] | None = None, status: str = "active") -> PageFacts:
    return PageFacts(
        sha256_of=sha256_of or {}, yanked={}, versions=frozenset(), first_upload={}, sdists={}, status=status
    )


def candidate(
    *staged: StagedFile,
    pledges: Mapping[str, str] | None = None,
    upstream: PageFacts | None = None,
    live: LiveRelease | None = None,
    findings: Mapping[str, Sequence[Finding]] | None = None,
) -> Candidate:
    """Without `pledges` every staged file is pledged as it is."""
    return Candidate(
        release=RELEASE,
        pledges={file.filename: file.sha256 for file in staged} if pledges is None else pledges,
        snapshot=StageSnapshot(DEMO, MAIN, Revision("r"), staged),
        upstream=upstream,
        live=live or (NEW if upstream is None else replace(KNOWN, status=upstream.status)),
        findings=findings or {},
    )


def decided(
    one: Candidate, *, rules: Rules = Rules.PYPI, partial: bool = False, ignore_rules: Collection[str] = ()
) -> Preflight:
    return preflight(one, rules=rules, partial=partial, ignore_rules=ignore_rules, now_s=NOW_S)


def refused(found: Preflight) -> list[tuple[str, str]]:
    assert all(refusal.sentence.endswith((".", refusal.rule)) for refusal in found.refusals)
    return [(refusal.rule, refusal.filename) for refusal in found.refusals]


def test_what_is_staged_as_pledged_is_to_be_pushed() -> None:
    """In order of the names, without a word against it."""
    assert decided(candidate(WHEEL, SOURCE)) == Preflight(files=(WHEEL, SOURCE))


def test_what_is_live_as_pledged_is_done() -> None:
    """Whether it is still staged, staged with other bytes, or gone from here."""
    upstream = page({WHEEL.filename: WHEEL.sha256})
    pledges = {WHEEL.filename: WHEEL.sha256}
    for staged in ((), (WHEEL,), (replace(WHEEL, sha256=digest("another build")),)):
        assert decided(candidate(*staged, pledges=pledges, upstream=upstream)) == Preflight(live=(WHEEL.filename,))


@pytest.mark.parametrize("held", [digest("other bytes"), None])
def test_other_bytes_live_are_a_refusal(held: str | None) -> None:
    """Unknown ones, too: nobody could tell afterwards what was promoted."""
    found = decided(candidate(WHEEL, upstream=page({WHEEL.filename: held})), rules=Rules.PLAIN)
    assert refused(found) == [("live-differs", WHEEL.filename)]
    assert str(held or "does not say") in found.refusals[0].sentence


def test_a_pledge_that_differs_from_what_is_staged_says_the_usual_cause() -> None:
    """With both digests."""
    other = digest("another build")
    found = decided(candidate(WHEEL, pledges={WHEEL.filename: other}))
    assert refused(found) == [("pledge-differs", WHEEL.filename)]
    for words in (other, WHEEL.sha256, "dist/ was built again; use the build job's artifact"):
        assert words in found.refusals[0].sentence


def test_a_pledge_that_is_nowhere_is_refused() -> None:
    """Neither staged nor live."""
    found = decided(candidate(WHEEL, pledges={WHEEL.filename: WHEEL.sha256, SOURCE.filename: SOURCE.sha256}))
    assert refused(found) == [("not-staged", SOURCE.filename)]


def test_a_staged_file_that_is_not_named_is_refused_unless_partial() -> None:
    """Forgetting the sdist is no release; leaving it out on purpose is one."""
    one = candidate(WHEEL, SOURCE, pledges={WHEEL.filename: WHEEL.sha256})
    assert refused(decided(one)) == [("not-named", SOURCE.filename)]
    assert decided(one, partial=True) == Preflight(files=(WHEEL,))


def test_a_copy_of_what_is_live_need_not_be_named() -> None:
    """It has stepped back already."""
    upstream = page({SOURCE.filename: SOURCE.sha256})
    one = candidate(WHEEL, SOURCE, pledges={WHEEL.filename: WHEEL.sha256}, upstream=upstream)
    assert decided(one) == Preflight(files=(WHEEL,))


def test_other_versions_do_not_matter() -> None:
    """They are other releases."""
    later = staged_file(3, version="1.1", filename="demo-1.1-py3-none-any.whl")
    assert decided(candidate(WHEEL, later, pledges={WHEEL.filename: WHEEL.sha256})).refusals == ()


@pytest.mark.parametrize("rules", list(Rules))
def test_a_quarantined_project_is_refused_whatever_is_ignored(rules: Rules) -> None:
    """In one sentence for the release."""
    one = candidate(WHEEL, SOURCE, upstream=page(status="quarantined"))
    found = decided(one, rules=rules, ignore_rules=["project-quarantined"])
    assert refused(found) == [("project-quarantined", "")]


@pytest.mark.parametrize("rules", list(Rules))
def test_an_archived_project_is_refused_once_for_all_its_files(rules: Rules) -> None:
    """By every target, and may be ignored."""
    one = candidate(WHEEL, SOURCE, upstream=page(status="archived"))
    assert refused(decided(one, rules=rules)) == [("project-archived", "")]
    found = decided(one, rules=rules, ignore_rules=["project-archived"])
    assert (found.refusals, [ignored.rule for ignored in found.ignored]) == ((), ["project-archived"])


@pytest.mark.parametrize("rules", list(Rules))
def test_what_is_live_of_an_archived_project_is_done(rules: Rules) -> None:
    """Nothing is pushed to it."""
    upstream = page({WHEEL.filename: WHEEL.sha256}, status="archived")
    assert decided(candidate(WHEEL, upstream=upstream), rules=rules) == Preflight(live=(WHEEL.filename,))


def test_what_a_token_for_everything_staged_is_not_promoted_beside_foreign_files() -> None:
    """The protection against dependency confusion; another grant is none of it."""
    upstream = page({"demo-0.9.tar.gz": digest("somebody else's")})
    assert refused(decided(candidate(replace(WHEEL, grant="*"), upstream=upstream))) == [
        ("foreign-project", WHEEL.filename)
    ]
    assert decided(candidate(WHEEL, upstream=upstream)).refusals == ()


def test_a_rule_of_the_target_refuses_the_file_it_is_about() -> None:
    """Only an error does; the rest is said."""
    findings = {WHEEL.sha256: [error("bad", "Bad."), warning("odd", "Odd."), note("by-the-way", "By the way.")]}
    found = decided(candidate(WHEEL, SOURCE, findings=findings))
    assert refused(found) == [("bad", WHEEL.filename)]
    assert found.warnings == (f"{WHEEL.filename}: Odd.", f"{WHEEL.filename}: By the way.")
    assert decided(candidate(WHEEL, SOURCE, findings=findings), rules=Rules.PLAIN) == Preflight(files=(WHEEL, SOURCE))


def test_an_ignored_rule_stands_in_the_plan() -> None:
    """With what was ignored; other errors go on being refusals."""
    findings = {WHEEL.sha256: [error("bad", "Bad."), error("worse", "Worse.")]}
    found = decided(candidate(WHEEL, findings=findings), ignore_rules=["bad", "pledge-differs"])
    assert refused(found) == [("worse", WHEEL.filename)]
    assert [(one.rule, one.filename, one.sentence) for one in found.ignored] == [("bad", WHEEL.filename, "Bad.")]


def test_a_closed_release_is_refused_once_and_an_open_one_warned_of() -> None:
    """The 14 days count for all its files alike."""
    closed = LiveRelease(exists=True, first_upload_s=NOW_S - 15 * 86_400, project_exists=True)
    upstream = page({"demo-1.0-py2-none-any.whl": digest("the first one")})
    assert refused(decided(candidate(WHEEL, SOURCE, upstream=upstream, live=closed))) == [("release-closed", "")]
    still_open = replace(closed, first_upload_s=NOW_S - 86_400)
    (said,) = decided(candidate(WHEEL, SOURCE, upstream=upstream, live=still_open)).warnings
    assert "takes new files for 13 days more" in said


def test_a_staged_sdist_that_is_left_out_is_no_second_one() -> None:
    """Only what is pushed meets at the target."""
    zipped = staged_file(3, filename="demo-1.0.zip", content="zip")
    one = candidate(SOURCE, zipped, pledges={SOURCE.filename: SOURCE.sha256})
    assert decided(one, partial=True).refusals == ()
    assert {rule for rule, _ in refused(decided(candidate(SOURCE, zipped)))} == {"second-sdist"}


NAMES = ["demo-1.0-py3-none-any.whl", "demo-1.0-py2-none-any.whl", "demo-1.0.tar.gz", "demo-1.0.zip"]
BYTES = st.sampled_from(["a", "b"])


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    held = draw(st.dictionaries(st.sampled_from(NAMES), BYTES))
    staged = [
        replace(staged_file(number, filename=name, content=content), grant=draw(st.sampled_from(["admin", "*"])))
        for number, (name, content) in enumerate(sorted(held.items()))
    ]
    names = st.sampled_from([*NAMES, "demo-0.9.tar.gz"])
    status = st.sampled_from(["active", "archived", "quarantined"])
    upstream = draw(st.none() | st.builds(page, st.dictionaries(names, st.none() | BYTES.map(digest)), status))
    findings = st.lists(st.builds(Finding, st.sampled_from("xyz"), st.sampled_from(Severity), st.just("Said.")))
    return candidate(
        *staged,
        pledges=draw(st.dictionaries(st.sampled_from(NAMES), BYTES.map(digest))),
        upstream=upstream,
        findings={digest(content): draw(findings) for content in ("a", "b")},
    )


IGNORED = st.lists(st.sampled_from(["x", "y", "not-named", "pledge-differs", "live-differs", "second-sdist"]))


@given(candidates(), st.sampled_from(Rules), st.booleans(), IGNORED)
def test_every_pledge_is_settled_in_one_way(one: Candidate, rules: Rules, partial: bool, ignored: list[str]) -> None:  # noqa: FBT001
    """To be pushed as it is staged, live as pledged, or refused by its name; only a quarantine refuses the release."""
    found = decided(one, rules=rules, partial=partial, ignore_rules=ignored)
    if refused(found) == [("project-quarantined", "")]:
        return
    pushed = {file.filename: file.sha256 for file in found.files}
    upstream = {} if one.upstream is None else one.upstream.sha256_of
    assert pushed.items() <= one.pledges.items()
    assert not set(pushed) & set(upstream)
    assert all(upstream[name] == one.pledges[name] for name in found.live)
    unsettled = set(one.pledges) - set(pushed) - set(found.live)
    assert unsettled <= {refusal.filename for refusal in found.refusals}
    assert not set(pushed) & set(found.live)


@given(candidates(), st.sampled_from(Rules), IGNORED)
def test_nothing_staged_is_left_out_in_silence(one: Candidate, rules: Rules, ignored: list[str]) -> None:
    """Unless upstream has it as it is, or has what was pledged under its name."""
    found = decided(one, rules=rules, ignore_rules=ignored)
    said = {refusal.filename for refusal in found.refusals} | set(found.live)
    upstream = {} if one.upstream is None else one.upstream.sha256_of
    for file in one.snapshot.files:
        if file not in found.files and upstream.get(file.filename) != file.sha256:
            assert file.filename in said or ("project-quarantined", "") in refused(found)


@given(candidates(), st.sampled_from(Rules), st.booleans(), IGNORED)
def test_ignoring_moves_a_refusal_and_changes_nothing_else(
    one: Candidate,
    rules: Rules,
    partial: bool,  # noqa: FBT001
    ignored: list[str],
) -> None:
    """And never one about bytes, names or what was named."""
    strict, lax = (
        decided(one, rules=rules, partial=partial),
        decided(one, rules=rules, partial=partial, ignore_rules=ignored),
    )
    assert (lax.files, lax.live, lax.warnings) == (strict.files, strict.live, strict.warnings)
    assert len(lax.refusals) + len(lax.ignored) == len(strict.refusals)
    assert {found.rule for found in lax.ignored} <= set(ignored) - {"not-named", "pledge-differs", "live-differs"}


def test_pledges_are_given_to_their_releases() -> None:
    """In any spelling of the project; a file of no named release is refused, a release without a file, too."""
    other = ReleaseName(NormalizedName("other"), "2.0")
    assigned, refusals = assign(
        [RELEASE, other], {"Demo-1.0-py3-none-any.whl": "a", "demo-1.1.tar.gz": "b", "demo-1.0.tar.gz": "c"}
    )
    assert assigned == {RELEASE: {"Demo-1.0-py3-none-any.whl": "a", "demo-1.0.tar.gz": "c"}, other: {}}
    assert [(refusal.rule, refusal.filename) for refusal in refusals] == [
        ("outside", "demo-1.1.tar.gz"),
        ("nothing-named", ""),
    ]
    with pytest.raises(BadUpload, match="neither a wheel"):
        assign([RELEASE], {"demo-1.0.exe": "a"})


# The target


@pytest.mark.parametrize(
    ("simple_url", "upload_url", "target", "rules"),
    [
        ("https://pypi.org/simple/", "", "https://upload.pypi.org/legacy/", Rules.PYPI),
        ("https://pypi.org/simple", "", "https://upload.pypi.org/legacy/", Rules.PYPI),
        ("https://test.pypi.org/simple/", "", "https://test.pypi.org/legacy/", Rules.PYPI),
        ("https://pypi.org/simple/", "https://devpi.example/root/", "https://devpi.example/root/", Rules.PLAIN),
        ("https://mirror.example/pypi.org/simple/", "", "", Rules.PLAIN),
        ("https://pypi.org.example/simple/", "", "", Rules.PLAIN),
        ("http://pypi.org/simple/", "", "", Rules.PLAIN),
    ],
)
def test_only_pypi_is_a_target_that_nobody_named(simple_url: str, upload_url: str, target: str, rules: Rules) -> None:
    """A private package never goes there by default."""
    assert target_of(simple_url, upload_url) == target
    assert rules_at(target, "") is rules


def test_the_operator_chooses_the_rules() -> None:
    """A copy of PyPI has its rules, too."""
    assert rules_at("https://pypi.example/legacy/", "pypi") is Rules.PYPI
    assert rules_at("https://upload.pypi.org/legacy/", "plain") is Rules.PLAIN


# Waves


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
    names = {NormalizedName(one): [NormalizedName(other)] for one, other in (("a", "b"), ("b", "c"), ("c", "pip"))}
    assert shown(waves(files, requires=names, known=())) == [
        {"c-1.0-1.whl"},
        {"b-1.9.tar.gz"},
        {"b-1.10.tar.gz"},
        {"a-1.0-1.whl"},
    ]


def named(text: str) -> NormalizedName:
    return NormalizedName(text)


def test_a_circle_goes_by_name_after_what_it_requires() -> None:
    """And before what requires it."""
    graph = {"a": "b", "b": "cz", "c": "b", "d": "b"}
    requires = {named(one): [named(other) for other in others] for one, others in graph.items()}
    assert "".join(project_order([named(one) for one in "zdcba"], requires)) == "zbcad"


PROJECTS = st.sampled_from([named(one) for one in "abcdef"])
GRAPHS = st.dictionaries(PROJECTS, st.lists(PROJECTS, max_size=3))


def reaches(requires: Mapping[NormalizedName, Sequence[NormalizedName]], one: str, other: str) -> bool:
    found, waiting = set[str](), [one]
    while waiting:
        new = set(requires.get(named(waiting.pop()), ())) - found
        found |= new
        waiting += new
    return other in found


@given(GRAPHS, st.permutations([named(one) for one in "abcdef"]))
def test_only_circles_break_the_order_of_requirements(
    requires: dict[NormalizedName, list[NormalizedName]], projects: list[NormalizedName]
) -> None:
    """Whatever order the projects come in."""
    ordered = project_order(projects, requires)
    assert sorted(ordered) == sorted(projects)
    assert ordered == project_order(sorted(projects), requires)
    for one, others in requires.items():
        for other in others:
            if one != other and not reaches(requires, other, one):
                assert ordered.index(other) < ordered.index(one)


FILES = st.lists(
    st.builds(
        lambda project, version, tail: f"{project}-{version}{tail}",
        st.sampled_from("abc"),
        st.sampled_from(["1.0", "1.9", "1.10"]),
        st.sampled_from([".tar.gz", "-1.whl", "-2.whl", "-3.whl"]),
    ),
    min_size=1,
    unique=True,
).map(lambda names: files_of(*names))
KNOWN_RELEASES = st.sets(st.builds(ReleaseName, st.sampled_from([named(one) for one in "abc"]), st.just("1.0")))


@given(FILES, GRAPHS, KNOWN_RELEASES)
def test_waves_push_everything_once_and_release_by_release(
    files: list[StagedFile],
    requires: dict[NormalizedName, list[NormalizedName]],
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
    begun: set[ReleaseName] = set()
    ended: set[ReleaseName] = set()
    for wave in by_wave.values():
        (release,) = {file.release for file in wave}
        assert release not in ended
        assert release in begun | known or len(wave) == 1
        ended |= begun - {release}
        begun.add(release)
    for sdist in (file for file in planned if file.kind == "sdist"):
        wheels = [file for file in planned if file.release == sdist.release and file.kind == "wheel"]
        assert all(wheel.wave < sdist.wave for wheel in wheels)
