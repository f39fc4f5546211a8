"""`/-/metrics`: what is counted, by which names, on one process and on several, and what is never told."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import struct
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from overlay.config.tables import Config
from overlay.domain.errors import LedgerUnavailable, StoreUnavailable
from overlay.domain.measures import UpstreamAnswer
from overlay.domain.ports import BlobKey, BlobStore
from overlay.web.app import application
from overlay.web.context import Lifecycle, Services
from overlay.web.metrics import Metrics, shared_folder
from overlay.web.metrics_folder import worker_ended
from overlay.web.server import runner
from overlay.wiring.wired import wired
from tests.builders import wheel
from tests.fakes.index import ScriptedIndex
from tests.running import Running, basic, running

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(overlay: Running) -> Series:
    """Read the page as Prometheus does."""
    async with overlay.get("/-/metrics") as response:
        assert response.status == 200
        return series(text_string_to_metric_families(await response.text()))


def series(families: object) -> Series:
    """Name every value by its series and labels."""
    made = {}
    for family in families:  # type: ignore[attr-defined]
        assert isinstance(family, Metric)
        for sample in family.samples:
            made[sample.name, frozenset(sample.labels.items())] = sample.value
    return made


def value(read: Series, name: str, **labels: str) -> float:
    return read.get((name, frozenset(labels.items())), 0.0)


def requests(read: Series, route: str, method: str, status: int) -> float:
    return value(read, "overlay_http_requests_total", route=route, method=method, status=str(status))


@contextlib.asynccontextmanager
async def serving(
    config: Config, change: Callable[[Services], Services], metrics: Metrics | None = None
) -> AsyncIterator[Running]:
    """Serve with other services than those that were wired."""
    async with wired(config) as made, contextlib.AsyncExitStack() as stack:
        app = application(change(made.services), made.web, Lifecycle(), now_s=made.now_s, metrics=metrics)
        served = runner(app, shutdown_timeout_s=1)
        await served.setup()
        stack.push_async_callback(served.cleanup)
        await web.TCPSite(served, "127.0.0.1", 0).start()
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Running(f"http://127.0.0.1:{served.addresses[0][1]}", made, session, Lifecycle())


# Requests


async def test_requests_are_counted_by_route_method_and_status(overlay: Running, index: ScriptedIndex) -> None:
    """Whichever way they take, and though no access log is written."""
    index.add(wheel("demo", "1.0"))
    asked = ["/simple/demo/", "/simple/demo/", "/simple/Demo/", "/simple/nothing/", "/simple/demo", "/-/health", "/x/y"]
    for path in asked:
        async with overlay.get(path) as response:
            await response.read()
    async with overlay.session.head(f"{overlay.url}/simple/demo/") as response:
        assert response.status == 200
    async with overlay.session.delete(f"{overlay.url}/simple/demo/") as response:
        assert response.status == 405
    read = await scraped(overlay)
    page = "/simple/{project}/"
    assert requests(read, page, "GET", 200) == 2
    assert requests(read, page, "GET", 301) == 1
    assert requests(read, page, "GET", 404) == 1
    assert requests(read, page, "HEAD", 200) == 1
    assert requests(read, "/simple/{project}", "GET", 301) == 1
    assert requests(read, "/-/health", "GET", 200) == 1
    assert requests(read, "none", "GET", 404) == 1
    assert requests(read, "none", "DELETE", 405) == 1
    assert value(read, "overlay_http_request_duration_seconds_count", route=page) == 5
    assert value(read, "overlay_http_request_duration_seconds_bucket", route=page, le="+Inf") == 5
    assert value(read, "overlay_http_request_duration_seconds_sum", route=page) > 0
    again = await scraped(overlay)
    assert requests(again, page, "GET", 200) == 2, "a scrape takes nothing away and adds nothing"
    assert requests(again, "/-/metrics", "GET", 200) == 1


async def test_routes_are_named_without_the_prefix(config: Config) -> None:
    """So that one dashboard fits every installation."""
    async with running(dataclasses.replace(config, public_url="https://index.example/next")) as overlay:
        async with overlay.get("/-/health") as response:
            assert response.status == 200
        assert requests(await scraped(overlay), "/-/health", "GET", 200) == 1


async def test_labels_hold_nothing_that_a_caller_made_up(overlay: Running) -> None:
    """No name, no secret, no method: the number of series is bounded, and reading them tells nothing."""
    paths = [f"/simple/made-up-{number}/" for number in range(20)]
    paths += ["/s/st_made-up/simple/", "/files/made-up/0/made-up", "/made-up", "/api/v1/projects/made-up/1.0"]
    for path in paths:
        for method in ("GET", "PROPFIND", "LOCK"):
            async with overlay.session.request(method, f"{overlay.url}{path}") as response:
                assert response.status >= 400
    async with overlay.get("/-/metrics") as response:
        text = await response.text()
    assert "made-up" not in text
    assert "PROPFIND" not in text
    assert 'method="other"' in text
    assert text.count("overlay_http_requests_total{") <= 10


async def test_an_answer_that_breaks_off_is_counted(config: Config, index: ScriptedIndex) -> None:
    """It has no status of its own: the head that was sent said 200."""
    file = wheel("demo", "1.0", payload=bytes(range(256)) * 400)

    class Breaking:
        def __init__(self, blobs: BlobStore) -> None:
            self.size, self.create = blobs.size, blobs.create

        async def locate(self, key: BlobKey) -> Path | None:  # noqa: ARG002
            return None

        async def read(self, key: BlobKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:  # noqa: ARG002
            yield b"PK"
            raise StoreUnavailable("The disk was pulled out.")

    def broken(services: Services) -> Services:
        return dataclasses.replace(services, blobs=Breaking(services.blobs))  # type: ignore[arg-type]

    async with serving(config, broken) as overlay:
        assert (await overlay.upload(file)).status == 200
        (entry,) = await overlay.wired.services.releases.staged()
        with pytest.raises(aiohttp.ClientPayloadError):
            async with overlay.get(f"/files/demo/{entry.file.upload_id}/{file.filename}") as response:
                await response.read()
        read = await scraped(overlay)
    route = "/files/{project}/{upload}/{filename}"
    assert value(read, "overlay_http_answers_broken_off_total", route=route) == 1
    assert index.requests


# Uploads


async def test_uploads_are_counted_by_how_they_end(overlay: Running, index: ScriptedIndex) -> None:
    """With the sizes of what was staged."""
    live = wheel("demo", "0.9")
    index.add(live)
    first, other = wheel("demo", "1.0"), wheel("demo", "1.0", payload=b"other")
    for file in (first, first, other, live):
        assert (await overlay.upload(file)).status == 200
    assert (await overlay.upload(first, token="ovl_unknown")).status == 401
    assert (await overlay.upload(wheel("demo", "0.9", payload=b"other"))).status == 400
    index.down = True
    assert (await overlay.upload(wheel("fresh", "1.0"))).status == 503
    read = await scraped(overlay)
    counts = {outcome: value(read, "overlay_uploads_total", outcome=outcome) for outcome in OUTCOMES}
    assert counts == OUTCOMES
    assert value(read, "overlay_upload_duration_seconds_count") == 7
    assert value(read, "overlay_upload_size_bytes_count") == 2
    assert value(read, "overlay_upload_size_bytes_sum") == len(first.body) + len(other.body)
    assert value(read, "overlay_uploads_in_progress") == 0


OUTCOMES = {"staged": 1, "replaced": 1, "already_staged": 1, "already_live": 1, "refused": 2, "failed": 1}


async def test_an_upload_is_in_progress_until_it_ends(overlay: Running) -> None:
    """It is counted from its head on, and when the client hangs up it is over."""
    host, _, port = overlay.url.removeprefix("http://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    credential = next(iter(basic("ovl_an-operators-own-secret-for-tests-only").values()))
    lines = ["POST /legacy/ HTTP/1.1", "Host: x", f"Authorization: {credential}", "Content-Length: 1000"]
    lines += ["Content-Type: multipart/form-data; boundary=frontier", "", "--frontier\r\n"]
    writer.write("\r\n".join(lines).encode())
    await until(overlay, lambda read: value(read, "overlay_uploads_in_progress") == 1)
    writer.close()
    await writer.wait_closed()
    await until(overlay, lambda read: value(read, "overlay_uploads_in_progress") == 0)
    read = await scraped(overlay)
    assert value(read, "overlay_uploads_total", outcome="refused") == 1


async def until(overlay: Running, holds: Callable[[Series], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds(await scraped(overlay)):
            await asyncio.sleep(0.01)


# The page


async def test_what_is_staged_is_read_when_it_is_asked_for(config: Config) -> None:
    """Files, bytes, and the age of the oldest, which is not there when there is none."""
    now = [1_700_000_000.0]
    file = wheel("demo", "1.0")
    async with running(config, now_s=lambda: now[0]) as overlay:
        empty = await scraped(overlay)
        await overlay.upload(file)
        now[0] += 100
        await overlay.upload(wheel("demo", "1.1"))
        now[0] += 11
        full = await scraped(overlay)
    assert value(empty, "overlay_ledger_up") == 1
    assert not any(name == "overlay_staged_oldest_age_seconds" for name, _ in empty)
    assert value(full, "overlay_staged_files") == 2
    assert value(full, "overlay_staged_bytes") == len(file.body) + len(wheel("demo", "1.1").body)
    assert value(full, "overlay_staged_oldest_age_seconds") == 111


async def test_a_ledger_that_is_down_costs_its_own_series_only(config: Config) -> None:
    """The scrape answers, and says that it is down."""

    class Silent:
        async def totals(self) -> object:
            raise LedgerUnavailable("The ledger's Redis did not answer.")

    def silenced(services: Services) -> Services:
        return dataclasses.replace(services, ledger=Silent())  # type: ignore[arg-type]

    async with serving(config, silenced) as overlay:
        read = await scraped(overlay)
    assert read["overlay_ledger_up", frozenset()] == 0
    assert not any(name.startswith("overlay_staged") for name, _ in read)
    assert value(read, "process_resident_memory_bytes") > 0
    assert any(name == "overlay_build_info" for name, _ in read)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=x", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
async def test_the_page_has_the_form_that_is_asked_for(overlay: Running, accept: str, content_type: str) -> None:
    """OpenMetrics, strictly, or Prometheus's own text; never stored."""
    async with overlay.get("/-/metrics", Accept=accept) as response:
        assert response.headers["Content-Type"] == content_type
        assert response.headers["Cache-Control"] == "no-store"
        text = await response.text()
    parse = openmetrics.text_string_to_metric_families if "openmetrics" in accept else text_string_to_metric_families
    names = {name for name, _ in series(parse(text))}
    assert {"overlay_page_cache_hits_total", "overlay_ledger_up", "process_cpu_seconds_total"} <= names
    assert not any(name.endswith("_created") for name in names)


# What others report


async def test_services_and_adapters_report_here(overlay: Running, index: ScriptedIndex) -> None:
    """Pages from memory and rendered, and questions to upstream."""
    index.add(wheel("demo", "1.0"))
    for _ in range(3):
        async with overlay.get("/simple/demo/") as response:
            await response.read()
    read = await scraped(overlay)
    assert value(read, "overlay_page_cache_misses_total") == 1
    assert value(read, "overlay_page_cache_hits_total") == 2
    assert value(read, "overlay_upstream_requests_total", answer="page") == 1
    assert value(read, "overlay_upstream_request_duration_seconds_count") == 1


def test_reports_become_series() -> None:
    """Each where dashboards look for it."""
    metrics = Metrics()
    metrics.page(remembered=True)
    metrics.page(remembered=True)
    metrics.page(remembered=False)
    metrics.asked_upstream(UpstreamAnswer.FAILED, 0.3)
    metrics.asked_ledger(0.0005, answered=True)
    metrics.asked_ledger(0.7, answered=False)
    metrics.asked_store("reading", 61.0, answered=False)
    metrics.rebuilt(2.0)
    metrics.reconciled(0.1)
    metrics.flush()
    metrics.flush()
    read = series(metrics.collect())
    assert value(read, "overlay_page_cache_hits_total") == 2
    assert value(read, "overlay_page_cache_misses_total") == 1
    assert value(read, "overlay_upstream_requests_total", answer="failed") == 1
    assert read["overlay_upstream_requests_total", frozenset({("answer", "page")})] == 0
    assert value(read, "overlay_upstream_request_duration_seconds_bucket", le="0.25") == 0
    assert value(read, "overlay_upstream_request_duration_seconds_bucket", le="0.5") == 1
    assert value(read, "overlay_ledger_request_duration_seconds_bucket", le="0.0005") == 1
    assert value(read, "overlay_ledger_request_duration_seconds_count") == 2
    assert value(read, "overlay_ledger_request_duration_seconds_sum") == pytest.approx(0.7005)
    assert value(read, "overlay_ledger_request_failures_total") == 1
    assert value(read, "overlay_store_request_failures_total", operation="reading") == 1
    assert value(read, "overlay_store_request_duration_seconds_bucket", operation="reading", le="60.0") == 0
    assert value(read, "overlay_store_request_duration_seconds_bucket", operation="reading", le="+Inf") == 1
    assert value(read, "overlay_ledger_rebuild_duration_seconds_count") == 1
    assert value(read, "overlay_ledger_reconcile_duration_seconds_bucket", le="0.1") == 1


# Workers

WORKER = """
import asyncio, os, sys
from overlay.web.metrics import Metrics, shared_folder
from overlay.web.metrics_folder import worker_ended

async def work():
    metrics = Metrics(shared_folder(os.environ))
    for _ in range(3):
        metrics.answered("/simple/{project}/", "GET", 200, 0.0001)
    metrics.asked_ledger(0.001, answered=True)
    uploading = asyncio.ensure_future(metrics.upload(asyncio.Event().wait()))
    await asyncio.sleep(0)
    print("counted", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(work())
"""


@contextlib.asynccontextmanager
async def worker(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process that counts, and flushes nothing by hand."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER),
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"counted\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.communicate()


async def test_any_worker_tells_of_all(tmp_path: Path) -> None:
    """Counts of a host are summed, also those of workers that ended; what is under way is that of the living."""
    metrics = Metrics(shared_folder({"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}))
    async with worker(tmp_path), worker(tmp_path) as second:
        async with asyncio.timeout(30):
            # Each flushes within a second, what the ledger was asked after what it answered itself.
            while value(series(metrics.collect()), "overlay_ledger_request_duration_seconds_count") < 2:
                await asyncio.sleep(0.05)
        read = series(metrics.collect())
        assert _counted(metrics) == 6
        assert value(read, "overlay_http_request_duration_seconds_bucket", route="/simple/{project}/", le="0.0005") == 6
        assert value(read, "overlay_ledger_request_duration_seconds_count") == 2
        assert value(read, "overlay_uploads_in_progress") == 2
        second.send_signal(signal.SIGKILL)
        await second.wait()
        worker_ended(tmp_path, second.pid)
        read = series(metrics.collect())
        assert _counted(metrics) == 6
        assert value(read, "overlay_uploads_in_progress") == 1
        assert not list(tmp_path.glob(f"*_{second.pid}.db"))


async def test_ended_workers_leave_no_files_and_lose_no_counts(tmp_path: Path) -> None:
    """Every scrape reads all files: there are as many as there are workers, however many ended before."""
    metrics = Metrics(tmp_path)
    for number in range(3):
        async with worker(tmp_path) as process:
            async with asyncio.timeout(30):
                while _counted(metrics) < 3 * (number + 1):
                    await asyncio.sleep(0.05)
        worker_ended(tmp_path, process.pid)
        worker_ended(tmp_path, process.pid)  # nothing is counted twice
    read = series(metrics.collect())
    assert _counted(metrics) == 9
    assert value(read, "overlay_http_request_duration_seconds_count", route="/simple/{project}/") == 9
    assert value(read, "overlay_uploads_in_progress") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"counter_ended.db", "histogram_ended.db", "lock"}


@pytest.mark.parametrize("left", [b"", struct.pack("iiii", 64, 0, 1000, 0).ljust(64, b"x")])
def test_what_cannot_be_read_of_an_ended_worker_spoils_no_scrape(tmp_path: Path, left: bytes) -> None:
    """Its file goes; the others' counts stay."""
    (tmp_path / "counter_7.db").write_bytes(left)
    worker_ended(tmp_path, 7)
    assert series(Metrics(tmp_path).collect()) == {}


def _counted(metrics: Metrics) -> float:
    return requests(series(metrics.collect()), "/simple/{project}/", "GET", 200)


async def test_each_worker_has_its_own_process_series(config: Config, tmp_path: Path) -> None:
    """Their sum would fall when a worker ends, and a counter may not fall."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    async with (
        worker(folder) as first,
        worker(folder) as second,
        serving(config, lambda services: services, Metrics(folder)) as overlay,
    ):
        read = await scraped(overlay)
    for process in (first, second):
        assert value(read, "process_resident_memory_bytes", pid=str(process.pid)) > 0
        assert value(read, "process_cpu_seconds_total", pid=str(process.pid)) > 0
    assert sum(name == "process_open_fds" for name, _ in read) == 2


def test_a_process_alone_keeps_its_values() -> None:
    """Without the variable, or with an empty one, nothing is shared."""
    assert shared_folder({}) is None
    assert shared_folder({"PROMETHEUS_MULTIPROC_DIR": ""}) is None
