"""Pages that are not in memory: cold ones beside upstream itself, the first one after an upload, the project list."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from overlay.domain.page import Format
from tests.bench.load import Client
from tests.bench.pages import big_wheel, packed, project_list
from tests.bench.processes import LOAD_CORE, Served, bare, free_port, has_nginx, nginx, overlay
from tests.bench.rows import Row
from tests.bench.transfers import upload
from tests.bench.warm import GZIP, Plan, upstream_pages

_COLD_EACH = 6
_NAMES = 900_000


def cold(plan: Plan) -> Iterator[Row]:
    """A project's first page: what the overlay adds to upstream's own time."""
    with ExitStack() as stack:
        upstream = stack.enter_context(bare(plan.folder, upstream_pages("small", "large"), cores=LOAD_CORE))
        ours = stack.enter_context(overlay(plan.folder / "store", upstream.url))
        direct, through = stack.enter_context(Client(upstream)), stack.enter_context(Client(ours))
        for kind, aim, floor in (("small", 2, 5), ("large", 40, 80)):
            direct.get(f"/simple/{kind}/", GZIP)
            through.get(f"/simple/{kind}/", GZIP)
            added_ms = []
            for number in range(plan.rounds * _COLD_EACH):
                path = f"/simple/{kind}-{number}/"
                added_ms.append((_timed(through, path) - _timed(direct, path)) * 1000)
            yield Row(f"cold {kind} page, added to upstream's own", median(added_ms), "ms", aim, floor, lower=True)


def fresh(plan: Plan) -> Iterator[Row]:
    """The first large page after an upload: what its reader waits."""
    with ExitStack() as stack:
        upstream = stack.enter_context(bare(plan.folder, upstream_pages("large"), cores=LOAD_CORE))
        ours = stack.enter_context(overlay(plan.folder / "store", upstream.url))
        client = stack.enter_context(Client(ours))
        took_ms = []
        for number in range(plan.rounds * _COLD_EACH + 1):
            upload(client, big_wheel("large", f"9.{number}", 1000))
            took_ms.append(_timed(client, "/simple/large/") * 1000)
        # The very first one reads upstream's page too.
        yield Row("first large page after an upload", median(took_ms[1:]), "ms", 5, 30, lower=True)


def listed(plan: Plan) -> Iterator[Row]:
    """The project list beside nginx (or FileResponse) with the same bytes."""
    body = packed(project_list(_NAMES))
    headers = {"Content-Type": Format.JSON.value, "Content-Encoding": "gzip", "ETag": '"list"'}
    with ExitStack() as stack:
        upstream = stack.enter_context(bare(plan.folder, [Served("/simple/", headers, body)], cores=LOAD_CORE))
        ours = stack.enter_context(overlay(plan.folder / "store", upstream.url))
        client = stack.enter_context(Client(ours))
        client.get("/-/health", {})
        idle_mib = ours.memory_mib
        sent = client.get("/simple/", GZIP)
        copy = Served(
            "/list", {"Content-Type": Format.JSON.value, "Content-Encoding": "gzip"}, sent.body, streamed=True
        )
        other = stack.enter_context(
            nginx(plan.folder, [copy], free_port()) if has_nginx() else bare(plan.folder, [copy])
        )
        static = stack.enter_context(Client(other))
        static.drain("/list", {})
        turns = range(plan.rounds * _COLD_EACH)
        ratios = [client.drain("/simple/", GZIP) / static.drain("/list", {}) for _ in turns]
        name = "nginx" if has_nginx() else "FileResponse"
        yield Row(f"project list, {_NAMES:,} names, time vs {name}", median(ratios), "x", 2, 5, lower=True)
        yield Row("... memory for it", ours.memory_mib - idle_mib, "MiB", 30, 30, lower=True)


def _timed(client: Client, path: str) -> float:
    started = time.perf_counter()
    client.get(path, GZIP)
    return time.perf_counter() - started
