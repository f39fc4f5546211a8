"""Project pages: find the key, answer from memory, else render once.

Every request reads the ledger's revisions after it began; together with upstream's validator they name the page's
bytes. That is read-your-writes without any invalidation: a page of an older state has another name.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from overlay.caching.flight import Flight
from overlay.caching.lru import ByteLru
from overlay.caching.threads import in_thread
from overlay.domain import renderer
from overlay.domain.errors import UnknownProject
from overlay.domain.ledger_port import StageLedger
from overlay.domain.listing import listable
from overlay.domain.measures import NO_MEASURES, Measures
from overlay.domain.names import ABSENT, NormalizedName, Revision, StageId, Validator
from overlay.domain.negotiate import content_encoding
from overlay.domain.page import Encoding, Format, PageKey, Rendition, UpstreamPage, View
from overlay.domain.ports import Upstream
from overlay.domain.stage import StageSnapshot
from overlay.services.facts import FactsOf
from overlay.services.ledger_patience import from_ledger

_INLINE_BYTES: Final = 32 * 1024  # smaller pages are rendered in less time than a thread switch takes
_OFFERED: Final = (Encoding.ZSTD, Encoding.GZIP)
_OFFERED_AS_CAME: Final = (Encoding.GZIP, Encoding.ZSTD)
_OVERHEAD_BYTES: Final = 500
_JSON: Final = Format.JSON  # in Python 3.11 each look at a member of an enumeration takes a call


@dataclass(frozen=True, slots=True)
class Named:
    """A page's key, and the entity tag that was formed of it."""

    key: PageKey
    etag: str


Current: TypeAlias = tuple[Named, UpstreamPage | None]
"""The page as it is now, not rendered yet: its names, and upstream's page, of which its key was formed."""


class Pages:
    """Serves the project pages of every view; remembers renditions up to `limit_bytes`."""

    def __init__(
        self,
        upstream: Upstream,
        ledger: StageLedger,
        facts_of: FactsOf,
        *,
        limit_bytes: int,
        measures: Measures = NO_MEASURES,
    ) -> None:
        self._upstream = upstream
        self._ledger = ledger
        self._facts_of = facts_of
        self._measures = measures
        self._renditions: ByteLru[str, Rendition] = ByteLru(
            limit_bytes, lambda rendition: len(rendition.body) + _OVERHEAD_BYTES
        )
        """By entity tag, which names the key in 128 bits and is hashed once."""
        self._reading: Flight[str, asyncio.Future[Rendition]] = Flight()
        self._rendering: Flight[str, Rendition] = Flight()

    async def current(
        self, view: View, project: NormalizedName, page_format: Format, accept_encoding: str | None
    ) -> Current:
        """Find what the page is now; its ETag needs no rendering.

        Raises UpstreamUnavailable, UpstreamCorrupt (live views only), LedgerUnavailable, UnknownProject.
        """
        upstream = self._upstream.in_hand(project) if view.live else await self._upstream.known(project)
        if upstream is None and view.live:
            upstream, revisions = await self._asked(project, view.stages)
        else:
            revisions = await from_ledger(self._ledger.revisions(project, view.stages))
        untouched = not any(revisions)
        if untouched and (not view.live or upstream is None or upstream.body is None):
            raise UnknownProject(project)
        as_came = untouched and page_format is _JSON and upstream is not None and upstream.gzip is not None
        encoding = content_encoding(accept_encoding, _OFFERED_AS_CAME if as_came else _OFFERED)
        return _named(view, project, _validator(upstream), revisions, page_format, encoding), upstream

    async def rendition(self, view: View, current: Current) -> Rendition:
        """Return the page's bytes, rendered at most once. Raises LedgerUnavailable, UnknownProject."""
        named, _ = current
        held = self._renditions.get(named.etag)
        self._measures.page(remembered=held is not None)
        if held is not None:
            return held
        if not any(named.key.revisions):
            return await self._rendering.run(named.etag, lambda: self._render(view, current, ()))
        rendering = self._rendering.under_way(named.etag)
        if rendering is None:
            rendering = await from_ledger(self._reading.run(named.etag, lambda: self._read(view, current)))
        return await asyncio.shield(rendering)

    async def close(self) -> None:
        """End what is being rendered."""
        await self._reading.close()
        await self._rendering.close()

    async def _asked(
        self, project: NormalizedName, stages: Sequence[StageId]
    ) -> tuple[UpstreamPage, tuple[Revision, ...]]:
        """Ask upstream and ledger at the same time; a ledger that fails is the answer, however long upstream takes."""
        page = asyncio.ensure_future(self._upstream.page(project))
        try:
            revisions = await from_ledger(self._ledger.revisions(project, stages))
        except BaseException:
            page.cancel()  # what it asked for goes on for others; an error that it has by now counts as seen
            raise
        return await page, revisions

    async def _read(self, view: View, current: Current) -> "asyncio.Future[Rendition]":
        """Read what is staged, together with all who want the page, and begin to render it.

        It is rendered and remembered under what the snapshot says, which may be newer than the revisions read before;
        also when all who want it have given up by then: their next request finds it.
        """
        named, upstream = current
        key, project = named.key, NormalizedName(named.key.project)
        snapshots = await self._ledger.snapshot(project, view.stages)
        revisions = tuple(snapshot.revision for snapshot in snapshots)
        renamed = _named(view, project, _validator(upstream), revisions, key.format, key.encoding)
        held = self._renditions.get(renamed.etag)
        if held is not None:  # rendered meanwhile
            rendered = asyncio.get_running_loop().create_future()
            rendered.set_result(held)
            return rendered
        return self._rendering.start(renamed.etag, lambda: self._render(view, (renamed, upstream), snapshots))

    async def _render(self, view: View, current: Current, snapshots: Sequence[StageSnapshot]) -> Rendition:
        named, upstream = current
        key = named.key
        facts = await self._facts_of(upstream) if snapshots else None
        staged = listable(facts, snapshots)
        if not staged and (not view.live or upstream is None or upstream.body is None):
            raise UnknownProject(key.project)
        shown_upstream = upstream if view.live else None
        size = len(shown_upstream.body) if shown_upstream is not None and shown_upstream.body is not None else 0
        arguments = (key, shown_upstream, facts, staged, view.files_base)
        if size + 400 * len(staged) <= _INLINE_BYTES:
            body = renderer.render(*arguments)
        else:
            body = await in_thread(renderer.render, *arguments)
        last_serial = shown_upstream.last_serial if shown_upstream is not None else None
        rendition = Rendition(body, key.format, key.encoding, named.etag, last_serial)
        self._renditions.put(named.etag, rendition)
        return rendition


def _validator(upstream: UpstreamPage | None) -> Validator:
    return upstream.validator if upstream is not None else ABSENT


@lru_cache(maxsize=8192)  # the same few keys are asked for again and again, and 1 kB each
def _named(
    view: View,
    project: NormalizedName,
    validator: Validator,
    revisions: tuple[Revision, ...],
    page_format: Format,
    encoding: Encoding,
) -> Named:
    """Form the page's key, and its strong entity tag.

    Strong because uv revalidates with no other, and one per encoding (RFC 9110 §8.8.3).
    """
    key = PageKey(renderer.VERSION, view.name, project, validator, revisions, page_format, encoding)
    parts = (key.renderer, key.view, project, validator, *revisions, page_format.value, encoding.value)
    return Named(key, '"' + hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest() + '"')
