"""Upstream as its readers see it: freshness, outages, decisions."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from overlay.domain.errors import OverlayError, UpstreamCorrupt, UpstreamUnavailable
from overlay.domain.names import ABSENT, NormalizedName, Validator, project_name
from overlay.domain.page import UpstreamPage
from overlay.upstream.cached import CachedUpstream
from overlay.upstream.page_files import PageFiles

DEMO = project_name("demo")
FRESH_S = 60.0
STALE_S = 1000.0


class Source:
    """An upstream in memory: says what it is told to, fails as it is told to, waits at its gate."""

    def __init__(self) -> None:
        self.now_s = 10_000.0
        self.body: bytes | None = b"one"
        self.error: OverlayError | None = None
        self.gate: asyncio.Event | None = None
        self.asked: list[UpstreamPage | None] = []

    async def fetch(self, project: NormalizedName, previous: UpstreamPage | None) -> UpstreamPage:
        asked_at_s, body = self.now_s, self.body
        self.asked.append(previous)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        validator = ABSENT if body is None else Validator(hashlib.sha256(body).hexdigest())
        return UpstreamPage(project=project, body=body, validator=validator, fetched_at_s=asked_at_s)


@pytest.fixture
def source() -> Source:
    return Source()


def over(source: Source, folder: Path | None = None, limit_bytes: int = 100_000) -> CachedUpstream:
    return CachedUpstream(
        source,
        files=None if folder is None else PageFiles(folder, 100_000, "https://upstream.example/"),
        limit_bytes=limit_bytes,
        fresh_s=FRESH_S,
        stale_s=STALE_S,
        now_s=lambda: source.now_s,
    )


@pytest.fixture
async def upstream(source: Source) -> AsyncIterator[CachedUpstream]:
    cached = over(source)
    yield cached
    await cached.close()


async def settled() -> None:
    """Let background tasks run until they wait for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_fresh_page_is_not_asked_for_again(source: Source, upstream: CachedUpstream) -> None:
    """Younger than fresh_s: from the cache, without a task."""
    first = await upstream.page(DEMO)
    source.now_s += FRESH_S - 1
    tasks = len(asyncio.all_tasks())
    coroutine = upstream.page(DEMO)
    with pytest.raises(StopIteration) as ended:  # it never gives way to the loop
        coroutine.send(None)
    assert ended.value.value is first
    assert len(asyncio.all_tasks()) == tasks
    assert len(source.asked) == 1


async def test_a_page_up_to_twice_as_old_is_served_while_it_is_revalidated(
    source: Source, upstream: CachedUpstream
) -> None:
    """The reader does not wait; the next one has the new page."""
    await upstream.page(DEMO)
    source.now_s += FRESH_S
    source.body, source.gate = b"two", asyncio.Event()
    assert (await upstream.page(DEMO)).body == b"one"
    assert (await upstream.page(DEMO)).body == b"one"
    await settled()
    source.gate.set()
    await settled()
    assert (await upstream.page(DEMO)).body == b"two"
    assert len(source.asked) == 2
    assert source.asked[1] is not None, "the question was not conditional"


async def test_an_older_page_waits_for_upstream(source: Source, upstream: CachedUpstream) -> None:
    """At twice fresh_s and later upstream's answer is what readers get."""
    await upstream.page(DEMO)
    source.now_s += 2 * FRESH_S
    source.body = b"two"
    assert (await upstream.page(DEMO)).body == b"two"


@pytest.mark.parametrize("error", [UpstreamUnavailable("down"), UpstreamCorrupt("nonsense")])
async def test_an_older_page_stands_in_when_upstream_fails(
    source: Source, upstream: CachedUpstream, error: OverlayError
) -> None:
    """Up to stale_s; from then on the error is told."""
    await upstream.page(DEMO)
    source.error = error
    source.now_s += STALE_S - 1
    assert (await upstream.page(DEMO)).body == b"one"
    source.now_s += 1
    with pytest.raises(type(error)):
        await upstream.page(DEMO)


async def test_without_a_page_the_error_is_told_and_not_remembered(source: Source, upstream: CachedUpstream) -> None:
    """An unknown project is neither absent nor empty, and the next reader asks anew."""
    source.error = UpstreamUnavailable("down")
    with pytest.raises(UpstreamUnavailable):
        await upstream.page(DEMO)
    source.error = None
    assert (await upstream.page(DEMO)).body == b"one"


async def test_a_failing_upstream_costs_one_reader_the_wait(source: Source, upstream: CachedUpstream) -> None:
    """Once an attempt failed, readers with a stale page do not wait for the next; one retry a second runs."""
    await upstream.page(DEMO)
    source.now_s += 5 * FRESH_S
    source.error = UpstreamUnavailable("timed out")
    await upstream.page(DEMO)
    asked = len(source.asked)
    source.gate = asyncio.Event()  # from now on upstream hangs
    async with asyncio.timeout(1):
        await upstream.page(DEMO)
    assert len(source.asked) == asked
    for _ in range(10):
        source.now_s += 1
        async with asyncio.timeout(1):
            assert (await upstream.page(DEMO)).body == b"one"
        await settled()
    assert len(source.asked) == asked + 1
    source.error, source.body = None, b"two"
    source.gate.set()
    await settled()
    source.gate = None
    source.now_s += 2 * FRESH_S
    assert (await upstream.page(DEMO)).body == b"two"


async def test_long_after_a_failure_readers_wait_again(source: Source, upstream: CachedUpstream) -> None:
    """The memory of a failure ends, so that a project nobody asked for is not served old without need."""
    await upstream.page(DEMO)
    source.now_s += 5 * FRESH_S
    source.error = UpstreamUnavailable("down")
    await upstream.page(DEMO)
    source.error, source.body = None, b"two"
    source.now_s += FRESH_S
    assert (await upstream.page(DEMO)).body == b"two"


async def test_an_outage_is_logged_once(
    source: Source, upstream: CachedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten failures of one outage are one warning; the next outage is another."""
    caplog.set_level(logging.INFO, logger="overlay.upstream.cached")
    await upstream.page(DEMO)
    for _ in range(2):
        source.error = UpstreamUnavailable("down")
        for _ in range(10):
            source.now_s += FRESH_S
            await upstream.page(DEMO)
            await settled()
        source.error = None
        source.now_s += FRESH_S
        await upstream.page(DEMO)
        await settled()
        source.now_s += FRESH_S
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2


async def test_absent_is_fresh_for_thirty_seconds(source: Source, upstream: CachedUpstream) -> None:
    """A new project appears soon: absent is served up to twice 30 s, revalidated after the first."""
    source.body = None
    assert (await upstream.page(DEMO)).body is None
    source.body = b"one"
    source.now_s += 29
    assert (await upstream.page(DEMO)).body is None
    await settled()
    assert len(source.asked) == 1
    source.now_s += 31
    assert (await upstream.page(DEMO)).body == b"one"


async def test_a_decision_takes_no_older_page(source: Source, upstream: CachedUpstream) -> None:
    """Young enough: the page in hand. Older: upstream's answer."""
    await upstream.page(DEMO)
    source.now_s += FRESH_S
    source.body = b"two"
    assert (await upstream.page(DEMO, no_older_than_s=FRESH_S)).body == b"one"
    source.now_s += 1
    assert (await upstream.page(DEMO, no_older_than_s=FRESH_S)).body == b"two"


async def test_a_decision_takes_no_stale_page(source: Source, upstream: CachedUpstream) -> None:
    """When upstream fails a decision is not made."""
    await upstream.page(DEMO)
    source.now_s += FRESH_S + 1
    source.error = UpstreamUnavailable("down")
    with pytest.raises(UpstreamUnavailable):
        await upstream.page(DEMO, no_older_than_s=FRESH_S)


async def test_a_decision_does_not_join_a_question_sent_too_early(source: Source, upstream: CachedUpstream) -> None:
    """With no_older_than_s = 0 the answer is to a question that was asked after the call."""
    source.gate = asyncio.Event()
    reader = asyncio.create_task(upstream.page(DEMO))
    await settled()
    source.now_s += 1
    source.body = b"two"
    decision = asyncio.create_task(upstream.page(DEMO, no_older_than_s=0))
    await settled()
    source.gate.set()
    assert (await reader).body == b"one"
    assert (await decision).body == b"two"


async def test_many_readers_are_one_question(source: Source, upstream: CachedUpstream) -> None:
    """A thundering herd reaches upstream once, and a cancelled reader takes nobody along."""
    source.gate = asyncio.Event()
    readers = [asyncio.create_task(upstream.page(DEMO)) for _ in range(20)]
    await settled()
    readers[0].cancel()
    await settled()
    source.gate.set()
    assert [page.body for page in await asyncio.gather(*readers[1:])] == [b"one"] * 19
    assert len(source.asked) == 1


async def test_known_never_asks(source: Source, upstream: CachedUpstream) -> None:
    """The page in hand within stale_s, or None; upstream hears nothing."""
    assert await upstream.known(DEMO) is None
    page = await upstream.page(DEMO)
    source.now_s += STALE_S - 1
    assert await upstream.known(DEMO) is page
    source.now_s += 1
    assert await upstream.known(DEMO) is None
    assert len(source.asked) == 1


async def test_known_finds_what_came_after_it_found_nothing(source: Source, tmp_path: Path) -> None:
    """That the disk had nothing is remembered, so that a list of many names reads it once; a fetch ends that."""
    cached = over(source, tmp_path, limit_bytes=1)  # nothing stays in memory
    assert await cached.known(DEMO) is None
    await cached.page(DEMO)
    await cached.close()
    known = await cached.known(DEMO)
    assert known is not None
    assert known.body == b"one"


async def test_absent_is_not_written(source: Source, tmp_path: Path) -> None:
    """It is held in memory; each unknown name on disk would be a file that anyone can make."""
    source.body = None
    cached = over(source, tmp_path)
    assert (await cached.page(DEMO)).body is None
    known = await cached.known(DEMO)
    assert known is not None
    await cached.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_last_good_pages_survive_a_restart(source: Source, tmp_path: Path) -> None:
    """After a restart during an outage readers have what they had, its age included."""
    before = over(source, tmp_path)
    await before.page(DEMO)
    await before.close()
    source.error = UpstreamUnavailable("down")
    source.now_s += STALE_S / 2
    after = over(source, tmp_path)
    known = await after.known(DEMO)
    assert known is not None
    assert known.body == b"one"
    assert (await after.page(DEMO)).body == b"one"
    assert source.asked[-1] is not None
    await after.close()
    source.now_s += STALE_S / 2
    later = over(source, tmp_path)
    with pytest.raises(UpstreamUnavailable):
        await later.page(DEMO)
    await later.close()


async def test_a_page_dropped_from_memory_is_read_from_disk(source: Source, tmp_path: Path) -> None:
    """A small memory costs a file to read, not a question."""
    cached = over(source, tmp_path, limit_bytes=1)
    await cached.page(DEMO)
    assert (await cached.page(DEMO)).body == b"one"
    assert len(source.asked) == 1
    await cached.close()


async def test_a_disk_that_fails_is_no_error(source: Source, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cache that fails is a miss."""
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    cached = over(source, in_the_way)
    assert (await cached.page(DEMO)).body == b"one"
    await cached.close()
    assert "cannot be written" in caplog.text


async def test_close_ends_what_runs(source: Source) -> None:
    """A revalidation that hangs does not keep the process."""
    cached = over(source)
    await cached.page(DEMO)
    source.gate = asyncio.Event()
    source.now_s += FRESH_S
    await cached.page(DEMO)
    await settled()
    await cached.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
