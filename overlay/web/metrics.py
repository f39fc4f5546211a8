"""What operators watch, counted: of this process, or of all workers of one host together (`web.exposition` shows it).

A page goes out in a hundred microseconds, and an observation by the client library takes several, many more where
workers share their values. So what happens with every request is added up in plain numbers, which `flush` gives to the
library: when somebody asks, and among workers once a second, because any of them may be the one that is asked.

Workers share their values in files of one folder, which PROMETHEUS_MULTIPROC_DIR must name before this module is
imported. Whoever starts them makes it, empty, and calls `web.metrics_folder.worker_ended`.

No series names a project, a file, a token or a stage: labels come from sets that the program knows.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Iterable, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from overlay.domain.errors import Corrupt, OverlayError, Unavailable
from overlay.domain.measures import UpstreamAnswer
from overlay.services.uploads import Receipt, UploadStatus
from overlay.web.metrics_folder import reading

FLUSH_S: Final = 1.0
NO_ROUTE: Final = "none"
"""The route of what never found one: 404, 405, requests that are no HTTP."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MENDING_SECONDS: Final = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_SIZES: Final = tuple(4.0**power for power in range(6, 16))  # 4 KiB to 1 GiB
_NEWLY_STAGED: Final = frozenset({UploadStatus.STAGED, UploadStatus.REPLACED})


class _Tally:
    """Durations that the library was not told of yet, by bucket."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(_SECONDS) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.sum_s += seconds


class _Durations(Histogram):  # the library's way of being extended: `labels` makes children of the same class
    """A histogram of seconds that takes many observations at once."""

    def add(self, tally: _Tally) -> int:
        """Take over what the tally holds, and empty it; returns how many observations those were."""
        counts, tally.counts = tally.counts, [0] * len(tally.counts)
        sum_s, tally.sum_s = tally.sum_s, 0.0
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(sum_s)
        return sum(counts)


def shared_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder that this process shares its values in; None when it keeps them for itself."""
    named = environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(named) if named else None


class Metrics:
    """Measures, and the requests and uploads of the web floor; `folder` is `shared_folder`'s.

    Implements `overlay.domain.measures.Measures`. All methods but `collect` are for the loop's thread.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._registry = CollectorRegistry()
        self._requests: dict[tuple[str, str, int], _Tally] = {}
        self._ledger = _Tally()
        self._hits = self._misses = 0
        self._flush_due = folder is None  # a process of its own is flushed when it is asked
        self._make_request_series(self._registry)
        self._make_adapter_series(self._registry)
        self._make_upload_series(self._registry)

    def _make_request_series(self, registry: CollectorRegistry) -> None:
        self._request_count = Counter(
            "overlay_http_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self._request_seconds = _Durations(
            "overlay_http_request_duration_seconds",
            "From a request's head to its answer's last byte.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._broken_off = Counter(
            "overlay_http_answers_broken_off", "Answers cut off by a failure here.", ("route",), registry=registry
        )
        self._page_hits = Counter("overlay_page_cache_hits", "Project pages found in memory.", registry=registry)
        self._page_misses = Counter("overlay_page_cache_misses", "Project pages rendered.", registry=registry)

    def _make_adapter_series(self, registry: CollectorRegistry) -> None:
        self._upstream_count = Counter(
            "overlay_upstream_requests", "Questions to upstream.", ("answer",), registry=registry
        )
        for answer in UpstreamAnswer:  # shown as 0 from the start: a first failure is then seen to be one
            self._upstream_count.labels(answer.value)
        self._upstream_seconds = Histogram(
            "overlay_upstream_request_duration_seconds",
            "From a question to upstream to its answer's last byte.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._ledger_seconds = _Durations(
            "overlay_ledger_request_duration_seconds", "Round trips to Redis.", buckets=_SECONDS, registry=registry
        )
        self._ledger_failures = Counter(
            "overlay_ledger_request_failures", "Round trips to Redis without an answer.", registry=registry
        )
        self._store_seconds = Histogram(
            "overlay_store_request_duration_seconds",
            "Calls of the S3 server.",
            ("operation",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._store_failures = Counter(
            "overlay_store_request_failures", "Calls of the S3 server that failed.", ("operation",), registry=registry
        )
        self._rebuild_seconds = Histogram(
            "overlay_ledger_rebuild_duration_seconds",
            "Rebuilds of the ledger from the documents.",
            buckets=_MENDING_SECONDS,
            registry=registry,
        )
        self._reconcile_seconds = Histogram(
            "overlay_ledger_reconcile_duration_seconds",
            "Reconciles of the ledger with the documents.",
            buckets=_MENDING_SECONDS,
            registry=registry,
        )

    def _make_upload_series(self, registry: CollectorRegistry) -> None:
        self._upload_count = Counter("overlay_uploads", "Uploads by how they ended.", ("outcome",), registry=registry)
        self._upload_seconds = Histogram(
            "overlay_upload_duration_seconds", "Uploads, as long as they took.", buckets=_SECONDS, registry=registry
        )
        self._upload_bytes = Histogram(
            "overlay_upload_size_bytes", "Sizes of the files that were staged.", buckets=_SIZES, registry=registry
        )
        self._uploading = Gauge(
            "overlay_uploads_in_progress", "Uploads under way.", multiprocess_mode="livesum", registry=registry
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note a request; `route` is its template, NO_ROUTE where none was found."""
        tally = self._requests.get((route, method, status))
        if tally is None:
            shown = method if method in _METHODS else "other"  # clients may make up as many as they like
            tally = self._requests.setdefault((route, shown, status), _Tally())
        tally.counts[bisect_left(_SECONDS, seconds)] += 1  # as `add` does: a call less for every page
        tally.sum_s += seconds
        if not self._flush_due:
            self._flush_later()

    def broke_off(self, route: str) -> None:
        """Note an answer that could not be completed."""
        self._broken_off.labels(route).inc()

    def page(self, *, remembered: bool) -> None:
        """Note that a project page was wanted; the request itself is noted later, and flushed."""
        if remembered:
            self._hits += 1
        else:
            self._misses += 1

    def asked_upstream(self, answer: UpstreamAnswer, seconds: float) -> None:
        """Note a question to upstream."""
        self._upstream_count.labels(answer.value).inc()
        self._upstream_seconds.observe(seconds)

    def asked_ledger(self, seconds: float, *, answered: bool) -> None:
        """Note a round trip to Redis: every page needs one."""
        self._ledger.add(seconds)
        if not answered:
            self._ledger_failures.inc()
        if not self._flush_due:
            self._flush_later()

    def asked_store(self, operation: str, seconds: float, *, answered: bool) -> None:
        """Note a call of the S3 server."""
        self._store_seconds.labels(operation).observe(seconds)
        if not answered:
            self._store_failures.labels(operation).inc()

    def rebuilt(self, seconds: float) -> None:
        """Note a rebuild."""
        self._rebuild_seconds.observe(seconds)

    def reconciled(self, seconds: float) -> None:
        """Note a reconcile."""
        self._reconcile_seconds.observe(seconds)

    async def upload(self, receiving: Awaitable[Receipt]) -> Receipt:
        """Receive an upload, and note how that ended."""
        began_s, outcome = time.perf_counter(), ""
        self._uploading.inc()
        try:
            receipt = await receiving
            outcome = receipt.status.name.lower()
        except BaseException as err:
            outcome = _outcome(err)
            raise
        finally:
            self._uploading.dec()
            self._upload_count.labels(outcome).inc()
            self._upload_seconds.observe(time.perf_counter() - began_s)
        if receipt.status in _NEWLY_STAGED and receipt.file is not None:
            self._upload_bytes.observe(receipt.file.size_bytes)
        return receipt

    def flush(self) -> None:
        """Give the library what was added up."""
        self._flush_due = self.folder is None
        for (route, method, status), tally in self._requests.items():
            answers = self._request_seconds.labels(route).add(tally)
            self._request_count.labels(route, method, str(status)).inc(answers)
        self._ledger_seconds.add(self._ledger)
        self._page_hits.inc(self._hits)
        self._page_misses.inc(self._misses)
        self._hits = self._misses = 0

    def collect(self) -> Iterable[Metric]:
        """Read what was flushed, with workers: by all of them. Reads files then, so it is for a thread."""
        for family in self._registry.collect() if self.folder is None else _of_all_workers(self.folder):
            # When a series began says nothing here: all begin with the process.
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family

    def _flush_later(self) -> None:
        self._flush_due = True
        asyncio.get_running_loop().call_later(FLUSH_S, self.flush)


def _of_all_workers(folder: Path) -> Iterable[Metric]:
    with reading(folder):
        # A worker that begins makes its files empty, and fills them a moment later: those hold nothing yet.
        files = [str(path) for path in folder.glob("*.db") if path.stat().st_size]
        return list(MultiProcessCollector.merge(files, accumulate=True))  # type: ignore[no-untyped-call]


def _outcome(err: BaseException) -> str:
    match err:
        case Unavailable() | Corrupt():
            return "failed"
        case OverlayError():
            return "refused"
        case ConnectionError() | asyncio.CancelledError():
            return "broken_off"
        case _:
            return "failed"
