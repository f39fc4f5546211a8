"""What operators see of workers on S3 and Redis: one sum for a host, logs as JSON, and which part is down."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.builders import wheel
from tests.distributed import Backing, backing_in
from tests.fakes.index import Answer, ScriptedIndex
from tests.running import ADMIN, basic, form
from tests.served import Served

LIMIT_S = 60.0
PROMPT_S = 5.0  # alone within a second; upstream is given up after ten
WORKERS = 2


@pytest.fixture
def backing(tmp_path: Path) -> Iterator[Backing]:
    """Servers of this test's own, which it freezes."""
    with backing_in(tmp_path) as made:
        yield made


@pytest.fixture
async def index() -> AsyncIterator[ScriptedIndex]:
    async with ScriptedIndex() as made:
        made.add(wheel("demo", "0.9"))
        yield made


async def ask(host: Served, path: str, *, within_s: float = LIMIT_S) -> tuple[int, str]:
    """Ask over a connection of its own, which any worker may take."""
    async with (
        asyncio.timeout(within_s),
        aiohttp.ClientSession() as session,
        session.get(f"{host.url}{path}") as response,
    ):
        return response.status, await response.text()


async def measured(host: Served) -> dict[str, float]:
    """Read the host's metrics; series that differ by their labels alone are summed."""
    status, text = await ask(host, "/-/metrics")
    assert status == 200
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = f"{sample.name} {sample.labels.get('route', '')}".strip()
            sums[name] = sums.get(name, 0) + sample.value
    return sums


async def settled(host: Served, name: str, value: float) -> dict[str, float]:
    """Wait until every worker told what it counted, and return all of it."""
    async with asyncio.timeout(LIMIT_S):
        while (read := await measured(host)).get(name) != value:
            await asyncio.sleep(0.05)
    return read


async def test_a_host_is_measured_as_one(backing: Backing, index: ScriptedIndex) -> None:
    """Whichever worker is asked: requests of all, each worker's process, what is staged, and both servers' times."""
    async with backing.host("a", index.simple_url, workers=WORKERS, OVERLAY_SERVER_LOG="json") as host:
        async with aiohttp.ClientSession() as session:
            file = wheel("demo", "1.0")
            upload = session.post(f"{host.url}/legacy/", data=form(file), headers=basic(ADMIN))
            async with upload as response:
                assert response.status == 200
        for _ in range(30):
            assert (await ask(host, "/simple/demo/"))[0] == 200
        page = "/simple/{project}/"
        read = await settled(host, f"overlay_http_requests_total {page}", 30)
        assert read[f"overlay_http_request_duration_seconds_count {page}"] == 30
        assert read["overlay_uploads_total"] == 1
        assert read["overlay_upload_size_bytes_sum"] == len(file.body)
        assert read["overlay_page_cache_hits_total"] + read["overlay_page_cache_misses_total"] == 30
        assert (read["overlay_staged_files"], read["overlay_staged_bytes"]) == (1, len(file.body))
        assert read["overlay_ledger_up"] == 1
        assert read["overlay_ledger_rebuild_duration_seconds_count"] == 1, "one worker did it for all"
        assert read["overlay_ledger_request_duration_seconds_count"] >= 30
        assert read["overlay_store_request_duration_seconds_count"] > 0
        text = (await ask(host, "/-/metrics"))[1]
        assert text.count("process_resident_memory_bytes{") == WORKERS
        assert "demo" not in text
    for line in host.log.splitlines():
        assert {"time", "level", "logger"} <= set(json.loads(line))
    assert sum(json.loads(line).get("path") == "/simple/demo/" for line in host.log.splitlines()) == 30


async def test_a_probe_is_answered_while_everything_hangs(backing: Backing, index: ScriptedIndex) -> None:
    """It names S3, then Redis, too, and is ready again when they are; the metrics say that the ledger is down."""
    async with backing.host("a", index.simple_url, workers=1) as host:
        backing.s3.freeze()
        status, text = await ask(host, "/-/ready", within_s=PROMPT_S)
        parts = json.loads(text)
        assert (status, parts["ledger"]) == (503, "ok")
        assert "store did not answer" in parts["store"]
        backing.redis.pause()
        status, text = await ask(host, "/-/ready", within_s=PROMPT_S)
        assert status == 503
        assert [part for part, state in json.loads(text).items() if state == "ok"] == ["server", "upstream"]
        read = await measured(host)
        assert read["overlay_ledger_up"] == 0
        assert read["overlay_ledger_request_failures_total"] > 0
        assert "overlay_staged_files" not in read
        backing.s3.thaw()
        backing.redis.resume()
        async with asyncio.timeout(LIMIT_S):
            while (await ask(host, "/-/ready"))[0] != 200:
                await asyncio.sleep(0.05)


async def test_a_page_fails_at_once_while_upstream_and_ledger_hang(backing: Backing, index: ScriptedIndex) -> None:
    """Also one that is not in hand: who knows that half of it is missing does not wait for the other half."""
    stalled = asyncio.Event()
    index.script("cold", Answer(b"", gate=stalled))
    async with backing.host("a", index.simple_url, workers=1) as host:
        backing.redis.pause()
        status, text = await ask(host, "/simple/cold/", within_s=PROMPT_S)
        assert (status, "ledger" in text) == (503, True), text
        backing.redis.resume()
        stalled.set()
