"""The project list: upstream's prepared head from disk, and a tail with the names that only a stage has.

At 900,000 names (40 MB) nothing is rendered or compressed per request: the head was prepared when upstream's list was
fetched, and the tail is a few names and the closing brackets.

A staged name is listed if its page would be there: not where all its files are hidden by what is known of upstream
(quarantined, foreign, live). That changes without the ledger, so it is decided per request and is part of the ETag.

While the ledger does not answer, a live list goes on with the staged names that were listed last (design §8): nobody
installs from it, and browsing PyPI should not end with Redis. A list of staged names alone says that it does not know.
"""

import asyncio
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from overlay.caching.lru import ByteLru
from overlay.caching.threads import in_thread
from overlay.domain.encodings import compress
from overlay.domain.errors import LedgerUnavailable
from overlay.domain.gzip_splice import gzip_tail
from overlay.domain.ledger_port import StageLedger
from overlay.domain.listing import listable
from overlay.domain.names import NOTHING_STAGED, NormalizedName, Revision, StageId, Validator
from overlay.domain.negotiate import content_encoding
from overlay.domain.page import Encoding, Format, View
from overlay.domain.ports import ProjectList, Upstream
from overlay.domain.prepared_list import PreparedList
from overlay.services.facts import FactsOf

RENDERER: Final = "2"
_FEW: Final = 16
_PIECE_BYTES: Final = 256 * 1024
_NEW_LIMIT_BYTES: Final = 16 * 1024 * 1024
_LISTED_LIMIT_BYTES: Final = 8 * 1024 * 1024
_BATCH: Final = 256  # names decided between two turns of the loop: under a millisecond
_OVERHEAD_BYTES: Final = 200
_OFFERED: Final = (Encoding.GZIP,)  # the one coding whose members can be continued


@dataclass(frozen=True, slots=True)
class IndexPage:
    """A project list ready to be sent: the bytes of `head` (where there is one), then `tail`."""

    head: Path | None
    head_bytes: int
    tail: bytes
    format: Format
    encoding: Encoding
    etag: str
    last_serial: str | None


@dataclass(frozen=True, slots=True)
class _StagedNames:
    """The staged names to list, and what determines them beside upstream's list."""

    revision: Revision
    names: tuple[NormalizedName, ...]
    hidden: frozenset[NormalizedName]


class Projects:
    """Serves the project lists of every view. Without `upstream` and `facts_of` every staged name is listed."""

    def __init__(
        self,
        project_list: ProjectList,
        ledger: StageLedger,
        upstream: Upstream,
        facts_of: FactsOf,
    ) -> None:
        self._project_list = project_list
        self._ledger = ledger
        self._upstream = upstream
        self._facts_of = facts_of
        self._new: ByteLru[tuple[Validator, Revision], tuple[NormalizedName, ...]] = ByteLru(
            _NEW_LIMIT_BYTES, lambda names: _OVERHEAD_BYTES + 100 * len(names)
        )
        self._listed: ByteLru[tuple[NormalizedName, Validator, tuple[StageId, ...], tuple[Revision, ...]], bool] = (
            ByteLru(_LISTED_LIMIT_BYTES, lambda _: _OVERHEAD_BYTES)
        )
        """Whether a project of which upstream has a page has staged files to list."""
        self._last: ByteLru[tuple[StageId, ...], tuple[Revision, tuple[NormalizedName, ...], frozenset[NormalizedName]]]
        self._last = ByteLru(_NEW_LIMIT_BYTES, lambda last: _OVERHEAD_BYTES + 100 * len(last[1]))
        """By stages, what the ledger said last: revision and names; and which of them were hidden."""

    async def page(self, view: View, page_format: Format, accept_encoding: str | None) -> IndexPage:
        """Form the list as of now.

        Raises UpstreamUnavailable, UpstreamCorrupt (live views), LedgerUnavailable (the others).
        """
        upstream = await self._project_list.prepared() if view.live else None
        staged = await self._staged_names(view, upstream)
        encoding = content_encoding(accept_encoding, _OFFERED)
        validator = upstream.validator if upstream is not None else ""
        etag = _etag(view, validator, staged, page_format, encoding)
        if upstream is None:
            plain = _head(page_format) + _tail(page_format, staged.names, first=True)
            return IndexPage(None, 0, compress(plain, encoding), page_format, encoding, etag, None)
        ours = _tail(page_format, staged.names, first=not upstream.has_projects)
        head, tail = _spliced(upstream, page_format, encoding, ours)
        size = (await in_thread(head.stat)).st_size
        return IndexPage(head, size, tail, page_format, encoding, etag, upstream.last_serial)

    async def _staged_names(self, view: View, upstream: PreparedList | None) -> "_StagedNames":
        """Find the names to list beside upstream's. Raises LedgerUnavailable (views that are not live)."""
        stages = tuple(view.stages)
        try:
            revision, everything = await self._ledger.names(stages)
            names = await self._only_staged(upstream, revision, everything)
            hidden = await self._hidden(stages, names)
        except LedgerUnavailable:
            if upstream is None:
                raise
            revision, everything, hidden = self._last.get(stages) or (NOTHING_STAGED, (), frozenset())
            names = await self._only_staged(upstream, revision, everything)
        else:
            self._last.put(stages, (revision, everything, hidden))
        return _StagedNames(revision, tuple(name for name in names if name not in hidden), hidden)

    async def _only_staged(
        self, upstream: PreparedList | None, revision: Revision, names: tuple[NormalizedName, ...]
    ) -> tuple[NormalizedName, ...]:
        if upstream is None:
            return names
        key = (upstream.validator, revision)
        held = self._new.get(key)
        if held is None:
            held = await in_thread(_missing, upstream.names, names)
            self._new.put(key, held)
        return held

    async def _hidden(self, stages: Sequence[StageId], names: Sequence[NormalizedName]) -> frozenset[NormalizedName]:
        """Find the names whose staged files are all hidden by what is known of upstream; never asks upstream."""
        hidden: set[NormalizedName] = set()
        for number, name in enumerate(names):
            if number % _BATCH == _BATCH - 1:
                await asyncio.sleep(0)
            if not await self._is_listed(stages, name):
                hidden.add(name)
        return frozenset(hidden)

    async def _is_listed(self, stages: Sequence[StageId], name: NormalizedName) -> bool:
        known = await self._upstream.known(name)
        if known is None or known.body is None:  # nothing that could hide a staged file
            return True
        viewed = tuple(stages)
        held = self._listed.get((name, known.validator, viewed, await self._ledger.revisions(name, stages)))
        if held is None:
            snapshots = await self._ledger.snapshot(name, stages)
            held = bool(listable(await self._facts_of(known), snapshots))
            # Remembered under what the snapshot says: it may be newer than the revisions read before.
            revisions = tuple(snapshot.revision for snapshot in snapshots)
            self._listed.put((name, known.validator, viewed, revisions), held)
        return held


def _missing(blob: bytes, names: Sequence[NormalizedName]) -> tuple[NormalizedName, ...]:
    """Return the names that the newline-joined blob lacks, in their order.

    Few names are searched for one by one (milliseconds each); many are compared with the blob split piece by piece.
    """
    if len(names) <= _FEW:
        return tuple(name for name in names if b"\n" + name.encode() + b"\n" not in blob)
    wanted = {name.encode() for name in names}
    start = 0
    while start < len(blob):
        stop = blob.find(b"\n", start + _PIECE_BYTES)
        stop = len(blob) if stop < 0 else stop
        wanted.difference_update(blob[start:stop].split(b"\n"))
        start = stop
    return tuple(name for name in names if name.encode() in wanted)


def _spliced(upstream: PreparedList, page_format: Format, encoding: Encoding, tail: bytes) -> tuple[Path, bytes]:
    json_page = page_format is Format.JSON
    if encoding is not Encoding.GZIP:
        return (upstream.json_head if json_page else upstream.html_head), tail
    if json_page:
        return upstream.json_head_gzip, gzip_tail(tail, upstream.json_crc, upstream.json_length)
    return upstream.html_head_gzip, gzip_tail(tail, upstream.html_crc, upstream.html_length)


def _head(page_format: Format) -> bytes:
    if page_format is Format.JSON:
        return b'{"meta":{"api-version":"1.4"},"projects":['
    return (
        b'<!DOCTYPE html>\n<html>\n<head>\n<meta name="pypi:repository-version" content="1.4">\n'
        b"<title>Simple index</title>\n</head>\n<body>\n"
    )


def _tail(page_format: Format, names: Sequence[NormalizedName], *, first: bool) -> bytes:
    if page_format is Format.JSON:
        entries = ",".join(f'{{"name":{json.dumps(name)}}}' for name in names)
        return f"{'' if first or not entries else ','}{entries}]}}".encode()
    anchors = "".join(f'<a href="{html.escape(name)}/">{html.escape(name)}</a><br>\n' for name in names)
    return f"{anchors}</body>\n</html>\n".encode()


def _etag(
    view: View,
    validator: str,
    staged: _StagedNames,
    page_format: Format,
    encoding: Encoding,
) -> str:
    hidden = "\n".join(sorted(staged.hidden))
    parts = (RENDERER, view.name, validator, staged.revision, hidden, page_format.value, encoding.value)
    return '"' + hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest() + '"'
