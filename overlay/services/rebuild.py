"""Load the ledger from the durable documents, and settle what a killed process left between two writes.

A record whose upload id is in the history is dead. Of two living records of one (stage, filename) the greatest serial
wins, as in the ledger; the other enters the history now, because its upload was answered (or may have been).
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from overlay.domain.layout import HISTORY, RECORDS, TOKENS, history_key, record_key, upload_of_document
from overlay.domain.names import StageId, UploadId
from overlay.domain.ports import Documents, StageLedger
from overlay.domain.records import HistoryEntry, Record, TokenDocument, decode, encode
from overlay.domain.rights import Token
from overlay.domain.stage import Gone, Reason, StagedFile


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found; `settled` counts records that entered the history now."""

    files: int
    settled: int
    took_s: float


async def rebuild(documents: Documents, ledger: StageLedger) -> Rebuilt:
    """Load the ledger. Raises RecordCorrupt for a document that cannot be read: nothing is guessed."""
    began = time.perf_counter()
    dead = {upload_of_document(key) async for key in documents.keys(HISTORY)}
    living: dict[tuple[StageId, str], StagedFile] = {}
    losers: list[Gone] = []
    async for file in _records(documents, dead):
        held = living.get((file.stage, file.filename))
        older, newer = (file, held) if held is not None and held.serial > file.serial else (held, file)
        if older is not None:
            losers.append(Gone(older, Reason.REPLACED, newer.staged_at_us, newer.who))
        living[newer.stage, newer.filename] = newer
    for gone in losers:
        await documents.put(history_key(gone.file.project, gone.file.upload_id), encode(HistoryEntry(gone=gone)))
        await documents.delete(record_key(gone.file.project, gone.file.upload_id))
    await ledger.load(tuple(living.values()), await _tokens(documents))
    return Rebuilt(len(living), len(losers), time.perf_counter() - began)


async def _records(documents: Documents, dead: set[UploadId]) -> AsyncIterator[StagedFile]:
    async for key, body in documents.scan(RECORDS):
        if upload_of_document(key) not in dead:
            yield decode(key, body, Record).file


async def _tokens(documents: Documents) -> tuple[Token, ...]:
    return tuple([decode(key, body, TokenDocument).token async for key, body in documents.scan(TOKENS)])
