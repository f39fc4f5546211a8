"""Delete bytes that nothing names any more.

Every process would sweep once an hour; a document says when the last regular sweep began, and who finds it younger than
that passes. The processes of a host start together, so each looks at another time. Two that look at the same moment
both sweep, which costs time and harms nothing: whatever a sweep deletes may be deleted twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from overlay.domain.errors import DocumentNotFound, OverlayError, RecordCorrupt
from overlay.domain.layout import HISTORY, RECORDS, SWEEP_MARK, record_key, upload_of, upload_of_document
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.ports import BlobKey, BlobStore, Documents
from overlay.domain.records import HistoryEntry, SweepMark, decode, encode
from overlay.domain.stage import Gone
from overlay.services.freezes import planned_uploads

ORPHANED_AFTER_S: Final = 86_400
"""No upload is under way for a day: bytes that old without record belong to none."""
EVERY_S: Final = 3600.0
_AT_ONCE: Final = 8  # requests need the store's connections, too
_MICROSECONDS: Final = 1_000_000

_log = logging.getLogger("overlay.sweep")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep deleted, or with `dry_run` would have; `abandoned` counts unfinished uploads that it ended."""

    blobs: int
    size_bytes: int
    dry_run: bool
    abandoned: int


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
    and no record until it is committed: `orphaned_before_s` must lie before the begin of every such upload. Unfinished
    uploads that began before it are cleared away, too. What a promotion has planned stays, whatever became of it.
    """
    listed = [info async for info in blobs.infos()]
    recorded = {upload_of_document(key) async for key in documents.keys(RECORDS)}
    ended = await _ended(documents, recorded | {upload_of(info.key) for info in listed})
    planned = await planned_uploads(documents)
    over = {upload for upload, gone in ended.items() if gone.at_us / _MICROSECONDS <= ended_before_s} - planned
    if not dry_run:
        # A killed process left the record beside the history. A young history may be taken away again: a withdrawal is
        # written down before the ledger is asked, which refuses it where a promotion came first.
        for upload in over & recorded:
            await documents.delete(record_key(NormalizedName(ended[upload].file.project), upload))
    named = recorded | ended.keys() | planned
    unneeded = []
    for info in listed:
        upload = upload_of(info.key)
        if upload in over or (upload not in named and info.modified_at_s <= orphaned_before_s):
            unneeded.append(info)
    abandoned = 0
    if not dry_run:
        await _delete(blobs, [info.key for info in unneeded])
        abandoned = await blobs.abandon(begun_before_s=orphaned_before_s)
    return Swept(len(unneeded), sum(info.size_bytes for info in unneeded), dry_run, abandoned)


async def sweep_regularly(
    blobs: BlobStore,
    documents: Documents,
    *,
    grace_s: int,
    now_s: Callable[[], float],
    spread: float,
    wait: Callable[[float], Awaitable[None]],
) -> NoReturn:
    """Sweep every hour until cancelled, unless another process did; a failure is logged, the next hour tries again.

    The first time is between half an hour and an hour from now: `spread`, from 0 to 1, says when. `wait` takes seconds.
    """
    await wait(EVERY_S * (1 + spread) / 2)
    while True:
        try:
            swept = await sweep_if_due(blobs, documents, grace_s=grace_s, at_s=now_s())
        except OverlayError as err:
            _log.warning("sweeping failed: %s", err)
        else:
            if swept is not None:
                _log.info(
                    "swept %d blobs, %d bytes, %d unfinished uploads", swept.blobs, swept.size_bytes, swept.abandoned
                )
        await wait(EVERY_S)


async def sweep_if_due(blobs: BlobStore, documents: Documents, *, grace_s: int, at_s: float) -> Swept | None:
    """Sweep, unless a regular sweep began within the last hour: then return None. `at_s` is now."""
    if 0 <= at_s - await _last_begun_s(documents) < EVERY_S:
        return None
    await documents.put(SWEEP_MARK, encode(SweepMark(begun_at_us=int(at_s * _MICROSECONDS))))
    return await sweep(
        blobs,
        documents,
        ended_before_s=at_s - grace_s,
        orphaned_before_s=at_s - max(grace_s, ORPHANED_AFTER_S),
    )


async def _last_begun_s(documents: Documents) -> float:
    try:
        mark = decode(SWEEP_MARK, await documents.get(SWEEP_MARK), SweepMark)
    except (DocumentNotFound, RecordCorrupt):  # it only saves work: what cannot be read is written anew
        return -EVERY_S
    return mark.begun_at_us / _MICROSECONDS


async def _delete(blobs: BlobStore, keys: Sequence[BlobKey]) -> None:
    """Delete some at once. When one fails, those beside it are waited for, the rest is left to the next sweep."""
    for at in range(0, len(keys), _AT_ONCE):
        some = keys[at : at + _AT_ONCE]
        for failure in await asyncio.gather(*(blobs.delete(key) for key in some), return_exceptions=True):
            if failure is not None:
                raise failure


async def _ended(documents: Documents, uploads: set[UploadId]) -> dict[UploadId, Gone]:
    """Read how those of the uploads that are in the history ended. The rest of it, which only grows, is listed."""
    keys = [key async for key in documents.keys(HISTORY) if upload_of_document(key) in uploads]
    ended: dict[UploadId, Gone] = {}
    for at in range(0, len(keys), _AT_ONCE):
        some = keys[at : at + _AT_ONCE]
        bodies = await asyncio.gather(*map(documents.get, some), return_exceptions=True)
        for key, body in zip(some, bodies, strict=True):
            if isinstance(body, BaseException):
                raise body
            gone = decode(key, body, HistoryEntry).gone
            ended[gone.file.upload_id] = gone
    return ended
