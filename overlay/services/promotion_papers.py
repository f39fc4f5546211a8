"""The documents of promotions: plan, journal, receipt, and what finds a release's receipts.

A promotion under way has a plan, and an entry of the journal per file that may have been pushed. It ended when its
receipt is there, whatever is left beside it: a killed process may have got no further. Then the journal goes, the plan,
and the freeze last, so that no rebuild finds a promotion without what happened to it.

Receipts are kept for ever, so they are never all read: a key per release names the receipt, and the ids in those keys
sort by time. The keys are written first, and one without its receipt is passed over.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from overlay.domain.errors import DocumentNotFound
from overlay.domain.layout import (
    ENDED,
    PROMOTIONS,
    ended_key,
    ended_of_document,
    ended_prefix,
    is_plan,
    journal_key,
    journal_prefix,
    promotion_key,
    promotion_of_document,
    receipt_key,
)
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import NormalizedName, ReleaseName, StageId, UploadId
from overlay.domain.ports import Documents
from overlay.domain.promotion import (
    FileState,
    JournalEntry,
    Promotion,
    PromotionEnding,
    PromotionId,
    PromotionReceipt,
)
from overlay.domain.records import JournalDocument, PromotionDocument, ReceiptDocument, decode, encode, encode_mark
from overlay.services.at_once import some_at_once
from overlay.services.live_copies import keep_live
from overlay.services.reconcile import reconcile_thawed

_NO_URLS: Final[Mapping[UploadId, str]] = MappingProxyType({})

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


async def read_receipts(documents: Documents, promotions: Collection[PromotionId]) -> tuple[PromotionReceipt, ...]:
    """Read how these promotions ended, in this order, without those that did not."""
    found = await some_at_once(lambda promotion: read_receipt(documents, promotion), promotions)
    return tuple(receipt for receipt in found if receipt is not None)


async def find_ended(
    documents: Documents, project: NormalizedName | None, releases: Collection[ReleaseName], stage: StageId | None
) -> tuple[PromotionId, ...]:
    """List the promotions that ended, the latest planned first; each condition that is given must hold."""
    found: set[PromotionId] | None = None
    if project is not None:
        found = await _listed(documents, ended_prefix(project), (), stage)
    if releases:
        of_releases = set[PromotionId]()
        for one in {release.project for release in releases}:
            of_releases |= await _listed(documents, ended_prefix(one), releases, stage)
        found = of_releases if found is None else found & of_releases
    if found is None:
        found = await _listed(documents, ENDED, (), stage)
    return tuple(sorted(found, reverse=True))


async def _listed(
    documents: Documents, prefix: str, releases: Collection[ReleaseName], stage: StageId | None
) -> set[PromotionId]:
    named = [ended_of_document(key) async for key in documents.keys(prefix)]
    return {
        promotion
        for release, of_stage, promotion in named
        if (not releases or release in releases) and stage in {None, of_stage}
    }


async def planned(documents: Documents) -> tuple[PromotionId, ...]:
    """List the promotions of which a plan or a part of a journal is there."""
    return tuple(sorted({promotion_of_document(key) async for key in documents.keys(PROMOTIONS)}))


async def close(
    documents: Documents,
    ledger: StageLedger,
    receipt: PromotionReceipt,
    *,
    urls: Mapping[UploadId, str] = _NO_URLS,
) -> PromotionReceipt:
    """End a promotion; return its receipt, which is the first one where two end it. May be repeated.

    What is live is kept as it is before anything else: till then the freeze does that, and nothing lies between the
    two. `urls` has where upstream has the files, as far as that was seen just now.
    """
    promotion = receipt.promotion
    live = {entry.upload_id for entry in receipt.journal if entry.state is FileState.LIVE}
    copies = {file.upload_id: file.project for file in promotion.files if file.upload_id in live}
    await keep_live(documents, ledger, copies, urls=urls, at_us=receipt.ended_at_us)
    held = await read_receipt(documents, promotion.id)
    if held is None:
        for release in promotion.releases:
            await documents.put(ended_key(release, promotion.stage, promotion.id), encode_mark())
        await documents.put(receipt_key(promotion.id), encode(ReceiptDocument(receipt=receipt)))
        held = receipt
    await clear(documents, ledger, promotion.id, held.ending)
    return held


async def clear(documents: Documents, ledger: StageLedger, promotion: PromotionId, ending: PromotionEnding) -> None:
    """Take away what a promotion that ended left, and decide on what waited for its end. May be repeated."""
    projects = await _projects(documents, ledger, promotion)
    await _drop_journal(documents, promotion)
    await documents.delete(promotion_key(promotion))
    await ledger.thaw(promotion, ending)
    await reconcile_thawed(documents, ledger, projects)


async def clear_lapsed(
    documents: Documents, ledger: StageLedger, promotion: PromotionId, ending: PromotionEnding
) -> None:
    """Take away a promotion of which nothing can be pushed any more, or nothing at all. May be repeated.

    Its freeze goes first, and one that is durable stays, with all the rest: its lease may only have seemed to have
    ended, by the clock of a host that runs ahead, and its run goes on.
    """
    projects = await _projects(documents, ledger, promotion)
    if await ledger.thaw(promotion, ending, unless_durable=True):
        await _drop_journal(documents, promotion)
        await documents.delete(promotion_key(promotion))
        await reconcile_thawed(documents, ledger, projects)


async def _projects(documents: Documents, ledger: StageLedger, promotion: PromotionId) -> set[NormalizedName]:
    """Return the projects of a promotion, as its plan says, or its freeze where a killed process deleted the plan."""
    plan = await read_plan(documents, promotion)
    freezes = [freeze for freeze in await ledger.freezes() if freeze.promotion == promotion]
    return {release.project for one in (plan, *freezes) if one is not None for release in one.releases}


async def _drop_journal(documents: Documents, promotion: PromotionId) -> None:
    """Delete the journal."""
    for key in [key async for key in documents.keys(journal_prefix(promotion)) if not is_plan(key)]:
        await documents.delete(key)
