"""Upstream as its readers see it: cached in memory and on disk, one flight per project (design §4).

A reader gets, by the age of the page in hand: below `fresh_s`, the page; below twice that, the page, while it is
revalidated in the background; below `stale_s`, upstream's new answer, or the page when upstream fails; else upstream's
answer or its error. "Absent" is a page that is fresh for min(30 s, `fresh_s`) and held in memory only.

An upstream that takes ten seconds to fail must not cost every reader ten seconds: once an attempt failed, readers who
have a stale page get it at once for `FAILED_HOLD_S`, and at most one retry a second runs in the background. Without a
page in hand every reader asks: an error is never remembered. Decisions (`no_older_than_s`) never take a stale page.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Final

from overlay.caching.flight import Flight
from overlay.caching.lru import ByteLru
from overlay.caching.threads import in_thread
from overlay.domain.errors import UpstreamCorrupt, UpstreamUnavailable
from overlay.domain.names import NormalizedName
from overlay.domain.page import UpstreamPage
from overlay.domain.ports import UpstreamSource
from overlay.upstream.page_files import PageFiles

ABSENT_FRESH_S: Final = 30.0
RETRY_S: Final = 1.0
FAILED_HOLD_S: Final = 30.0
"""At least this long (or `fresh_s`) a failure spares readers the wait; longer than a timeout, so retries overlap it."""

_PAGE_OVERHEAD_BYTES: Final = 1000
_MISS_BYTES: Final = 200
_MISSES_BYTES: Final = 4 << 20

_log: Final = logging.getLogger(__name__)


class Plan(Enum):
    """What a reader gets who has a page in hand."""

    SERVE = "the page"
    SERVE_AND_ASK = "the page, revalidated in the background"
    ASK_OR_SERVE = "upstream's answer, or the page when upstream fails"
    ASK = "upstream's answer or its error"


def plan(age_s: float, *, fresh_s: float, stale_s: float, failed_ago_s: float | None) -> Plan:
    """Decide by the page's age and by how long ago the last attempt failed (None: it did not)."""
    if 0 <= age_s < fresh_s:  # a clock set back makes ages negative: such a page is revalidated
        return Plan.SERVE
    if age_s >= max(stale_s, 2 * fresh_s):
        return Plan.ASK
    failing = failed_ago_s is not None and failed_ago_s < max(fresh_s, FAILED_HOLD_S)
    if age_s >= 2 * fresh_s and not failing:
        return Plan.ASK_OR_SERVE
    return Plan.SERVE if failed_ago_s is not None and failed_ago_s < RETRY_S else Plan.SERVE_AND_ASK


class CachedUpstream:
    """Implements `Upstream` around a source. `close` ends what runs in the background."""

    def __init__(
        self,
        source: UpstreamSource,
        *,
        files: PageFiles | None,
        limit_bytes: int,
        fresh_s: float,
        stale_s: float,
        now_s: Callable[[], float],
    ) -> None:
        self._source = source
        self._files = files
        self._memory: ByteLru[NormalizedName, UpstreamPage] = ByteLru(limit_bytes, _weight)
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._now_s = now_s
        self._fetches: Flight[NormalizedName, UpstreamPage] = Flight()
        self._loads: Flight[NormalizedName, UpstreamPage | None] = Flight()
        self._failed_at_s: dict[NormalizedName, float] = {}
        """When the last attempt failed, of projects whose page in hand serves on; emptied by success."""
        self._missed_at_s: ByteLru[NormalizedName, float] = ByteLru(_MISSES_BYTES, lambda _: _MISS_BYTES)
        """When `known` last found nothing on disk: a project list asks for every staged name."""
        self._unwritten: dict[NormalizedName, UpstreamPage] = {}
        self._writer: asyncio.Task[None] | None = None
        self._trouble = ""

    async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:
        """Return upstream's page; see `Upstream` and the rules above."""
        held = self._memory.get(project)
        if held is None:
            held = await self._load(project)
        if no_older_than_s is not None:
            return await self._decisive(project, held, self._now_s() - no_older_than_s)
        if held is not None and self._serves(held):
            return held
        if held is not None and self._plan(held, self._now_s()) is Plan.ASK_OR_SERVE:
            with suppress(UpstreamUnavailable, UpstreamCorrupt):  # the flight logged it
                return await self._fetches.run(project, lambda: self._fetch(project))
            return held
        return await self._fetches.run(project, lambda: self._fetch(project))

    def in_hand(self, project: NormalizedName) -> UpstreamPage | None:
        """Return the page if it is in memory and readers get it at once."""
        held = self._memory.get(project)
        if held is None:
            return None
        if held.body is not None and 0 <= self._now_s() - held.fetched_at_s < self._fresh_s:
            return held  # as `plan` would say, sooner: nearly every request comes by here
        return held if self._serves(held) else None

    async def known(self, project: NormalizedName) -> UpstreamPage | None:
        """Return the page in hand, however old within `stale_s`; never asks upstream."""
        held = self._memory.get(project)
        if held is None and not self._missed_lately(project):
            held = await self._load(project)
            if held is None:
                self._missed_at_s.put(project, self._now_s())
        if held is None or self._now_s() - held.fetched_at_s >= max(self._stale_s, 2 * self._fresh_for_s(held)):
            return None
        return held

    @property
    def trouble(self) -> str:
        """Say why the last question failed; "" when it was answered."""
        return self._trouble

    async def close(self) -> None:
        """Cancel revalidations and finish writing what is in hand."""
        await self._fetches.close()
        await self._loads.close()
        if self._writer is not None:
            await self._writer

    def _missed_lately(self, project: NormalizedName) -> bool:
        missed_at_s = self._missed_at_s.get(project)
        return missed_at_s is not None and 0 <= self._now_s() - missed_at_s < self._fresh_s

    def _serves(self, held: UpstreamPage) -> bool:
        """Say whether a reader gets this page at once; revalidates it in the background when it is time."""
        chosen = self._plan(held, self._now_s())
        if chosen is Plan.SERVE_AND_ASK:
            self._fetches.start(held.project, lambda: self._fetch(held.project))
        return chosen in {Plan.SERVE, Plan.SERVE_AND_ASK}

    def _plan(self, held: UpstreamPage, now_s: float) -> Plan:
        failed_at_s = self._failed_at_s.get(held.project)
        return plan(
            now_s - held.fetched_at_s,
            fresh_s=self._fresh_for_s(held),
            stale_s=self._stale_s,
            failed_ago_s=None if failed_at_s is None else now_s - failed_at_s,
        )

    def _fresh_for_s(self, page: UpstreamPage) -> float:
        return self._fresh_s if page.body is not None else min(ABSENT_FRESH_S, self._fresh_s)

    async def _decisive(self, project: NormalizedName, held: UpstreamPage | None, since_s: float) -> UpstreamPage:
        if held is not None and since_s <= held.fetched_at_s <= self._now_s():
            return held
        page = await self._fetches.run(project, lambda: self._fetch(project))
        if page.fetched_at_s < since_s:  # joined a question that was sent too early; the next one is not
            page = await self._fetches.run(project, lambda: self._fetch(project))
        return page

    async def _load(self, project: NormalizedName) -> UpstreamPage | None:
        return None if self._files is None else await self._loads.run(project, lambda: self._loaded(project))

    async def _loaded(self, project: NormalizedName) -> UpstreamPage | None:
        if self._files is None:
            return None
        waiting = self._unwritten.get(project)
        page = await in_thread(self._files.load, project) if waiting is None else waiting
        newer = self._memory.get(project)
        if newer is not None:  # fetched while the disk was read
            return newer
        if page is not None:
            self._memory.put(project, page)
        return page

    async def _fetch(self, project: NormalizedName) -> UpstreamPage:
        held = self._memory.get(project)
        if held is None:
            held = await self._load(project)
        try:
            page = await self._source.fetch(project, held)
        except (UpstreamUnavailable, UpstreamCorrupt) as err:
            self._trouble = str(err)
            if held is not None:
                if project not in self._failed_at_s:
                    _log.warning("Upstream fails for %s; its last good page is served on: %s", project, err)
                self._failed_at_s[project] = self._now_s()
            raise
        self._trouble = ""
        if self._failed_at_s.pop(project, None) is not None:
            _log.info("Upstream answers for %s again.", project)
        self._memory.put(project, page)
        self._missed_at_s.drop(project)
        self._write_later(page)
        return page

    def _write_later(self, page: UpstreamPage) -> None:
        """Leave the page to the one writer: readers do not wait for the disk, and a newer page is never overwritten."""
        if self._files is None:
            return
        self._unwritten[page.project] = page
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(self._files))

    async def _write(self, files: PageFiles) -> None:
        failed = False
        while self._unwritten:
            project, page = next(iter(self._unwritten.items()))
            try:
                await in_thread(files.store, page)
            except OSError as err:
                if not failed:
                    _log.warning("Upstream's last good pages cannot be written: %s", err)
                failed = True
            if self._unwritten.get(project) is page:
                del self._unwritten[project]


def _weight(page: UpstreamPage) -> int:
    return len(page.body or b"") + len(page.gzip or b"") + _PAGE_OVERHEAD_BYTES
