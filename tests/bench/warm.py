"""Warm pages: the rate over 32 connections beside the bare counterpart that sends the very same bytes and headers."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from overlay.domain.page import Format
from tests.bench.load import Client, rate
from tests.bench.pages import packed, project_page, seed
from tests.bench.processes import LOAD_CORE, Served, Server, bare, overlay
from tests.bench.rows import Row, ratio

PLAIN = {"Accept": Format.JSON.value}
GZIP = {**PLAIN, "Accept-Encoding": "gzip"}
KINDS = ("small", "medium", "large")
_OWN = {"date", "content-length", "connection"}  # every server writes these itself


@dataclass(frozen=True)
class Plan:
    """How long a run may take."""

    folder: Path
    rounds: int
    seconds: float


def upstream_pages(*kinds: str) -> list[Served]:
    """Return upstream's project pages, as PyPI's edge sends them."""
    headers = {"Content-Type": Format.JSON.value, "Content-Encoding": "gzip", "X-PyPI-Last-Serial": "39691657"}
    return [Served(f"/simple/{kind}/", headers, packed(project_page(kind))) for kind in kinds]


def warm(plan: Plan) -> Iterator[Row]:
    """Warm 200s and 304s, beside bare's."""
    asked = {f"{kind}, gzip": (f"/simple/{kind}/", GZIP) for kind in KINDS}
    asked |= {f"{kind}, plain": (f"/simple/{kind}/", PLAIN) for kind in KINDS}
    with ExitStack() as stack:
        upstream = stack.enter_context(bare(plan.folder, upstream_pages(*KINDS), cores=LOAD_CORE))
        # The counterpart writes no log either; what the lines cost stands beside.
        ours = stack.enter_context(overlay(plan.folder / "store", upstream.url, access_log=False))
        logging = stack.enter_context(overlay(plan.folder / "logging", upstream.url))
        copies = [copied(ours, f"/{name.replace(', ', '-')}", *question) for name, question in asked.items()]
        counterpart = stack.enter_context(bare(plan.folder, copies))
        for (name, (path, headers)), copy in zip(asked.items(), copies, strict=True):
            aim, floor = (0.90, 0.80) if name.startswith("small") else (0.95, 0.85)
            yield from _beside(plan, f"warm 200, {name}", (ours, logging, counterpart), path, copy, headers, aim, floor)
        condition = {**GZIP, "If-None-Match": copies[0].headers["ETag"]}
        yield from _beside(
            plan, "304, small", (ours, logging, counterpart), "/simple/small/", copies[0], condition, 0.90, 0.80
        )


def merged(plan: Plan) -> Iterator[Row]:
    """The page with 1000 staged files beside the same bytes with none."""
    store = plan.folder / "store"
    seed(store, "small", 1000)
    with ExitStack() as stack:
        first = stack.enter_context(bare(plan.folder, upstream_pages("small"), cores=LOAD_CORE))
        ours = stack.enter_context(overlay(store, first.url))
        copy = copied(ours, "/simple/same/", "/simple/small/", GZIP)
        second = stack.enter_context(bare(plan.folder, [copy], cores=LOAD_CORE))
        none = stack.enter_context(overlay(plan.folder / "none", second.url))
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(plan.rounds):
            rates[0].append(rate(ours, "/simple/small/", GZIP, plan.seconds))
            rates[1].append(rate(none, "/simple/same/", GZIP, plan.seconds))
        yield Row("warm merged page, 1000 staged vs none", ratio(*rates), "x", 0.95, 0.90)


def _beside(
    plan: Plan,
    name: str,
    servers: tuple[Server, Server, Server],
    path: str,
    copy: Served,
    headers: Mapping[str, str],
    aim: float,
    floor: float,
) -> Iterator[Row]:
    ours, logging, counterpart = servers
    silent, logged, least = [], [], []
    for _ in range(plan.rounds):
        silent.append(rate(ours, path, headers, plan.seconds))
        logged.append(rate(logging, path, headers, plan.seconds))
        least.append(rate(counterpart, copy.path, headers, plan.seconds))
    note = f"{median(silent):,.0f} of {median(least):,.0f} a CPU second; with its access log {ratio(logged, least):.2f}"
    yield Row(f"{name} vs bare aiohttp", ratio(silent, least), "x", aim, floor, note=note)


def copied(server: Server, path: str, source: str, headers: Mapping[str, str]) -> Served:
    """Copy what the server sends, so that the counterpart sends the same."""
    with Client(server) as client:
        answer = client.get(source, headers)
    kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN}
    return Served(path, kept, answer.body)
