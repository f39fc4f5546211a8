"""Reading promotions: one with all there is of it, those under way, and those that ended."""

from collections.abc import Collection

from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import NormalizedName, ReleaseName, StageId
from overlay.domain.ports import Documents
from overlay.domain.promotion import Freeze, Promotion, PromotionId, PromotionReceipt, Underway
from overlay.services.at_once import some_at_once
from overlay.services.promotion_papers import find_ended, read_journal, read_plan, read_receipt, read_receipts

Known = Underway | PromotionReceipt


async def read_all(documents: Documents, ledger: StageLedger, promotion: PromotionId) -> Known | None:
    """Read all there is of a promotion."""
    freezes = {freeze.promotion: freeze for freeze in await ledger.freezes()}
    receipt = await read_receipt(documents, promotion)
    if receipt is not None:
        return receipt
    planned = await read_plan(documents, promotion)
    if planned is None:  # it may have ended between the two
        return await read_receipt(documents, promotion)
    journal = await read_journal(documents, promotion)
    return Underway(promotion=planned, journal=journal, freeze=freezes.get(promotion))


async def list_under_way(
    documents: Documents, ledger: StageLedger, release: ReleaseName | None = None
) -> tuple[Underway, ...]:
    """List the promotions under way, of one release or of all, the latest first."""

    async def read(freeze: Freeze) -> Underway | None:
        promotion = await read_plan(documents, freeze.promotion)
        if promotion is None:  # it is about to begin, or has just ended
            return None
        return Underway(promotion=promotion, journal=await read_journal(documents, freeze.promotion), freeze=freeze)

    freezes = reversed(await ledger.freezes())
    found = await some_at_once(read, [one for one in freezes if release is None or release in one.releases])
    return tuple(one for one in found if one is not None)


async def find_last(documents: Documents, ledger: StageLedger, release: ReleaseName) -> Known | None:
    """Find the promotion that a release is in, or else the last one that it was in."""
    # First the one under way: what ends in between has a receipt by then.
    for held in await list_under_way(documents, ledger, release):
        return held
    for promotion in await find_ended(documents, None, [release], None):
        receipt = await read_receipt(documents, promotion)
        if receipt is not None:
            return receipt
    return None


async def list_promotions(
    documents: Documents,
    ledger: StageLedger,
    project: NormalizedName | None = None,
    releases: Collection[ReleaseName] = (),
    stage: StageId | None = None,
    *,
    limit: int,
) -> tuple[Known, ...]:
    """List promotions: all that are under way, then at most `limit` that ended; of each the latest planned first.

    Each condition that is given must hold. Of all receipts only those are read that are returned.
    """
    # First those under way: what ends in between is found twice then, not missed.
    under_way = await list_under_way(documents, ledger)
    going_on = [one for one in under_way if _is_of(one.promotion, project, releases, stage)]
    listed = await find_ended(documents, project, releases, stage) if limit else ()
    ended = await read_receipts(documents, listed[:limit])
    closing = await read_receipts(documents, [one.promotion.id for one in going_on])
    over = {receipt.promotion.id for receipt in (*ended, *closing)}
    return (*(one for one in going_on if one.promotion.id not in over), *ended)


def _is_of(
    promotion: Promotion, project: NormalizedName | None, releases: Collection[ReleaseName], stage: StageId | None
) -> bool:
    its_own = promotion.releases
    if project is not None and all(release.project != project for release in its_own):
        return False
    if releases and all(release not in releases for release in its_own):
        return False
    return stage in {None, promotion.stage}
