"""The distributed form, on a Valkey and a SeaweedFS of this machine: warm pages, and very many staged files."""

import asyncio
import http.client
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from typing import Final

from overlay.domain.page import Format
from tests.bench.load import rate
from tests.bench.processes import BOTH_CORES, LOAD_CORE, Server, bare, on_cores, overlay
from tests.bench.rows import Row, ratio
from tests.bench.warm import GZIP, Plan, copied, upstream_pages
from tests.distributed import Backing, backing_in
from tests.seeding import FILES_OF_A_PROJECT, seed

MANY: Final = 100_000
QUICK: Final = 5_000
_ASKED: Final = 500
_READY_S: Final = 1_200.0
_REBUILT: Final = re.compile(r"The ledger was rebuilt: (\d+) files in ([0-9.]+) s")


def warm(plan: Plan) -> Iterator[Row]:
    """Warm small and medium pages, each with its read of the revision in Redis, beside bare's."""
    with ExitStack() as stack:
        upstream = stack.enter_context(bare(plan.folder, upstream_pages("small", "medium"), cores=LOAD_CORE))
        with on_cores(LOAD_CORE):  # Redis has a core of its own in earnest: here it shares the load's
            backing = stack.enter_context(backing_in(plan.folder))
        settings = backing.settings(1)
        ours = stack.enter_context(overlay(plan.folder / "host", upstream.url, access_log=False, settings=settings))
        ready(ours)
        for kind in ("small", "medium"):
            copy = copied(ours, f"/{kind}", f"/simple/{kind}/", GZIP)
            with bare(plan.folder, [copy]) as counterpart:
                rates: tuple[list[float], list[float]] = ([], [])
                for _ in range(plan.rounds):
                    rates[0].append(rate(ours, f"/simple/{kind}/", GZIP, plan.seconds))
                    rates[1].append(rate(counterpart, copy.path, GZIP, plan.seconds))
                yield Row(f"warm 200, {kind}, gzip, with Redis", ratio(*rates), "x", 0.85, 0.75)


def many(plan: Plan) -> Iterator[Row]:
    """100,000 staged files (5,000 with --quick): rebuild, memory of Redis, latency of a project's page."""
    count = QUICK if plan.seconds < 2 else MANY
    with ExitStack() as stack:
        upstream = stack.enter_context(bare(plan.folder, upstream_pages("small")))
        backing = stack.enter_context(backing_in(plan.folder))
        asyncio.run(seed(backing.s3, backing.prefix, count))
        before = used_memory(backing)
        settings = backing.settings(1)
        ours = stack.enter_context(overlay(plan.folder / "host", upstream.url, cores=BOTH_CORES, settings=settings))
        ready(ours)
        shown = f"{count:,} staged files"
        yield Row(f"{shown}: rebuild from S3", rebuilt_s(plan.folder / "server.log"), "s", 60, 600, lower=True)
        yield Row(f"{shown}: Redis, each", (used_memory(backing) - before) / count, "B", 1_200, 2_000, lower=True)
        yield Row(f"{shown}: memory of the worker", ours.memory_mib, "MiB", 200, 600, lower=True)
        first, rest = latencies_ms(ours.port, count)
        yield Row(f"{shown}: first page of a project, p50", first, "ms", 10, 30, lower=True)
        yield Row(f"{shown}: page again, p99", rest, "ms", 5, 20, lower=True)


def ready(server: Server) -> None:
    """Wait until what is staged is loaded."""
    ends_s = time.monotonic() + _READY_S
    while status(server, "/-/ready") != http.client.OK:
        assert time.monotonic() < ends_s, "the overlay was not ready in time"
        time.sleep(0.1)


def status(server: Server, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def used_memory(backing: Backing) -> int:
    return int(str(backing.redis.info("memory")["used_memory"]))


def rebuilt_s(log: Path) -> float:
    """Read from the log how long the rebuild took."""
    found = _REBUILT.search(log.read_text())
    assert found is not None, "nothing was rebuilt"
    return float(found[2])


def latencies_ms(port: int, count: int) -> tuple[float, float]:
    """Ask for pages of many projects over one connection: the median of the first time, the p99 of the second."""
    projects = [f"project-{number}" for number in range(min(count // FILES_OF_A_PROJECT, _ASKED))]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    taken: list[list[float]] = []
    for _ in range(2):
        taken.append([])
        for project in projects:
            began = time.perf_counter()
            connection.request("GET", f"/simple/{project}/", headers={"Accept": Format.JSON.value})
            response = connection.getresponse()
            body = response.read()
            taken[-1].append((time.perf_counter() - began) * 1000)
            assert response.status == http.client.OK, body
            assert len(json.loads(body)["files"]) == FILES_OF_A_PROJECT
    connection.close()
    first, again = (quantiles(times, n=100) for times in taken)
    return first[49], again[98]
