"""One function decides who sees what of a staged file."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.listing import Standing, Visibility, ended_standing, judge, listable, standing, visibility
from overlay.domain.names import MAIN, Revision, StageId
from overlay.domain.page_facts import PageFacts
from overlay.domain.stage import Gone, Reason, StagedFile, StageSnapshot
from tests.staged import DEMO, digest, staged_file

FEATURE = StageId("feature")
GRACE_S = 100


def facts(sha256_of: dict[str, str | None] | None = None, status: str | None = "active") -> PageFacts:
    return PageFacts(
        sha256_of=sha256_of or {},
        filename_of={},
        yanked={},
        versions=frozenset(),
        first_upload={},
        sdists={},
        status=status,
    )


def snapshot(*files: StagedFile, stage: StageId = MAIN) -> StageSnapshot:
    return StageSnapshot(DEMO, stage, Revision("r"), files)


def test_a_file_that_upstream_lacks_is_listed() -> None:
    """With upstream's page, without the project there, and when nothing is known."""
    file = staged_file()
    assert standing(file, facts(), [snapshot(file)]) is Standing.STAGED
    assert standing(file, None, ()) is Standing.STAGED
    assert visibility(Standing.STAGED) is Visibility.LISTED


def test_a_file_that_became_live_is_served_but_unlisted() -> None:
    """Lock files that name its URL go on working; the page shows upstream's entry."""
    file = staged_file()
    upstream = facts({file.filename: file.sha256})
    assert standing(file, upstream, [snapshot(file)]) is Standing.LIVE
    assert visibility(Standing.LIVE) is Visibility.UNLISTED
    assert listable(upstream, [snapshot(file)]) == ()


@pytest.mark.parametrize("held", [digest("other bytes"), None])
def test_a_conflict_is_denied(held: str | None) -> None:
    """Other bytes, or unknown ones, live under the name: the staged file is never listed and never served."""
    file = staged_file()
    assert standing(file, facts({file.filename: held}), [snapshot(file)]) is Standing.CONFLICT
    assert visibility(Standing.CONFLICT) is Visibility.DENIED


def test_quarantine_hides_everything() -> None:
    """PEP 792: considered unsafe; ours as well as theirs."""
    file = staged_file()
    upstream = facts(status="quarantined")
    assert standing(file, upstream, [snapshot(file)]) is Standing.QUARANTINED
    assert visibility(Standing.QUARANTINED) is Visibility.DENIED
    assert listable(upstream, [snapshot(file)]) == ()


def test_a_star_grant_yields_to_a_project_that_appears_upstream() -> None:
    """The protection against dependency confusion: a file that was never staged here makes the project foreign."""
    file = staged_file(grant="*")
    stranger = facts({"demo-9.9.tar.gz": digest("a stranger's")})
    assert standing(file, stranger, [snapshot(file)]) is Standing.FOREIGN
    assert visibility(Standing.FOREIGN) is Visibility.DENIED
    assert listable(stranger, [snapshot(file)]) == ()


def test_a_star_grant_goes_on_while_upstream_has_only_our_files() -> None:
    """Half of the release is live, the other half still staged: nothing foreign there."""
    live, waiting = staged_file(1, grant="*"), staged_file(2, filename="demo-1.0.tar.gz", grant="*")
    upstream = facts({live.filename: live.sha256})
    assert standing(waiting, upstream, [snapshot(live, waiting)]) is Standing.STAGED


class Counted(list[StageSnapshot]):
    """Counts how often it is gone through."""

    times = 0

    def __iter__(self) -> Iterator[StageSnapshot]:
        self.times += 1
        return super().__iter__()


def test_whether_a_project_is_foreign_is_found_out_once_for_all_of_its_files() -> None:
    """Each time goes through all of them: 2,000 files of a star grant took half a second, 20,000 a minute."""
    files = [staged_file(number, filename=f"demo-{number}.tar.gz", grant="*") for number in range(9)]
    ours, stranger = facts({files[0].filename: files[0].sha256}), facts({"demo-9.9.tar.gz": digest("a stranger's")})
    held = Counted([snapshot(*files)])
    assert {judge(stranger, held)(file) for file in files} == {Standing.FOREIGN}
    held.times = 0
    standing_of = judge(ours, held)
    assert [standing_of(file) for file in files] == [Standing.LIVE, *[Standing.STAGED] * 8]
    assert held.times == 1
    assert listable(ours, held) == tuple(files[1:])
    assert held.times == 3


@pytest.mark.parametrize("grant", ["admin", "demo", "dem-*"])
def test_other_grants_add_to_a_project_of_upstreams(grant: str) -> None:
    """Whoever was granted the name itself may extend the live project."""
    file = staged_file(grant=grant)
    assert standing(file, facts({"demo-0.9.tar.gz": digest("x")}), [snapshot(file)]) is Standing.STAGED


def test_of_stacked_stages_the_left_one_wins() -> None:
    """One entry per filename, in the order of the names."""
    left, right = staged_file(1, stage=FEATURE, content="left"), staged_file(2, content="right")
    extra = staged_file(3, filename="demo-0.1.tar.gz")
    assert listable(None, [snapshot(left, stage=FEATURE), snapshot(right, extra)]) == (extra, left)


@pytest.mark.parametrize(
    ("reason", "after_s", "expected"),
    [
        (Reason.REPLACED, GRACE_S - 1, Visibility.UNLISTED),
        (Reason.REPLACED, GRACE_S, Visibility.DENIED),
        (Reason.LIVE, GRACE_S * 1000, Visibility.UNLISTED),
        (Reason.WITHDRAWN, 0, Visibility.DENIED),
        (Reason.EXPIRED, 0, Visibility.DENIED),
        (Reason.REFUSED, 0, Visibility.DENIED),
    ],
)
def test_what_ended_is_served_by_its_reason(reason: Reason, after_s: int, expected: Visibility) -> None:
    """Replaced: for the grace period; live: for good; everything else: 404 at once."""
    gone = Gone(staged_file(), reason, 1_000_000, "ada")
    assert visibility(ended_standing(gone, 1_000_000 + after_s * 1_000_000, GRACE_S)) is expected


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["*", "demo"])), max_size=5),
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["a", "b", "other", None])),
    st.sampled_from([None, "active", "archived", "quarantined"]),
)
def test_listable_is_exactly_what_stands_as_staged(
    staged: list[tuple[str, str]], live: dict[str, str | None], status: str | None
) -> None:
    """No second opinion: pages list a file if and only if its standing says so."""
    held = {
        name: staged_file(number, filename=name, content=name, grant=grant)
        for number, (name, grant) in enumerate(staged, 1)
    }
    upstream = facts({name: digest(text) if text else None for name, text in live.items()}, status)
    snapshots = [snapshot(*held.values())]
    expected = [name for name in sorted(held) if standing(held[name], upstream, snapshots) is Standing.STAGED]
    assert [file.filename for file in listable(upstream, snapshots)] == expected
    assert not set(expected) & set(live)
