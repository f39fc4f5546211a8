"""What the caller named, read into releases and pledges."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.wire_promotions import Pledge
from overlay.promote.errors import Ending, Misused, PledgeMissing
from overlay.promote.pledge import Pledged, Skipped, collect, release
from overlay.promote.sums import read_pair, read_sums
from tests.builders import Built, sdist, wheel

WHEEL, SDIST, OTHER = wheel("demo", "1.1"), sdist("demo", "1.1"), wheel("other", "2.0")
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
FILENAMES = st.from_regex(r"[a-z][a-z0-9_]{0,20}-[0-9]{1,3}\.[0-9]{1,3}(-py3-none-any\.whl|\.tar\.gz)", fullmatch=True)


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    for built in (WHEEL, SDIST):
        (folder / built.filename).write_bytes(built.body)
    return folder


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.iterdir())


def pledges(*built: Built) -> tuple[Pledge, ...]:
    return tuple(
        Pledge(filename=one.filename, sha256=one.sha256) for one in sorted(built, key=lambda one: one.filename)
    )


def sums(*built: Built, mark: str = " ", folder: str = "") -> str:
    return "".join(f"{one.sha256} {mark}{folder}{one.filename}\n" for one in built)


def test_files_are_order_and_pledge(dist: Path) -> None:
    """Named files say which releases are meant, and their digests are what is expected."""
    assert collect(everything_in(dist), []) == Pledged(
        releases=("demo==1.1",), pledges=pledges(WHEEL, SDIST), skipped=()
    )


def test_what_is_no_distribution_is_skipped_and_said(dist: Path) -> None:
    """`dist/*` may have other things in it."""
    (dist / ".gitignore").write_text("*")
    (dist / f"{WHEEL.filename}.publish.attestation").write_text("{}")
    (dist / "docs").mkdir()
    found = collect(everything_in(dist), [])
    assert found.pledges == pledges(WHEEL, SDIST)
    assert [Path(one.name).name for one in found.skipped] == [
        ".gitignore",
        f"{WHEEL.filename}.publish.attestation",
        "docs",
    ]


def test_several_releases_at_once(dist: Path) -> None:
    """All releases that the files belong to are promoted."""
    (dist / OTHER.filename).write_bytes(OTHER.body)
    assert collect(everything_in(dist), []).releases == ("demo==1.1", "other==2.0")


@pytest.mark.parametrize("mark", [" ", "*"], ids=["text", "binary"])
@pytest.mark.parametrize("folder", ["", "dist/", "./dist/"])
def test_a_release_with_a_list_of_digests(tmp_path: Path, mark: str, folder: str) -> None:
    """PROJECT==VERSION and SHA256SUMS: the lines of the release are its pledges, others are said."""
    (tmp_path / "SHA256SUMS").write_text(sums(WHEEL, SDIST, OTHER, mark=mark, folder=folder))
    found = collect(["Demo==1.1"], [str(tmp_path / "SHA256SUMS")])
    assert (found.releases, found.pledges) == (("demo==1.1",), pledges(WHEEL, SDIST))
    assert found.skipped == (Skipped(OTHER.filename, "is of none of the releases"),)


def test_only_digests(tmp_path: Path) -> None:
    """Without a name everything that is expected is promoted (flag day)."""
    (tmp_path / "SHA256SUMS").write_text(sums(WHEEL, OTHER))
    assert collect([], [str(tmp_path / "SHA256SUMS")]).releases == ("demo==1.1", "other==2.0")


def test_expectations_add_up(dist: Path, tmp_path: Path) -> None:
    """A directory, a list and single digests are one pledge together; agreeing twice is fine."""
    (tmp_path / "SHA256SUMS").write_text(sums(WHEEL))
    pair = f"{OTHER.filename}=sha256:{OTHER.sha256.upper()}"
    found = collect(["demo==1.1", "other==2.0"], [str(dist), str(tmp_path / "SHA256SUMS"), pair])
    assert found.pledges == pledges(WHEEL, SDIST, OTHER)


def test_contradictions_are_errors(dist: Path) -> None:
    """Two digests for one name are never resolved by guessing."""
    pair = f"{WHEEL.filename}=sha256:{'0' * 64}"
    with pytest.raises(Misused, match="two digests") as caught:
        collect(everything_in(dist), [pair])
    assert WHEEL.sha256 in str(caught.value)
    assert caught.value.ending is Ending.USAGE


def test_a_release_needs_a_pledge(dist: Path) -> None:
    """A release of which nothing is expected is named, whatever is expected of others."""
    with pytest.raises(PledgeMissing) as caught:
        collect(["demo==1.1", "other==2.0", "Third==3"], [str(dist)])
    assert caught.value.releases == ("other==2.0", "third==3")


@pytest.mark.parametrize(
    ("named", "expected", "words"),
    [
        ([], [], "What is to be promoted"),
        (["dist/*"], [], "nothing that matches"),
        (["missing-1.0.tar.gz"], [], "no file"),
        (["demo"], [], "PROJECT==VERSION"),
        (["demo==one"], [], "is no release"),
        (["demo==1.1"], ["nowhere/SHA256SUMS"], "no such file"),
        (["demo==1.1"], ["demo.whl=md5:abc"], "no such file"),
    ],
)
def test_misuse_is_explained(named: list[str], expected: list[str], words: str) -> None:
    """Every mistake has a sentence."""
    with pytest.raises(Misused, match=words):
        collect(named, expected)


def test_a_folder_is_not_what_is_promoted(dist: Path) -> None:
    """`overlay promote dist` promotes nothing."""
    with pytest.raises(Misused, match="no wheel or sdist"):
        collect([str(dist)], [])


def test_a_file_called_like_a_release_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What exists is a file, however it is called."""
    monkeypatch.chdir(tmp_path)
    Path("demo==1.1").write_text("")
    with pytest.raises(Misused, match="no wheel or sdist"):
        collect(["demo==1.1"], [])


def test_releases_are_normalized() -> None:
    """Spelling does not matter."""
    assert str(release("De.Mo_x==01.1.0RC1")) == "de-mo-x==1.1.0rc1"


def test_equal_versions_are_one_release(tmp_path: Path) -> None:
    """1.0 and 1.0.0 are one to every index: whichever is named, the files of both spellings are meant."""
    built = (wheel("demo", "1.0.0"), sdist("demo", "1.0"))
    (tmp_path / "SHA256SUMS").write_text(sums(*built))
    assert collect(["demo==1.0.0.0"], [str(tmp_path / "SHA256SUMS")]) == Pledged(
        releases=("demo==1.0.0",), pledges=pledges(*built), skipped=()
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        (f"\\{'a' * 64}  odd\\nname.whl\n", "escaped"),
        (f"{'a' * 64}  fine-1.0.tar.gz\n{'a' * 63}  short-1.0.tar.gz\n", "Line 2"),
        (f"SHA256 (demo-1.1.tar.gz) = {'a' * 64}\n", "sha256sum"),
        (f"{'a' * 64}\n", "Line 1"),
        (f"{'a' * 64} demo-1.1.tar.gz\n", "Line 1"),
    ],
)
def test_other_lists_are_refused(text: str, words: str) -> None:
    """What sha256sum does not write is refused with its place."""
    with pytest.raises(Misused, match=words):
        read_sums(text, "SHA256SUMS")


@given(st.dictionaries(FILENAMES, DIGESTS, min_size=1), st.sampled_from([" ", "*"]))
def test_what_sha256sum_writes_is_read(digests: dict[str, str], mark: str) -> None:
    """A list read back gives each name its digest."""
    text = "".join(f"{digest} {mark}{name}\n" for name, digest in digests.items())
    assert dict(read_sums(text, "x")) == digests
    assert dict(read_sums(text.replace("\n", "\r\n"), "x")) == digests


@given(FILENAMES, DIGESTS)
def test_pairs_are_read(name: str, digest: str) -> None:
    """FILENAME=sha256:HEX."""
    assert read_pair(f"{name}=sha256:{digest}") == (name, digest)


def test_large_files_are_hashed_in_pieces(tmp_path: Path) -> None:
    """A file is hashed as it is read (its digest is the one of its bytes)."""
    body = bytes(5 << 20)
    (tmp_path / "big-1.0.tar.gz").write_bytes(body)
    found = collect([str(tmp_path / "big-1.0.tar.gz")], [])
    assert found.pledges[0].sha256 == hashlib.sha256(body).hexdigest()


def test_what_is_longer_than_a_name_can_be_is_read_as_a_pair() -> None:
    """The file system says neither yes nor no to it."""
    long = f"{'d' * 200}-1.1.tar.gz"
    assert collect([], [f"{long}=sha256:{'a' * 64}"]).pledges == (Pledge(filename=long, sha256="a" * 64),)
    for named, expected in (([f"{'d' * 300}.whl"], []), ([], ["d" * 300])):
        with pytest.raises(Misused, match="ddd"):
            collect(named, expected)
