"""Upstream's project list, prepared on disk."""

import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from overlay.domain.errors import UpstreamCorrupt, UpstreamUnavailable
from overlay.domain.gzip_splice import gzip_tail
from overlay.domain.names import project_name
from overlay.domain.prepared_list import PreparedList
from overlay.upstream import list_preparation
from overlay.upstream.client import UpstreamClient, UpstreamSettings
from overlay.upstream.project_list import UpstreamProjectList
from tests import strategies
from tests.builders import sdist
from tests.fakes.index import HTML, JSON, Answer, ScriptedIndex

FRESH_S = 600.0
STALE_S = 10_000.0
NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)


def prepared(folder: Path, body: bytes, *, is_json: bool = True) -> list_preparation.Prepared:
    spool = folder / "spool"
    spool.write_bytes(body)
    return list_preparation.prepare(spool, folder, is_json=is_json)


def whole(folder: Path, kind: str, tail: bytes) -> bytes:
    """The document that head and tail make, proved equal in both codings."""
    name = {"json": list_preparation.JSON_HEAD, "html": list_preparation.HTML_HEAD}[kind]
    head = (folder / name).read_bytes()
    packed = (folder / (name + list_preparation.PACKED)).read_bytes()
    member = packed + gzip_tail(tail, zlib.crc32(head), len(head))
    assert gzip.decompress(member) == head + tail
    inflate = zlib.decompressobj(31)
    inflate.decompress(member)
    assert inflate.eof
    assert inflate.unused_data == b"", "not one gzip member"
    return head + tail


class TestPreparation:
    @settings(max_examples=60)
    @given(
        projects=st.lists(
            st.builds(lambda name, extra: {**extra, "name": name}, NAMES, strategies.FILE_EXTRAS), max_size=8
        ),
        meta=st.fixed_dictionaries({"meta": st.just({"api-version": "1.4", "_last-serial": 7})}),
        others=st.dictionaries(
            st.sampled_from(["_a", "b", 'odd " ]} {"projects":[']), strategies.JSON_VALUES, max_size=2
        ),
        later=st.booleans(),
    )
    def test_head_and_tail_are_upstreams_list(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        projects: list[dict[str, object]],
        meta: dict[str, object],
        others: dict[str, object],
        *,
        later: bool,
    ) -> None:
        """Every project and key comes through, wherever the keys stand and whatever they hold."""
        folder = tmp_path_factory.mktemp("list")
        page = {**meta, "projects": projects, **others} if later else {**meta, **others, "projects": projects}
        summed = prepared(folder, json.dumps(page, ensure_ascii=False).encode())
        assert json.loads(whole(folder, "json", b"]}")) == page
        assert summed.has_projects == bool(projects)
        names = [str(project["name"]) for project in projects]
        normalized = "".join(f"{canonicalize_name(name)}\n" for name in names)
        assert (folder / "names").read_text() == "\n" + normalized
        html = whole(folder, "html", b"</body></html>").decode()
        assert all(f'\n<a href="{canonicalize_name(name)}/">{escape(name)}</a>\n' in html for name in names)

    def test_objects_stay_as_they_came(self, tmp_path: Path) -> None:
        """Spaces, number spellings and unknown keys of upstream's objects are copied, not written anew."""
        objects = b'{ "name":"A.b", "_x":[1.50,{"y":"}]"}] },{"_last-serial":1e3,"name":"c"}'
        prepared(tmp_path, b'{"projects":[ ' + objects + b' ],"meta":{"api-version":"1.0"}}')
        assert objects in (tmp_path / "json.head").read_bytes()

    @pytest.mark.parametrize("is_json", [True, False])
    def test_a_long_list_is_cut_in_any_place(self, tmp_path: Path, *, is_json: bool) -> None:
        """No project is lost or doubled where one piece ends and the next begins."""
        names = [f"Project_{number}{'x' * (number % 37)}" for number in range(40_000)]
        if is_json:
            body = json.dumps({"meta": {"api-version": "1.4"}, "projects": [{"name": name} for name in names]}).encode()
        else:
            anchors = "\n".join(f'<a href="{name}/">{name}</a >' for name in names)
            body = f"<html><body>\n{anchors}\n</body></html>".encode()
        prepared(tmp_path, body, is_json=is_json)
        page = json.loads(whole(tmp_path, "json", b"]}"))
        assert [project["name"] for project in page["projects"]] == names
        assert whole(tmp_path, "html", b"").count(b"\n<a ") == len(names)

    def test_an_anchor_is_cut_in_every_place(self, tmp_path: Path) -> None:
        """Wherever in an anchor the first piece of 256 KiB ends, the anchor is read once."""
        anchor = b'<a href="abc/">abc</a>'
        count = (300 << 10) // len(anchor)
        for shift in range(len(anchor)):
            summed = prepared(tmp_path, b" " * shift + anchor * count, is_json=False)
            assert (tmp_path / "names").stat().st_size == 1 + len(b"abc\n") * count
            assert summed.has_projects

    def test_html_with_odd_anchors(self, tmp_path: Path) -> None:
        """Escapes, white space, slashes and links to elsewhere, as nginx and others write them."""
        body = (
            b'<HTML><body><A HREF="../">../</A><a href="a-b/">a&#45;b</a><a\nhref="c/">\n c/ </a>'
            b'<a href="/x">Log in!</a></body></HTML>'
        )
        prepared(tmp_path, body, is_json=False)
        assert json.loads(whole(tmp_path, "json", b"]}"))["projects"] == [{"name": "a-b"}, {"name": "c"}]

    @pytest.mark.parametrize(
        ("body", "is_json"),
        [
            (b"", True),
            (b"{}", True),
            (b'{"meta":{},"projects":{}}', True),
            (b'{"meta":{"api-version":"2.0"},"projects":[]}', True),
            (b'{"meta":{},"projects":[{"name":"a"}', True),
            (b'{"meta":{},"projects":[{"name":"a"},', True),
            (b'{"meta":{},"projects":[{"name":"a"}]', True),
            (b'{"meta":{},"projects":[{"name":"a"}]}x', True),
            (b'{"meta":{},"projects":[{"name":"a"}{"name":"b"}]}', True),
            (b'{"meta":{},"projects":[{"nom":"a"}]}', True),
            (b'{"meta":{},"projects":[{"name":"a\\nb"}]}', True),
            (b'{"meta":{},"projects":[{"name":"a"},1]}', True),
            (b"", False),
            (b"<html><body>Log in</body></html>", False),
            (b'<html><body><a href="a/">a</a>', False),
            (b'<meta name="pypi:repository-version" content="2.0"><a href="a/">a</a>', False),
        ],
    )
    def test_what_is_no_list_is_corrupt(self, tmp_path: Path, body: bytes, *, is_json: bool) -> None:
        """A truncated or foreign answer is an error, never a shorter list."""
        with pytest.raises(UpstreamCorrupt):
            prepared(tmp_path, body, is_json=is_json)


@dataclass
class Clock:
    now_s: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class World:
    index: ScriptedIndex
    clock: Clock
    open: Callable[[], UpstreamProjectList]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    opened: list[UpstreamProjectList] = []
    async with ScriptedIndex() as index:
        index.add(sdist("a-b", "1.0"), sdist("c", "1.0"))
        clock = Clock()
        upstream = UpstreamSettings(url=index.simple_url, timeout_s=5)
        async with UpstreamClient(upstream, now_s=clock).open() as client:

            def opening() -> UpstreamProjectList:
                opened.append(
                    UpstreamProjectList(
                        client, tmp_path, fresh_s=60, stale_s=STALE_S, now_s=clock, limit_bytes=1_000_000
                    )
                )
                return opened[-1]

            yield World(index, clock, opening)
            for listing in opened:
                await listing.close()


def names_of(listing: PreparedList) -> list[str]:
    return [project["name"] for project in json.loads(listing.json_head.read_bytes() + b"]}")["projects"]]


async def refreshed(listing: UpstreamProjectList) -> PreparedList:
    """Ask, join the refresh in the background that this started, and ask again."""
    await listing.prepared()
    await listing._flight.run("", listing._refreshed)
    return await listing.prepared()


async def test_the_first_call_waits_and_the_next_do_not_ask(world: World) -> None:
    """Within the refresh time the list in hand is the answer."""
    listing = world.open()
    first = await listing.prepared()
    assert names_of(first) == ["a-b", "c"]
    assert first.contains(project_name("A_B"))
    assert not first.contains(project_name("a"))
    assert first.last_serial == "1000"
    world.clock.now_s += FRESH_S - 1
    assert await listing.prepared() is first
    assert world.index.count("") == 1


async def test_heads_and_sums_fit(world: World) -> None:
    """What the dataclass says of the heads completes them to one gzip member."""
    listing = await world.open().prepared()
    tail = b',{"name":"staged"}]}'
    member = listing.json_head_gzip.read_bytes() + gzip_tail(tail, listing.json_crc, listing.json_length)
    assert json.loads(gzip.decompress(member))["projects"][-1] == {"name": "staged"}
    member = listing.html_head_gzip.read_bytes() + gzip_tail(b"</body></html>", listing.html_crc, listing.html_length)
    assert gzip.decompress(member) == listing.html_head.read_bytes() + b"</body></html>"


async def test_it_is_refreshed_behind_its_readers(world: World) -> None:
    """The reader that finds it old does not wait; its files are still there after the next generation."""
    listing = world.open()
    first = await listing.prepared()
    world.index.add(sdist("new", "1.0"))
    world.clock.now_s += FRESH_S
    assert await listing.prepared() is first
    second = await refreshed(listing)
    assert names_of(second) == ["a-b", "c", "new"]
    assert names_of(first) == ["a-b", "c"]


async def test_old_generations_go(world: World, tmp_path: Path) -> None:
    """Two stay; an open file of a dropped one is still readable."""
    listing = world.open()
    current = await listing.prepared()
    with current.json_head.open("rb") as held:
        for number in range(4):
            world.index.add(sdist(f"new{number}", "1.0"))
            world.clock.now_s += FRESH_S
            current = await refreshed(listing)
        assert held.read().startswith(b'{"meta"')
    (root,) = tmp_path.iterdir()
    assert len(list(root.iterdir())) == 2


async def test_an_unchanged_list_is_only_confirmed(world: World) -> None:
    """A 304 moves the time and prepares nothing."""
    listing = world.open()
    first = await listing.prepared()
    world.clock.now_s += FRESH_S
    second = await refreshed(listing)
    assert second.json_head == first.json_head
    assert second.fetched_at_s == world.clock.now_s
    assert "If-None-Match" in world.index.requests[-1].headers


async def test_the_list_survives_a_restart(world: World) -> None:
    """A list that is young enough is read from disk, an older one while upstream fails."""
    await world.open().prepared()
    assert names_of(await world.open().prepared()) == ["a-b", "c"]
    assert world.index.count("") == 1
    world.index.down = True
    world.clock.now_s += STALE_S - 1
    assert names_of(await world.open().prepared()) == ["a-b", "c"]


async def test_a_failing_upstream(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The old list serves up to stale_s, one warning is logged, then the error is told."""
    caplog.set_level(logging.WARNING, logger="overlay.upstream.project_list")
    listing = world.open()
    first = await listing.prepared()
    world.index.down = True
    for _ in range(3):
        world.clock.now_s += FRESH_S
        assert names_of(await refreshed(listing)) == names_of(first)
    assert world.index.count("") == 4
    world.clock.now_s += STALE_S
    with pytest.raises(UpstreamUnavailable):
        await listing.prepared()
    assert len(caplog.records) == 1


async def test_without_a_list_the_error_is_told(world: World) -> None:
    """Nothing in hand and no upstream: unknown, not empty."""
    world.index.down = True
    with pytest.raises(UpstreamUnavailable):
        await world.open().prepared()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"{}"),
        Answer(b'{"meta":{},"projects":[', headers={"Content-Type": JSON}),
        Answer(b"<html>Log in</html>", headers={"Content-Type": HTML}),
        Answer(gzip.compress(b'{"projects":[]}')[:-3], headers={"Content-Type": JSON, "Content-Encoding": "gzip"}),
        Answer(b" " * 1_000_001),
        Answer(gzip.compress(b" " * 1_000_001), headers={"Content-Type": JSON, "Content-Encoding": "gzip"}),
        Answer(b'{"projects":[]}', headers={"Content-Type": "text/plain"}),
    ],
)
async def test_a_bad_list_is_corrupt_and_leaves_nothing(world: World, tmp_path: Path, answer: Answer) -> None:
    """Cut, over-long, bomb-like or foreign answers are errors, and no spool stays on the disk."""
    world.index.script("", answer)
    with pytest.raises(UpstreamCorrupt):
        await world.open().prepared()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_a_cut_list_is_unavailable(world: World, tmp_path: Path) -> None:
    """A connection that breaks leaves neither a list nor a spool."""
    world.index.script("", Answer(b'{"projects":[]}' + b" " * 1000, cut_after=500))
    with pytest.raises(UpstreamUnavailable):
        await world.open().prepared()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_an_html_only_upstream(world: World) -> None:
    """Anchors become both heads."""
    world.index.html_only = True
    assert names_of(await world.open().prepared()) == ["a-b", "c"]
