"""Tell the ledger what the documents know better: of uploads and withdrawals whose outcome nobody learned.

Writes only through `ledger.stage` and `ledger.forget`, so an upload that is between its two steps is not harmed.
"""

import contextlib

from overlay.domain.errors import DocumentNotFound, FileExists
from overlay.domain.layout import history_key, history_prefix, record_key, record_prefix, upload_of_document
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.ports import Documents, Ending, StageLedger
from overlay.domain.records import HistoryEntry, Record, decode, encode
from overlay.domain.stage import Gone, StagedFile, precedence


async def settle(documents: Documents, gone: Gone) -> None:
    """Write the history of an upload that ended, then drop its record, which the history outweighs anyway."""
    await documents.put(history_key(gone.file.project, gone.file.upload_id), encode(HistoryEntry(gone=gone)))
    await documents.delete(record_key(gone.file.project, gone.file.upload_id))


async def reconcile_project(documents: Documents, ledger: StageLedger, project: NormalizedName) -> None:
    """Stage records that the ledger does not know, forget what the history ended, write histories that are owed.

    Without it a lost outcome would come up at the next rebuild, after whatever was decided on the release meanwhile.
    """
    epoch = (await ledger.state()).epoch  # before the history is read: a ledger rebuilt later has forgotten what ended
    dead = {upload_of_document(key) async for key in documents.keys(history_prefix(project))}
    async for key in documents.keys(record_prefix(project)):
        upload = upload_of_document(key)
        entry = await ledger.entry(project, upload)
        if entry is None and upload not in dead:
            await _stage(documents, ledger, key, epoch)
        elif isinstance(entry, StagedFile) and upload in dead:
            await end_again(documents, ledger, project, upload)
        elif isinstance(entry, Gone):
            await settle(documents, entry)


async def end_again(documents: Documents, ledger: StageLedger, project: NormalizedName, upload: UploadId) -> None:
    """End a staged upload as the history says that it ended."""
    key = history_key(project, upload)
    gone = decode(key, await documents.get(key), HistoryEntry).gone
    await ledger.forget(project, [upload], Ending(gone.reason, gone.at_us, gone.who))


async def _stage(documents: Documents, ledger: StageLedger, key: str, epoch: str) -> None:
    try:
        record = decode(key, await documents.get(key), Record)
    except DocumentNotFound:
        return  # it ended meanwhile
    file = record.file
    (snapshot,) = await ledger.snapshot(file.project, (file.stage,))
    newer = any(held.filename == file.filename and precedence(held) > precedence(file) for held in snapshot.files)
    # An add-only upload that comes too late for a rebuild's order, too, is refused when it asks for itself.
    with contextlib.suppress(FileExists):
        staged = await ledger.stage(file, replace=record.replace or newer, epoch=epoch)
        if staged.ended is not None:
            await settle(documents, staged.ended)
