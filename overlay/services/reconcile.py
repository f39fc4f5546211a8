"""Tell the ledger what the documents know better: of uploads and withdrawals whose outcome nobody learned.

Writes only through `ledger.stage` and `ledger.forget`, so an upload that is between its two steps is not harmed.
"""

import contextlib
from collections.abc import Sequence

from overlay.domain.errors import DocumentNotFound, FileExists
from overlay.domain.layout import history_key, history_prefix, record_key, record_prefix, upload_of_document
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.ports import Documents, Ending, StageLedger
from overlay.domain.promotion_errors import ReleaseFrozen
from overlay.domain.records import HistoryEntry, Record, decode, encode
from overlay.domain.stage import Gone, StagedFile, precedence
from overlay.services.freezes import is_promoted


async def settle(documents: Documents, gone: Gone) -> None:
    """Write the history of an upload that ended, then drop its record, which the history outweighs anyway."""
    await documents.put(history_key(gone.file.project, gone.file.upload_id), encode(HistoryEntry(gone=gone)))
    await documents.delete(record_key(gone.file.project, gone.file.upload_id))


async def end(
    documents: Documents, ledger: StageLedger, project: NormalizedName, files: Sequence[StagedFile], ending: Ending
) -> tuple[Gone, ...]:
    """End uploads: in the history first, so that a killed process has ended each, or not; then in the ledger.

    Raises ReleaseFrozen; then the history is taken away again, and nothing ended.
    """
    for file in files:
        entry = HistoryEntry(gone=Gone(file, ending.reason, ending.at_us, ending.who))
        await documents.put(history_key(project, file.upload_id), encode(entry))
    try:
        ended = await ledger.forget(project, [file.upload_id for file in files], ending)
    except ReleaseFrozen:
        for file in files:
            await documents.delete(history_key(project, file.upload_id))
        raise
    for file in files:
        await documents.delete(record_key(project, file.upload_id))
    return ended


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
            await _settle_owed(documents, entry)


async def end_again(documents: Documents, ledger: StageLedger, project: NormalizedName, upload: UploadId) -> None:
    """End a staged upload as the history says that it ended.

    One that is being promoted does not end: whoever wrote that was refused, and was killed before it took the history
    away. While nothing may have been pushed the history waits: the freeze may lapse before the ledger is asked.
    """
    key = history_key(project, upload)
    gone = decode(key, await documents.get(key), HistoryEntry).gone
    try:
        await ledger.forget(project, [upload], Ending(gone.reason, gone.at_us, gone.who))
    except ReleaseFrozen:
        if await is_promoted(ledger, upload):
            await documents.delete(key)


async def _settle_owed(documents: Documents, gone: Gone) -> None:
    """Write the history unless it is there: of what is live it says where that is, which the ledger does not know."""
    try:
        await documents.get(history_key(gone.file.project, gone.file.upload_id))
    except DocumentNotFound:
        await settle(documents, gone)
    else:
        await documents.delete(record_key(gone.file.project, gone.file.upload_id))


async def _stage(documents: Documents, ledger: StageLedger, key: str, epoch: str) -> None:
    try:
        record = decode(key, await documents.get(key), Record)
    except DocumentNotFound:
        return  # it ended meanwhile
    file = record.file
    (snapshot,) = await ledger.snapshot(file.project, (file.stage,))
    newer = any(held.filename == file.filename and precedence(held) > precedence(file) for held in snapshot.files)
    # An add-only upload that comes too late for a rebuild's order, too, is refused when it asks for itself; what would
    # change a release that is being promoted waits for the thaw.
    with contextlib.suppress(FileExists, ReleaseFrozen):
        staged = await ledger.stage(file, replace=record.replace or newer, epoch=epoch)
        if staged.ended is not None:
            await settle(documents, staged.ended)
