"""Tell the ledger what the documents know better: of uploads and withdrawals whose outcome nobody learned.

Writes only through `ledger.stage`, `ledger.forget` and `ledger.mark_live`, so an upload that is between its two steps
is not harmed.
"""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from overlay.domain.errors import DocumentNotFound, FileExists, LedgerRebuilt, OverlayError
from overlay.domain.layout import history_key, history_prefix, record_key, record_prefix, upload_of_document
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.ports import Documents
from overlay.domain.promotion_errors import ReleaseFrozen
from overlay.domain.records import HistoryEntry, Record, decode, encode
from overlay.domain.stage import Gone, Reason, StagedFile

_log = logging.getLogger("overlay.reconcile")


async def hold(documents: Documents, ledger: StageLedger, record: Record) -> None:
    """Let a rebuild know that an add-only upload was shown, and holds its name.

    One that had read the record may have ended the upload, for another one of the name: raises LedgerRebuilt then.
    """
    if record.replace:
        return
    project, upload = record.file.project, record.file.upload_id
    key = record_key(project, upload)
    with contextlib.suppress(DocumentNotFound):  # as it is now: somebody may have noted that the file is live
        await documents.put(key, encode(replace(decode(key, await documents.get(key), Record), replace=True)))
    if await ledger.entries(project, (upload,)) == (None,):
        raise LedgerRebuilt


async def settle(documents: Documents, gone: Gone) -> None:
    """Write the history of an upload that ended, then drop its record, which the history outweighs anyway."""
    await documents.put(history_key(gone.file.project, gone.file.upload_id), encode(HistoryEntry(gone=gone)))
    await documents.delete(record_key(gone.file.project, gone.file.upload_id))


async def end(
    documents: Documents, ledger: StageLedger, project: NormalizedName, files: Sequence[StagedFile], ending: Ending
) -> tuple[Gone, ...]:
    """End uploads: in the history first, so that a killed process has ended each, or not; then in the ledger.

    Returns those that were staged until now. What is marked live stays; its history is taken away again.
    Raises ReleaseFrozen; then all of the history is taken away again, and nothing ended.
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
    left = {file.upload_id for file in files}.difference(gone.file.upload_id for gone in ended)
    live = left & await ledger.marked_live() if left else left
    for file in files:
        if file.upload_id in live:
            await documents.delete(history_key(project, file.upload_id))
        else:
            await documents.delete(record_key(project, file.upload_id))
    return ended


async def reconcile_project(documents: Documents, ledger: StageLedger, project: NormalizedName) -> None:
    """Stage records that the ledger does not know, forget what the history ended, write histories that are owed.

    Without it a lost outcome would come up at the next rebuild, after whatever was decided on the release meanwhile.
    """
    epoch = (await ledger.state()).epoch  # before the history is read: a ledger rebuilt later has forgotten what ended
    dead = {upload_of_document(key) async for key in documents.keys(history_prefix(project))}
    recorded = [upload_of_document(key) async for key in documents.keys(record_prefix(project))]
    for upload, entry in zip(recorded, await ledger.entries(project, recorded), strict=True):
        if entry is None and upload not in dead:
            await _stage(documents, ledger, record_key(project, upload), epoch)
        elif isinstance(entry, StagedFile) and upload in dead:
            await end_again(documents, ledger, project, upload)
        elif isinstance(entry, Gone):
            await _settle_owed(documents, entry)


async def reconcile_thawed(documents: Documents, ledger: StageLedger, projects: Iterable[NormalizedName]) -> None:
    """Decide on what waited for the end of a promotion of these projects; a failure is logged, and harmless.

    Nobody waits for that, and what is left is decided on by the next upload or withdrawal, or the next reconcile.
    """
    for project in sorted(set(projects)):
        try:
            await reconcile_project(documents, ledger, project)
        except OverlayError as err:
            _log.warning("What waited for the end of a promotion of %s waits on: %s", project, err)


async def end_again(documents: Documents, ledger: StageLedger, project: NormalizedName, upload: UploadId) -> None:
    """End a staged upload as the history says that it ended.

    One that is being promoted does not end, nor one that is live: whoever wrote that was refused, or passed it over,
    and was killed before it took the history away. While nothing may have been pushed the history waits: the freeze may
    lapse before the ledger is asked.
    """
    key = history_key(project, upload)
    try:
        gone = decode(key, await documents.get(key), HistoryEntry).gone
    except DocumentNotFound:
        return  # it was taken away meanwhile
    try:
        ended = await ledger.forget(project, [upload], Ending(gone.reason, gone.at_us, gone.who))
    except ReleaseFrozen:
        if await _is_promoted(ledger, upload):
            await documents.delete(key)
    else:
        if not ended and upload in await ledger.marked_live():
            await documents.delete(key)


async def _is_promoted(ledger: StageLedger, upload: UploadId) -> bool:
    """Say whether an upload stays staged until a promotion ended, however long that takes."""
    return any(freeze.durable and upload in freeze.uploads for freeze in await ledger.freezes())


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
    if record.live_since_us is not None:
        with contextlib.suppress(FileExists, ReleaseFrozen):
            await _keep_again(documents, ledger, record.file, epoch)
        return
    try:
        ended = (await ledger.stage(record.file, replace=record.replace, epoch=epoch)).ended
    except (FileExists, ReleaseFrozen):
        await _settle_refused(documents, ledger, record.file)
        return
    if ended is None or ended.file.upload_id != record.file.upload_id:
        await hold(documents, ledger, record)
    if ended is not None:
        await _settle_owed(documents, ended)


async def _settle_refused(documents: Documents, ledger: StageLedger, file: StagedFile) -> None:
    """Write the history of an upload that was refused for good; one that a promotion keeps out waits for the thaw."""
    (entry,) = await ledger.entries(file.project, (file.upload_id,))
    if isinstance(entry, Gone):
        await _settle_owed(documents, entry)


async def _keep_again(documents: Documents, ledger: StageLedger, file: StagedFile, epoch: str) -> None:
    """Stage a live file that the ledger lost, in place of whatever got its name since, and mark it."""
    (snapshot,) = await ledger.snapshot(file.project, (file.stage,))
    named = [held for held in snapshot.files if held.filename == file.filename]
    others = [held for held in named if held.upload_id != file.upload_id]  # another worker may have been faster
    await end(documents, ledger, file.project, others, Ending(Reason.REFUSED, file.staged_at_us, file.who))
    await ledger.stage(file, replace=True, epoch=epoch)
    await ledger.mark_live([file.upload_id])
