"""The laws of merge, over generated and real pages (style §2)."""

import gzip
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from overlay.domain import simple_json
from overlay.domain.merge import merge, shown, timestamp, union
from overlay.domain.names import CanonicalVersion, canonical_version
from overlay.domain.page import File, ProjectPage
from tests.staged import staged_file
from tests.strategies import files, pages

DATA = Path(__file__).parent.parent / "data"
REAL = [
    simple_json.decode(gzip.decompress((DATA / name).read_bytes()))
    for name in ("packaging.json.gz", "attrs.json.gz", "jinja2.json.gz")
]
PAGES = pages() | st.sampled_from(REAL)
VERSIONS = st.lists(st.sampled_from(["1.0", "1.0.0", "1.1", "2.0rc1", "2.0.post1", "0.9", "26.3"]), max_size=4)


@st.composite
def staged(draw: st.DrawFn) -> tuple[File, ...]:
    """Staged files with names of their own, some of them names that a drawn or real page lists."""
    drawn = draw(st.lists(files(), max_size=5, unique_by=lambda file: file.filename))
    return tuple(drawn)


@given(PAGES, staged(), VERSIONS)
def test_upstreams_files_are_a_prefix_unchanged(
    page: ProjectPage, added: tuple[File, ...], versions: list[str]
) -> None:
    """The overlay only adds."""
    merged = merge(page, added, versions)
    assert merged.files[: len(page.files)] == page.files
    assert (merged.name, merged.status, merged.meta, merged.extra) == (page.name, page.status, page.meta, page.extra)


@given(PAGES, staged(), VERSIONS)
def test_a_staged_file_appears_if_and_only_if_upstream_lacks_its_name(
    page: ProjectPage, added: tuple[File, ...], versions: list[str]
) -> None:
    """Once, whatever upstream holds under the name."""
    merged = merge(page, added, versions)
    upstream = {file.filename for file in page.files}
    expected = sorted(file.filename for file in added if file.filename not in upstream)
    assert [file.filename for file in merged.files[len(page.files) :]] == expected


@given(PAGES, VERSIONS)
def test_nothing_staged_changes_nothing(page: ProjectPage, versions: list[str]) -> None:
    """So upstream's bytes may go out as they came."""
    assert merge(page, (), versions) is page


@given(PAGES, staged(), VERSIONS, st.randoms(use_true_random=False))
def test_the_order_of_staging_is_irrelevant(
    page: ProjectPage, added: tuple[File, ...], versions: list[str], random: Random
) -> None:
    """Two workers that learned of the files in another order form the same page."""
    shuffled, turned = list(added), list(versions)
    random.shuffle(shuffled)
    random.shuffle(turned)
    assert merge(page, shuffled, turned) == merge(page, added, versions)


@given(PAGES, staged(), VERSIONS)
def test_merging_twice_is_merging_once(page: ProjectPage, added: tuple[File, ...], versions: list[str]) -> None:
    """An overlay in front of an overlay adds nothing again."""
    once = merge(page, added, versions)
    assert merge(once, added, versions) == once


@given(PAGES, staged(), VERSIONS)
def test_once_upstream_lists_everything_the_result_is_upstreams_page(
    page: ProjectPage, added: tuple[File, ...], versions: list[str]
) -> None:
    """The staged copies step back by themselves."""
    promoted = merge(page, added, versions)
    assert merge(promoted, added, versions) is promoted


@given(
    st.lists(st.sampled_from(["1.0", "1.0.0", "2", "not-a-version", "1.0+local", "1" * 5000]), unique=True), VERSIONS
)
def test_versions_are_unique_and_upstreams_come_first(upstream: list[str], added: list[str]) -> None:
    """PEP 700: "versions MUST be unique"; equal spellings count as one and upstream's stays."""
    result = union(upstream, added)
    assert list(result[: len(upstream)]) == upstream
    fresh = [Version(version) for version in result[len(upstream) :]]
    assert fresh == sorted(fresh)
    for version in added:
        assert version in result or any(_equal(version, held) for held in result)


def _equal(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except ValueError:
        return one == other


def test_a_staged_file_is_shown_as_the_standard_demands() -> None:
    """Relative URL below the root, exactly sha256, the sidecar for wheels only, the time with a literal Z."""
    wheel = shown(staged_file(1), "../../")
    assert wheel.url == "../../files/demo/00000000000000000000000000000001/demo-1.0-py3-none-any.whl"
    assert list(wheel.hashes) == ["sha256"]
    assert wheel.core_metadata == {"sha256": staged_file(1).metadata_sha256}
    assert wheel.upload_time == "2023-11-14T22:13:20.000001Z"
    sdist = shown(staged_file(2, filename="demo-1.0.tar.gz"), "../../../")
    assert sdist.core_metadata is None
    assert sdist.url.startswith("../../../files/demo/")


def test_a_staged_file_inherits_its_releases_yank() -> None:
    """Of its own version, however spelled, with upstream's reason; other versions stay as they are."""
    yanked: dict[CanonicalVersion, bool | str] = {canonical_version("1.0"): "broken"}
    for spelled in ("1.0", "1.0.0"):
        assert shown(staged_file(version=spelled), "", yanked).yanked == "broken"
    assert shown(staged_file(version="1.1"), "", yanked).yanked is False


@pytest.mark.parametrize(
    ("at_us", "expected"),
    [(0, "1970-01-01T00:00:00.000000Z"), (1_700_000_000_123_456, "2023-11-14T22:13:20.123456Z")],
)
def test_upload_times_have_microseconds_and_z(at_us: int, expected: str) -> None:
    """Uv rejects the whole page for a time without zone."""
    assert timestamp(at_us) == expected


def test_a_local_version_is_quoted_as_the_rfc_needs() -> None:
    """+ may stand in a path as it is; clients decode both spellings."""
    file = staged_file(filename="demo-1.0+cpu-py3-none-any.whl")
    assert shown(file, "").url.endswith("/demo-1.0+cpu-py3-none-any.whl")
