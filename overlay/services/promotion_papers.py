"""The documents of promotions: plan, journal, receipt.

A promotion under way has a plan, and an entry of the journal per file that may have been pushed. It ended when its
receipt is there, whatever is left beside it: a killed process may have got no further. Then the journal goes, the plan,
and the freeze last, so that no rebuild finds a promotion without what happened to it.
"""

from collections.abc import Mapping

from overlay.domain.errors import DocumentNotFound
from overlay.domain.layout import (
    PROMOTIONS,
    RECEIPTS,
    is_plan,
    journal_key,
    journal_prefix,
    promotion_key,
    promotion_of_document,
    receipt_key,
)
from overlay.domain.names import UploadId
from overlay.domain.ports import Documents, StageLedger
from overlay.domain.promotion import JournalEntry, Promotion, PromotionId, PromotionReceipt
from overlay.domain.records import JournalDocument, PromotionDocument, ReceiptDocument, decode, encode

Journal = Mapping[UploadId, JournalEntry]


async def put_plan(documents: Documents, promotion: Promotion) -> None:
    """Write the plan, also when another run takes it over."""
    await documents.put(promotion_key(promotion.id), encode(PromotionDocument(promotion=promotion)))


async def put_entry(documents: Documents, promotion: PromotionId, entry: JournalEntry) -> None:
    """Write down how far one file came."""
    await documents.put(journal_key(promotion, entry.upload_id), encode(JournalDocument(entry=entry)))


async def read_plan(documents: Documents, promotion: PromotionId) -> Promotion | None:
    """Read a plan; None where there is none."""
    key = promotion_key(promotion)
    try:
        return decode(key, await documents.get(key), PromotionDocument).promotion
    except DocumentNotFound:
        return None


async def read_entry(documents: Documents, promotion: PromotionId, upload: UploadId) -> JournalEntry | None:
    """Read how far one file came; None where nothing of it was sent."""
    key = journal_key(promotion, upload)
    try:
        return decode(key, await documents.get(key), JournalDocument).entry
    except DocumentNotFound:
        return None


async def read_journal(documents: Documents, promotion: PromotionId) -> Journal:
    """Read how far all files came."""
    entries = [
        decode(key, body, JournalDocument).entry
        async for key, body in documents.scan(journal_prefix(promotion))
        if not is_plan(key)
    ]
    return {entry.upload_id: entry for entry in entries}


async def read_receipt(documents: Documents, promotion: PromotionId) -> PromotionReceipt | None:
    """Read how a promotion ended; None while it did not."""
    key = receipt_key(promotion)
    try:
        return decode(key, await documents.get(key), ReceiptDocument).receipt
    except DocumentNotFound:
        return None


async def read_receipts(documents: Documents) -> tuple[PromotionReceipt, ...]:
    """Read every promotion that ended, the latest first."""
    receipts = [decode(key, body, ReceiptDocument).receipt async for key, body in documents.scan(RECEIPTS)]
    return tuple(sorted(receipts, key=lambda receipt: (receipt.ended_at_us, receipt.promotion.id), reverse=True))


async def planned(documents: Documents) -> tuple[PromotionId, ...]:
    """List the promotions of which a plan or a part of a journal is there."""
    return tuple(sorted({promotion_of_document(key) async for key in documents.keys(PROMOTIONS)}))


async def close(documents: Documents, ledger: StageLedger, receipt: PromotionReceipt) -> None:
    """End a promotion. May be repeated."""
    await documents.put(receipt_key(receipt.promotion.id), encode(ReceiptDocument(receipt=receipt)))
    await clear(documents, ledger, receipt.promotion.id)


async def clear(documents: Documents, ledger: StageLedger, promotion: PromotionId) -> None:
    """Take away what a promotion that ended left. May be repeated."""
    await _drop_journal(documents, promotion)
    await documents.delete(promotion_key(promotion))
    await ledger.thaw(promotion)


async def _drop_journal(documents: Documents, promotion: PromotionId) -> None:
    """Delete the journal."""
    for key in [key async for key in documents.keys(journal_prefix(promotion)) if not is_plan(key)]:
        await documents.delete(key)
