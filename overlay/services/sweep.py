"""Delete bytes that nothing names any more."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from overlay.domain.errors import OverlayError
from overlay.domain.layout import HISTORY, RECORDS, record_key, upload_of, upload_of_document
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.ports import BlobStore, Documents
from overlay.domain.records import HistoryEntry, decode

ORPHANED_AFTER_S: Final = 86_400
"""No upload is under way for a day: bytes that old without record belong to none."""
EVERY_S: Final = 3600.0

_log = logging.getLogger("overlay.sweep")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep deleted, or with `dry_run` would have."""

    blobs: int
    size_bytes: int
    dry_run: bool


async def sweep(
    blobs: BlobStore,
    documents: Documents,
    *,
    ended_before_s: float,
    orphaned_before_s: float,
    dry_run: bool = False,
) -> Swept:
    """Delete blobs whose upload ended before a moment, and older blobs than another one that no document names.

    Moments are seconds since the epoch. The blobs are listed before the documents, yet an upload under way has blobs
    and no record until it is committed: `orphaned_before_s` must lie before the begin of every such upload.
    """
    listed = [info async for info in blobs.infos()]
    recorded = {upload_of_document(key) async for key in documents.keys(RECORDS)}
    ended = await _ended(documents, recorded, dry_run=dry_run)
    count = size_bytes = 0
    for info in listed:
        upload = upload_of(info.key)
        if upload in ended:
            unneeded = ended[upload] <= ended_before_s
        else:
            unneeded = upload not in recorded and info.modified_at_s <= orphaned_before_s
        if unneeded:
            count += 1
            size_bytes += info.size_bytes
            if not dry_run:
                await blobs.delete(info.key)
    return Swept(count, size_bytes, dry_run)


async def sweep_regularly(
    blobs: BlobStore, documents: Documents, *, grace_s: int, now_s: Callable[[], float]
) -> NoReturn:
    """Sweep every hour until cancelled; a failure is logged and the next hour tries again."""
    while True:
        await asyncio.sleep(EVERY_S)
        at_s = now_s()
        try:
            swept = await sweep(
                blobs,
                documents,
                ended_before_s=at_s - grace_s,
                orphaned_before_s=at_s - max(grace_s, ORPHANED_AFTER_S),
            )
        except OverlayError as err:
            _log.warning("sweeping failed: %s", err)
        else:
            _log.info("swept %d blobs, %d bytes", swept.blobs, swept.size_bytes)


async def _ended(documents: Documents, recorded: set[UploadId], *, dry_run: bool) -> dict[UploadId, float]:
    """Read when each upload of the history ended, deleting records that a killed process left beside theirs."""
    ended: dict[UploadId, float] = {}
    async for key, body in documents.scan(HISTORY):
        gone = decode(key, body, HistoryEntry).gone
        upload = gone.file.upload_id
        ended[upload] = gone.at_us / 1_000_000
        if upload in recorded and not dry_run:
            await documents.delete(record_key(NormalizedName(gone.file.project), upload))
    return ended
