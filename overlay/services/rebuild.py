"""Load the ledger from the durable documents, and settle what a killed process left between two writes.

A record whose upload id is in the history is dead, unless it is live upstream and ended for another reason: then the
history is void (`overlay.services.live_copies`). Of two living records of one (stage, filename) the one of greater
precedence wins, as in the ledger; the other enters the history now, because its upload was answered (or may have been).
An add-only upload that was never shown loses to every other, and every other to what is live: the ledger would have
refused it.

A release that is being promoted is found as its freeze had kept it (`overlay.services.freezes`); the freeze holds from
the moment the ledger is ready.

What was answered before the ledger was lost may still be written while the documents are read. So the order counts:

    1. the history            Whoever replaces a file has the new record before the old one's history: where this is
                              read, the record is found after it. Read before it, the name might have neither.
    2. what promotions keep   A plan names what is in the history (so that is read before), and uploads whose records
                              are older than itself (so those are looked for after).
    3. the records            One that is gone by now has ended, whether its history was there at 1. or not. Read any
                              earlier, one might lack the mark that it is live, and its promotion be over at 2.
"""

import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

from overlay.domain.errors import DocumentNotFound
from overlay.domain.layout import HISTORY, RECORDS, STORE_MARK, TOKENS, history_key, upload_of_document
from overlay.domain.ledger_port import Lead, StageLedger
from overlay.domain.names import Serial, StageId, UploadId
from overlay.domain.ports import Documents
from overlay.domain.records import Record, TokenDocument, check_mark, decode, encode_mark
from overlay.domain.rights import Token
from overlay.domain.stage import Gone, Reason, precedence
from overlay.services.freezes import LEASE_S, Kept, read_kept
from overlay.services.listings import listed
from overlay.services.live_copies import read_reason
from overlay.services.reconcile import settle

_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found; `settled` counts records that entered the history now."""

    files: int
    settled: int
    took_s: float


async def mark(documents: Documents) -> None:
    """Mark the place as a store, once. Raises RecordCorrupt for a store of a newer program."""
    try:
        body = await documents.get(STORE_MARK)
    except DocumentNotFound:
        await documents.put(STORE_MARK, encode_mark())
    else:
        check_mark(STORE_MARK, body)


async def rebuild(
    documents: Documents, ledger: StageLedger, now_us: Callable[[], int], *, lease_s: float = LEASE_S
) -> Rebuilt:
    """Load the ledger; who runs a promotion has `lease_s` from now to go on. `now_us` is the clock.

    Raises RecordCorrupt for a document that cannot be read (nothing is guessed), LedgerBusy.
    """
    async with ledger.lead() as lead:
        return await _rebuild(documents, lead, now_us, lease_s)


async def rebuild_missing(
    documents: Documents, ledger: StageLedger, now_us: Callable[[], int], *, lease_s: float = LEASE_S
) -> Rebuilt | None:
    """Load the ledger unless it is ready, asked when nobody else can be loading it; None when it was ready."""
    async with ledger.lead() as lead:
        return None if (await ledger.state()).epoch else await _rebuild(documents, lead, now_us, lease_s)


async def _rebuild(documents: Documents, lead: Lead, now_us: Callable[[], int], lease_s: float) -> Rebuilt:
    began = time.perf_counter()
    dead = {upload_of_document(key) for key in await listed(documents, HISTORY)}
    kept = await read_kept(documents, dead, until_us=now_us() + int(lease_s * _MICROSECONDS))
    records = [_slim(key, body) async for key, body in documents.scan(RECORDS)]
    winners, losers = await _winners(documents, records, dead, kept)
    files = [record.file for record in winners]
    for gone in losers:
        await settle(documents, gone)
    for file in files:
        if file.upload_id in dead:
            await documents.delete(history_key(file.project, file.upload_id))
    live = [record.file.upload_id for record in winners if record.live_since_us is not None]
    await lead.load(files, await _tokens(documents), kept.freezes(files), live)
    return Rebuilt(len(files), len(losers), time.perf_counter() - began)


def _slim(key: str, body: bytes) -> Record:
    return replace(decode(key, body, Record), form=(), attestations=None)  # all of them are in memory at once


async def _winners(
    documents: Documents, records: Iterable[Record], dead: AbstractSet[UploadId], kept: Kept
) -> tuple[list[Record], list[Gone]]:
    """Return what is staged, and what lost its name to that and enters the history."""
    ended = dead - kept.revived
    living: dict[tuple[StageId, str], Record] = {}
    losers: list[Gone] = []
    for record in records:
        is_dead = record.file.upload_id in ended and not await _is_void(documents, record)
        if is_dead or kept.waits(record.file):
            continue
        name = record.file.stage, record.file.filename
        held = living.get(name)
        living[name] = record if held is None else max(held, record, key=_rank)
        if held is not None:
            losers.append(_lost(min(held, record, key=_rank), living[name]))
    return list(living.values()), losers


def _rank(record: Record) -> tuple[bool, bool, tuple[Serial, UploadId]]:
    return record.live_since_us is not None, record.replace, precedence(record.file)


def _lost(record: Record, winner: Record) -> Gone:
    is_replaced = record.replace and winner.live_since_us is None
    reason = Reason.REPLACED if is_replaced else Reason.REFUSED
    return Gone(record.file, reason, winner.file.staged_at_us, winner.file.who)


async def _is_void(documents: Documents, record: Record) -> bool:
    """Say whether the history is wrong that an upload ended."""
    if record.live_since_us is None:
        return False
    return await read_reason(documents, record.file.project, record.file.upload_id) is not Reason.LIVE


async def _tokens(documents: Documents) -> tuple[Token, ...]:
    return tuple([decode(key, body, TokenDocument).token async for key, body in documents.scan(TOKENS)])
