"""Delete bytes that nothing names any more."""

from dataclasses import dataclass

from overlay.domain.layout import HISTORY, RECORDS, record_key, upload_of, upload_of_document
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.ports import BlobInfo, BlobStore, Documents
from overlay.domain.records import HistoryEntry, decode


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep deleted, or with `dry_run` would have."""

    blobs: int
    size_bytes: int
    dry_run: bool


async def sweep(
    blobs: BlobStore, documents: Documents, *, now_s: float, older_than_s: float, dry_run: bool = False
) -> Swept:
    """Delete blobs without record and history that are older than `older_than_s`, and blobs of as old a history.

    The blobs are listed before the documents: an upload whose blob was seen and whose record comes later is younger
    than any sensible `older_than_s`; 0 is for when nothing uploads.
    """
    listed = [info async for info in blobs.infos()]
    recorded = {upload_of_document(key) async for key in documents.keys(RECORDS)}
    ended = await _ended(documents, recorded, dry_run=dry_run)
    count = size_bytes = 0
    for info in listed:
        ended_at_s = _unneeded_since_s(info, recorded, ended)
        if ended_at_s is not None and now_s - ended_at_s >= older_than_s:
            count += 1
            size_bytes += info.size_bytes
            if not dry_run:
                await blobs.delete(info.key)
    return Swept(count, size_bytes, dry_run)


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


def _unneeded_since_s(info: BlobInfo, recorded: set[UploadId], ended: dict[UploadId, float]) -> float | None:
    upload = upload_of(info.key)
    if upload in ended:
        return ended[upload]
    return None if upload in recorded else info.modified_at_s
