"""Which staged file, or sidecar, a URL names, and whether it is served (the three outcomes of design §4)."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from overlay.domain.errors import DocumentNotFound, UnknownFile
from overlay.domain.layout import SIDECAR, blob_key, history_key, sidecar_key
from overlay.domain.ledger_port import StageLedger
from overlay.domain.listing import Standing, Visibility, ended_standing, standing, visibility
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.ports import BlobKey, BlobStore, Documents, Upstream
from overlay.domain.records import HistoryEntry, decode
from overlay.domain.rights import EVERY_PROJECT
from overlay.domain.stage import Gone, Reason, StagedFile, file_of
from overlay.services.facts import FactsOf
from overlay.services.ledger_patience import from_ledger


@dataclass(frozen=True, slots=True)
class Served:
    """A file that may be sent: where its bytes are, and what its headers need."""

    key: BlobKey
    size_bytes: int
    sha256: str
    staged_at_us: int
    sidecar: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """A file that upstream has by now, at this URL; its bytes need not be here any more."""

    url: str


class Downloads:
    """Finds staged files by URL; `now_us` is the clock, `grace_s` how long a replaced file is served on."""

    def __init__(
        self,
        *,
        blobs: BlobStore,
        documents: Documents,
        ledger: StageLedger,
        upstream: Upstream,
        facts_of: FactsOf,
        grace_s: int,
        now_us: Callable[[], int],
    ) -> None:
        self._blobs = blobs
        self._documents = documents
        self._ledger = ledger
        self._upstream = upstream
        self._facts_of = facts_of
        self._grace_s = grace_s
        self._now_us = now_us

    async def find(self, project: NormalizedName, upload: UploadId, name: str) -> Served | Moved:
        """Find the file, or its sidecar when the name ends so.

        Raises UnknownFile, BlobNotFound, LedgerUnavailable. Waits for nothing upstream: what is known of it decides.
        """
        (entry,), live_url = await from_ledger(self._ledger.entries(project, (upload,))), None
        if entry is None or (isinstance(entry, Gone) and entry.reason is Reason.LIVE):
            ended = await self._from_history(project, upload, name)
            entry, live_url = ended.gone, ended.live_url
        file = file_of(entry)
        sidecar = name == file.filename + SIDECAR
        if not sidecar and name != file.filename:
            raise UnknownFile(name)
        if visibility(await self._standing(entry)) is Visibility.DENIED:
            raise UnknownFile(name)
        if live_url is not None:
            return Moved(_of_sidecar(live_url) if sidecar else live_url)
        if not sidecar:
            return Served(blob_key(upload, name), file.size_bytes, file.sha256, file.staged_at_us, sidecar=False)
        key = sidecar_key(upload, file.filename)
        size_bytes = await self._blobs.size(key)
        return Served(key, size_bytes, file.metadata_sha256, file.staged_at_us, sidecar=True)

    async def _standing(self, entry: StagedFile | Gone) -> Standing:
        if isinstance(entry, Gone):
            return ended_standing(entry, self._now_us(), self._grace_s)
        facts = await self._facts_of(await self._upstream.known(entry.project))
        if facts is None or entry.grant != EVERY_PROJECT:
            return standing(entry, facts, ())
        snapshots = await from_ledger(self._ledger.snapshot(entry.project, (entry.stage,)))
        return standing(entry, facts, snapshots)

    async def _from_history(self, project: NormalizedName, upload: UploadId, name: str) -> HistoryEntry:
        key = history_key(project, upload)
        try:
            return decode(key, await self._documents.get(key), HistoryEntry)
        except DocumentNotFound as err:
            raise UnknownFile(name) from err


def _of_sidecar(url: str) -> str:
    """Return where a file's metadata is (PEP 658): at its URL with this behind the path."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path + SIDECAR, fragment="").geturl()
