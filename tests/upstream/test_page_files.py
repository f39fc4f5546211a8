"""Last good pages on disk."""

import gzip
import hashlib
from pathlib import Path

import pytest

from overlay.domain.names import ABSENT, NormalizedName, Validator, project_name
from overlay.domain.page import UpstreamPage
from overlay.upstream.page_files import PageFiles

URL = "https://pypi.org/simple/"
DEMO = project_name("demo")


def page(project: NormalizedName = DEMO, body: bytes = b'{"files":[]}', at_s: float = 1000.25) -> UpstreamPage:
    return UpstreamPage(
        project=project,
        body=body,
        validator=Validator(hashlib.sha256(body).hexdigest()),
        fetched_at_s=at_s,
        etag='"x"',
        last_modified="Sat, 21 Nov 2026 00:00:00 GMT",
        last_serial="7",
    )


def noise(seed: int) -> bytes:
    return b"".join(hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(40))


def stored(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_page_comes_back_whole(tmp_path: Path) -> None:
    """Also for another process: every field survives."""
    PageFiles(tmp_path, 10_000, URL).store(page())
    assert PageFiles(tmp_path, 10_000, URL).load(DEMO) == page()


def test_upstreams_gzip_comes_back(tmp_path: Path) -> None:
    """The bytes that upstream compressed are kept; ours are not mistaken for them."""
    packed = gzip.compress(b'{"files":[]}', 9)
    theirs = UpstreamPage(project=DEMO, body=b'{"files":[]}', validator=page().validator, fetched_at_s=1.0, gzip=packed)
    files = PageFiles(tmp_path, 10_000, URL)
    files.store(theirs)
    assert files.load(DEMO) == theirs
    files.store(page())
    assert files.load(DEMO) == page()


def test_absent_leaves_nothing(tmp_path: Path) -> None:
    """Whoever asks for names that upstream lacks fills no disk; a project that went away takes its page along."""
    absent = UpstreamPage(project=DEMO, body=None, validator=ABSENT, fetched_at_s=5.0)
    files = PageFiles(tmp_path, 10_000, URL)
    files.store(absent)
    assert stored(tmp_path) == []
    files.store(page())
    files.store(absent)
    assert stored(tmp_path) == []
    assert files.load(DEMO) is None


def test_a_small_page_weighs_its_block(tmp_path: Path) -> None:
    """A file of 200 bytes takes 4,096 of the disk, written now or found from an earlier life."""
    for life in range(2):
        for number in range(5):
            PageFiles(tmp_path, 3 * 4096, URL).store(page(project_name(f"p{life}{number}"), at_s=life * 10.0 + number))
    assert len(stored(tmp_path)) == 3
    files = PageFiles(tmp_path, 2 * 4096, URL)
    for number in range(5):
        files.store(page(project_name(f"q{number}"), at_s=100.0 + number))
    assert sorted(path.name for path in stored(tmp_path)) == ["q3.page", "q4.page"]


def test_unknown_is_none(tmp_path: Path) -> None:
    """Nothing stored, nothing there; the folder need not exist."""
    assert PageFiles(tmp_path / "none", 10_000, URL).load(DEMO) is None


def test_another_upstream_reads_nothing(tmp_path: Path) -> None:
    """Pages of one index never stand in for another's."""
    PageFiles(tmp_path, 10_000, URL).store(page())
    assert PageFiles(tmp_path, 10_000, "https://test.pypi.org/simple/").load(DEMO) is None


def test_a_confirmation_only_moves_the_time(tmp_path: Path) -> None:
    """A 304 writes no body, and the new time survives a restart."""
    files = PageFiles(tmp_path, 10_000, URL)
    files.store(page())
    (path,) = stored(tmp_path)
    inode = path.stat().st_ino
    files.store(page(at_s=2000.5))
    assert path.stat().st_ino == inode
    assert PageFiles(tmp_path, 10_000, URL).load(DEMO) == page(at_s=2000.5)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other", "garbage", "swapped"])
def test_a_damaged_file_is_removed(tmp_path: Path, damage: str) -> None:
    """A half or wrong page is never served; it counts as missing and goes."""
    files = PageFiles(tmp_path, 10_000, URL)
    files.store(page())
    (path,) = stored(tmp_path)
    content = path.read_bytes()
    damaged = {
        "cut": content[:-5],
        "flip": content[:-12] + bytes([content[-12] ^ 1]) + content[-11:],
        "empty": b"",
        "other": content.replace(b"demo", b"omed"),
        "garbage": b"\xff\n\xff",
        "swapped": content.partition(b"\n")[0] + b"\n" + gzip.compress(b'{"files":[1]}'),
    }
    path.write_bytes(damaged[damage])
    assert files.load(DEMO) is None
    assert stored(tmp_path) == []


def test_the_oldest_pages_make_room(tmp_path: Path) -> None:
    """The limit holds for all files together, also for those of an earlier life, and the newest stay."""
    names = [project_name(f"p{number}") for number in range(6)]
    for number, name in enumerate(names):
        files = PageFiles(tmp_path, 3 * 4096, URL)  # a new one each time: nothing is known but the folder
        files.store(page(name, noise(number), at_s=100.0 + number))
    assert sum(path.stat().st_size for path in stored(tmp_path)) <= 3 * 4096
    files = PageFiles(tmp_path, 3 * 4096, URL)
    assert [files.load(name) is not None for name in names] == [False, False, False, True, True, True]


def test_a_confirmed_page_is_not_the_oldest(tmp_path: Path) -> None:
    """What upstream spoke of last is kept longest."""
    files = PageFiles(tmp_path, 2 * 4096, URL)  # room for two
    first, second, third = (page(project_name(name), noise(len(name))) for name in ("a", "bb", "ccc"))
    files.store(first)
    files.store(second)
    files.store(first.confirmed(2000.0))
    files.store(third)
    assert files.load(first.project) is not None
    assert files.load(second.project) is None


def test_a_page_beyond_the_limit_is_not_stored(tmp_path: Path) -> None:
    """It would push out everything else; its former, smaller self goes too."""
    files = PageFiles(tmp_path, 4096, URL)
    files.store(page())
    files.store(page(body=b"".join(noise(number) for number in range(4))))
    assert stored(tmp_path) == []


def test_leftovers_of_a_killed_process_go(tmp_path: Path) -> None:
    """A part that was never renamed is removed with the first look at the folder."""
    files = PageFiles(tmp_path, 10_000, URL)
    files.store(page())
    (path,) = stored(tmp_path)
    path.with_name("demo.page.1.2.part").write_bytes(b"half")
    PageFiles(tmp_path, 10_000, URL).store(page(project_name("other")))
    assert sorted(found.name for found in stored(tmp_path)) == ["demo.page", "other.page"]
