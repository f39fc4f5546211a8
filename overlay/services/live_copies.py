"""Copies of what upstream has by now: each stays as it is, and steps back for good once no reader needs it.

Pages in hand may lack a file that has just become live, so its copy stays staged for a while, and nothing may take its
place: not other bytes of its name, not a withdrawal, not an upload that waited for the end of its promotion. Its record
says since when it has been live, and where, and the ledger marks it. It is kept so before its promotion thaws, or as
soon as anybody notices that it is live otherwise; a history that says anything else of it is void.
"""

from collections.abc import Mapping
from dataclasses import replace

from overlay.domain.errors import DocumentNotFound
from overlay.domain.layout import history_key, record_key
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.ports import Documents
from overlay.domain.records import HistoryEntry, Record, decode, encode
from overlay.domain.stage import Gone, Reason, StagedFile
from overlay.services.at_once import some_at_once


async def keep_live(
    documents: Documents,
    ledger: StageLedger,
    uploads: Mapping[UploadId, NormalizedName],
    *,
    urls: Mapping[UploadId, str],
    at_us: int,
) -> None:
    """Keep these uploads as they are, live since that moment or an earlier one. May be repeated.

    `urls` has where upstream has them, as far as that is known.
    """

    async def keep(upload: UploadId) -> None:
        await _keep(documents, upload, uploads[upload], url=urls.get(upload), at_us=at_us)

    if not uploads:
        return
    # The ledger first: what it has ended by then, and nothing ends from then on, has no record to be written again.
    await ledger.mark_live(list(uploads))
    ended: set[UploadId] = set()
    for project in set(uploads.values()):
        mine = [upload for upload, its in uploads.items() if its == project]
        entries = await ledger.entries(project, mine)
        ended.update(upload for upload, entry in zip(mine, entries, strict=True) if isinstance(entry, Gone))
    await some_at_once(keep, [upload for upload in uploads if upload not in ended])


async def end_live(
    documents: Documents, ledger: StageLedger, file: StagedFile, url: str | None, ending: Ending
) -> None:
    """Let a copy step back for good; `url` is where upstream has, or had, the file."""
    entry = HistoryEntry(gone=Gone(file, ending.reason, ending.at_us, ending.who), live_url=url)
    await documents.put(history_key(file.project, file.upload_id), encode(entry))
    await ledger.forget(file.project, [file.upload_id], ending)
    await documents.delete(record_key(file.project, file.upload_id))


async def read_record(documents: Documents, project: NormalizedName, upload: UploadId) -> Record | None:
    """Read the record of an upload; None where it ended."""
    key = record_key(project, upload)
    try:
        return decode(key, await documents.get(key), Record)
    except DocumentNotFound:
        return None


async def read_reason(documents: Documents, project: NormalizedName, upload: UploadId) -> Reason | None:
    """Read why an upload ended; None where the history does not have it."""
    key = history_key(project, upload)
    try:
        return decode(key, await documents.get(key), HistoryEntry).gone.reason
    except DocumentNotFound:
        return None


async def _keep(
    documents: Documents, upload: UploadId, project: NormalizedName, *, url: str | None, at_us: int
) -> None:
    record = await read_record(documents, project, upload)
    if record is None:
        return
    # First the record: a history goes only where a rebuild would not have the upload for ended again.
    kept = replace(record, live_since_us=record.live_since_us or at_us, live_url=url or record.live_url)
    if kept != record:
        await documents.put(record_key(project, upload), encode(kept))
    if await read_reason(documents, project, upload) not in {None, Reason.LIVE}:
        await documents.delete(history_key(project, upload))
