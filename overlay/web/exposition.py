"""`/-/metrics`: what `web.metrics` counted, what is staged now, and the processes, for Prometheus or OpenMetrics.

Whoever reaches the page may read it. It names no project, no token and no stage; an operator who wants to hide how
much goes on lets the proxy in front answer for `/-/` (the one in `deploy/` does).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web
from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from overlay import __version__
from overlay.caching.threads import in_thread
from overlay.domain.errors import LedgerUnavailable
from overlay.domain.ledger_port import StageLedger
from overlay.web.context import METRICS, SERVICES
from overlay.web.metrics import Metrics
from overlay.web.operations import now_s

_OPENMETRICS: Final = "application/openmetrics-text"


async def show_metrics(request: web.Request) -> web.Response:
    """Answer `/-/metrics`; also while the ledger is away, then without what is staged."""
    metrics = request.app[METRICS]
    staged = await _staged(request.app[SERVICES].ledger, now_s(request))
    metrics.flush()
    encode, content_type = _encoder(request.headers.get("Accept", ""))
    body = await in_thread(encode, _Exposition(metrics, staged))
    return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


@dataclass(frozen=True, slots=True)
class _Exposition:
    """Everything, in the shape that the library's encoders ask for."""

    metrics: Metrics
    staged: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        """Yield the series."""
        yield from self.metrics.collect()
        yield from self.staged
        yield from _processes(self.metrics.folder)
        yield from PlatformCollector(registry=None).collect()
        yield InfoMetricFamily("overlay_build", "The program that answers.", {"version": __version__})


async def _staged(ledger: StageLedger, now_s: float) -> list[Metric]:
    """Read what is staged. A custom collector could not: the library's collectors wait for nothing."""
    try:
        totals = await ledger.totals()
    except LedgerUnavailable:
        return [GaugeMetricFamily("overlay_ledger_up", _LEDGER_UP, 0)]
    families: list[Metric] = [
        GaugeMetricFamily("overlay_ledger_up", _LEDGER_UP, 1),
        GaugeMetricFamily("overlay_staged_files", "Files staged now.", totals.files),
        GaugeMetricFamily("overlay_staged_bytes", "Their sizes.", totals.size_bytes),
    ]
    if totals.oldest_staged_at_us is not None:
        age_s = now_s - totals.oldest_staged_at_us / 1_000_000
        families.append(GaugeMetricFamily("overlay_staged_oldest_age_seconds", "Age of the oldest of them.", age_s))
    return families


_LEDGER_UP: Final = "Whether the ledger answers and is loaded."


def _processes(folder: Path | None) -> Iterable[Metric]:
    """Read what the kernel knows: of this process, or of each worker, by its pid."""
    if folder is None:
        return ProcessCollector(registry=None).collect()
    families: dict[str, Metric] = {}
    # Each worker has this file from its start until it is marked dead.
    for pid in sorted(path.stem.rpartition("_")[2] for path in folder.glob("gauge_livesum_*.db")):
        for family in ProcessCollector(pid=partial(str, pid), registry=None).collect():
            samples = [sample._replace(labels={"pid": pid}) for sample in family.samples]
            family.samples = []
            families.setdefault(family.name, family).samples.extend(samples)
    return families.values()


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    kinds = {kind.partition(";")[0].strip().lower() for kind in accept.split(",")}
    if _OPENMETRICS in kinds:
        return openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest, CONTENT_TYPE_PLAIN_0_0_4
