"""The preflight settles every pledge in one way, and refuses what the target would."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import BadUpload
from overlay.domain.findings import Finding, Severity, error, note, warning
from overlay.domain.names import MAIN, NormalizedName, ReleaseName, Revision
from overlay.domain.page_facts import PageFacts
from overlay.domain.promotion_plan import Candidate, Preflight, Rules, assign, preflight
from overlay.domain.promotion_target import rules_at, target_of
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
    held = sha256_of or {}
    return PageFacts(
        sha256_of=held,
        filename_of={sha256: filename for filename, sha256 in held.items() if sha256 is not None},
        yanked={},
        versions=frozenset(),
        first_upload={},
        sdists={},
        status=status,
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
        staged=[file for file in staged if file.release == RELEASE],
        snapshot=StageSnapshot(DEMO, MAIN, Revision("r"), staged),
        upstream=upstream,
        live=live or (NEW if upstream is None else _known(upstream)),
        findings=findings or {},
    )


def _known(upstream: PageFacts) -> LiveRelease:
    return replace(KNOWN, status=upstream.status, filename_of=upstream.filename_of)


def decided(
    one: Candidate, *, rules: Rules = Rules.PYPI, partial: bool = False, ignore_rules: Collection[str] = ()
) -> Preflight:
    return preflight(one, rules=rules, partial=partial, ignore_rules=ignore_rules, now_s=NOW_S)


def refused(found: Preflight) -> list[tuple[str, str]]:
    assert all(refusal.sentence.endswith((".", refusal.rule)) for refusal in found.refusals)
    return [(refusal.rule, refusal.filename) for refusal in found.refusals]


def test_what_is_staged_as_pledged_is_to_be_pushed() -> None:
    """In order of the names, without a word against it."""
    assert decided(candidate(WHEEL, SOURCE, upstream=page())) == Preflight(files=(WHEEL, SOURCE))


@pytest.mark.parametrize("files", [(WHEEL,), (WHEEL, SOURCE)])
def test_a_new_project_is_warned_of_once(files: tuple[StagedFile, ...]) -> None:
    """Which token can create it, and what PyPI says of names only then; other indexes have rules of their own."""
    (said,) = decided(candidate(*files)).warnings
    for words in ("demo does not exist on PyPI yet", "scoped to a project", "prohibited", "too similar"):
        assert words in said
    assert not said.startswith(WHEEL.filename)
    assert decided(candidate(*files), rules=Rules.PLAIN).warnings == ()


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
    one = candidate(WHEEL, SOURCE, pledges={WHEEL.filename: WHEEL.sha256}, upstream=page())
    assert refused(decided(one)) == [("not-named", SOURCE.filename)]
    assert decided(one, partial=True) == Preflight(files=(WHEEL,))


def test_a_copy_of_what_is_live_need_not_be_named() -> None:
    """It has stepped back already."""
    upstream = page({SOURCE.filename: SOURCE.sha256})
    one = candidate(WHEEL, SOURCE, pledges={WHEEL.filename: WHEEL.sha256}, upstream=upstream)
    assert decided(one) == Preflight(files=(WHEEL,))


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
    findings = {WHEEL.filename: [error("bad", "Bad."), warning("odd", "Odd."), note("by-the-way", "By the way.")]}
    found = decided(candidate(WHEEL, SOURCE, upstream=page(), findings=findings))
    assert refused(found) == [("bad", WHEEL.filename)]
    assert found.warnings == (f"{WHEEL.filename}: Odd.", f"{WHEEL.filename}: By the way.")
    assert decided(candidate(WHEEL, SOURCE, findings=findings), rules=Rules.PLAIN) == Preflight(files=(WHEEL, SOURCE))


def test_an_ignored_rule_stands_in_the_plan() -> None:
    """With what was ignored; other errors go on being refusals."""
    findings = {WHEEL.filename: [error("bad", "Bad."), error("worse", "Worse.")]}
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


def test_the_same_bytes_under_two_names_are_one_file_to_pypi() -> None:
    """It refuses the second, when the first is out already; each is refused by its own name, and by no other target."""
    twin = replace(staged_file(3, filename="demo-1.0-py2.py3-none-any.whl"), sha256=WHEEL.sha256)
    one = candidate(WHEEL, SOURCE, twin)
    found = decided(one)
    assert refused(found) == [("same-content", twin.filename), ("same-content", WHEEL.filename)]
    assert [twin.filename in refusal.sentence for refusal in found.refusals] == [False, True]
    assert decided(one, rules=Rules.PLAIN).refusals == ()
    left_out = replace(one, pledges={file.filename: file.sha256 for file in (WHEEL, SOURCE)})
    assert decided(left_out, partial=True).refusals == ()


def test_bytes_that_are_live_under_another_name_are_refused() -> None:
    """Of whatever release of the project; other indexes take them."""
    upstream = page({"demo-0.9-py3-none-any.whl": WHEEL.sha256})
    found = decided(candidate(WHEEL, SOURCE, upstream=upstream))
    assert refused(found) == [("same-content", WHEEL.filename)]
    assert "demo-0.9-py3-none-any.whl" in found.refusals[0].sentence
    assert decided(candidate(WHEEL, upstream=upstream), rules=Rules.PLAIN).refusals == ()


def test_equal_versions_are_one_release() -> None:
    """What is staged for 1.0.0 is staged for 1.0, and of two sdists in one plan PyPI takes one."""
    other = staged_file(3, version="1.0.0", filename="demo-1.0.0.tar.gz", content="another source")
    assert refused(decided(candidate(SOURCE, other, pledges={SOURCE.filename: SOURCE.sha256}))) == [
        ("not-named", other.filename)
    ]
    assert refused(decided(candidate(SOURCE, other))) == [
        ("second-sdist", other.filename),
        ("second-sdist", SOURCE.filename),
    ]


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
        findings={name: draw(findings) for name in NAMES},
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


def test_releases_of_equal_versions_get_their_pledges_together() -> None:
    """They are one release, of which both names may be given."""
    longer, later = ReleaseName(DEMO, "1.0.0"), ReleaseName(DEMO, "1.1")
    pledges = {"demo-1.0.0.tar.gz": "a", "demo-1.0-py3-none-any.whl": "b", "demo-1.1.tar.gz": "c"}
    assigned, refusals = assign([later, longer, RELEASE], pledges)
    assert refusals == ()
    assert assigned == {
        RELEASE: {"demo-1.0.0.tar.gz": "a", "demo-1.0-py3-none-any.whl": "b"},
        later: {"demo-1.1.tar.gz": "c"},
    }


# The target


@pytest.mark.parametrize(
    ("simple_url", "upload_url", "target", "rules"),
    [
        ("https://pypi.org/simple/", "", "https://upload.pypi.org/legacy/", Rules.PYPI),
        ("https://pypi.org/simple", "", "https://upload.pypi.org/legacy/", Rules.PYPI),
        ("https://test.pypi.org/simple/", "", "https://test.pypi.org/legacy/", Rules.PYPI),
        ("https://pypi.org/simple/", "https://devpi.example/root/", "https://devpi.example/root/", Rules.PLAIN),
        ("https://pypi.org/simple/", "https://pypi.org/legacy/", "https://pypi.org/legacy/", Rules.PYPI),
        ("https://mirror.example/simple/", "https://PyPI.org/legacy/", "https://PyPI.org/legacy/", Rules.PYPI),
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
