"""The promotability report: what PyPI would refuse of a staged file. Derived, remembered, never stored.

The same bytes may be staged under two names, of which PyPI refuses one: so the name is part of what is remembered by.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from overlay.caching.flight import Flight
from overlay.caching.lru import ByteLru
from overlay.caching.threads import in_thread
from overlay.domain import metadata
from overlay.domain.errors import BlobNotFound, OverlayError, RecordCorrupt
from overlay.domain.layout import sidecar_key
from overlay.domain.metadata import CoreMetadata
from overlay.domain.ports import BlobStore
from overlay.domain.rules import Finding, judge
from overlay.domain.stage import StagedFile

# design §6: the answer comes within 10 s of the last byte; what the report needs beyond 5 s is computed later.
_SOON_S: Final = 5.0
_LIMIT_BYTES: Final = 16 * 1024 * 1024
_METADATA_LIMIT_BYTES: Final = 16 * 1024 * 1024

_Key = tuple[str, str]
"""sha256 and filename: all that the findings on a file depend on."""

_log: Final = logging.getLogger(__name__)


class Reports:
    """Derives findings from the stored core metadata and the archive's facts, once per sha256 and filename."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._held: ByteLru[_Key, tuple[Finding, ...]] = ByteLru(_LIMIT_BYTES, _weight)
        self._flight: Flight[_Key, tuple[Finding, ...]] = Flight()
        # One at a time: docutils keeps global state, and many threads at once would take the processor from readers.
        self._judging = asyncio.Lock()

    async def of(self, file: StagedFile) -> tuple[Finding, ...]:
        """Return the findings on the file itself. Raises RecordCorrupt, StoreUnavailable."""
        held = self._held.get(_key(file))
        if held is not None:
            return held
        return await self._flight.run(_key(file), lambda: self._derive(file))

    async def soon(self, file: StagedFile, body: bytes | None = None) -> tuple[Finding, ...]:
        """Return the findings if they are known within five seconds, else none; the work goes on. Never fails.

        `body` is the core metadata where it is in hand; else it is read.
        """
        task = asyncio.ensure_future(self._settled(file, body))
        done, _ = await asyncio.wait({task}, timeout=_SOON_S)
        return task.result() if done else ()

    async def judged(self, file: StagedFile, body: bytes) -> tuple[Finding, ...]:
        """Derive the findings from core metadata in hand."""
        async with self._judging:
            findings = await in_thread(lambda: judge(file, metadata.read(body)))
        self._held.put(_key(file), findings)
        return findings

    async def core_metadata(self, file: StagedFile) -> CoreMetadata:
        """Read the stored core metadata."""
        return await in_thread(metadata.read, await self._sidecar(file))

    async def _settled(self, file: StagedFile, body: bytes | None) -> tuple[Finding, ...]:
        try:
            if body is None or self._held.get(_key(file)) is not None:
                return await self.of(file)
            return await self._flight.run(_key(file), lambda: self.judged(file, body))
        except OverlayError as err:  # the receipt does without; whoever asks for the release meets the error again
            _log.warning("No report on %s: %s", file.filename, err)
            return ()

    async def _derive(self, file: StagedFile) -> tuple[Finding, ...]:
        return await self.judged(file, await self._sidecar(file))

    async def _sidecar(self, file: StagedFile) -> bytes:
        key = sidecar_key(file.upload_id, file.filename)
        try:
            return b"".join([chunk async for chunk in self._blobs.read(key, 0, _METADATA_LIMIT_BYTES)])
        except BlobNotFound as err:
            raise RecordCorrupt(key, "it is missing, though its file is staged") from err


def _key(file: StagedFile) -> _Key:
    return file.sha256, file.filename


def _weight(findings: Sequence[Finding]) -> int:
    return 100 + sum(100 + len(finding.sentence) for finding in findings)
