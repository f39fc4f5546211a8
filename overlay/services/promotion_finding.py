"""Finding the promotion that releases are in, also where a process was killed, or the ledger lost a freeze.

freeze  documents           the releases are
none    a journal           promoted: the ledger lost it, and gets the freeze again
none    no journal          free; a plan that is there lapsed before any push
there   a receipt           free, once the rest is taken away: whoever ended it was killed before
there   a plan              promoted
there   none                about to be: by the run that holds the freeze, and may ask again
"""

from collections.abc import Collection

from overlay.domain.ledger_port import StageLedger
from overlay.domain.ports import Documents
from overlay.domain.promotion import Freeze, PromotionId, Underway
from overlay.domain.promotion_errors import PromotionRunning, ReleaseFrozen
from overlay.services.promotion_orders import Wanted
from overlay.services.promotion_papers import clear, planned, read_journal, read_plan, read_receipt


async def find_promotion(documents: Documents, ledger: StageLedger, wanted: Wanted) -> Underway | PromotionId | None:
    """Find the promotion of these releases; only its id where its plan was never written, by this very run.

    Raises ReleaseFrozen where they are in several, or in one of another stage; PromotionRunning.
    """
    listed = await planned(documents)  # before the freezes, for whoever freezes comes before the documents
    freezes = await ledger.freezes()
    if await _freeze_lost(documents, ledger, wanted, {*listed}.difference(freeze.promotion for freeze in freezes)):
        freezes = await ledger.freezes()
    freezes = tuple([freeze for freeze in freezes if wanted.releases & {*freeze.releases}])
    for freeze in freezes:
        receipt = await read_receipt(documents, freeze.promotion)
        if receipt is not None:
            await clear(documents, ledger, freeze.promotion, receipt.ending)
            return await find_promotion(documents, ledger, wanted)
    if not freezes:
        return None
    freeze = freezes[0]
    if len(freezes) > 1 or freeze.stage != wanted.stage:
        (release, *_) = sorted(wanted.releases & {*freeze.releases})
        raise ReleaseFrozen(str(release), who=freeze.who, since_us=freeze.since_us)
    return await _read(documents, freeze, wanted.holder)


async def _read(documents: Documents, freeze: Freeze, holder: str) -> Underway | PromotionId:
    promotion = await read_plan(documents, freeze.promotion)
    if promotion is not None:
        journal = await read_journal(documents, freeze.promotion)
        return Underway(promotion=promotion, journal=journal, freeze=freeze)
    if freeze.holder != holder:
        raise PromotionRunning(freeze.promotion, who=freeze.who, since_us=freeze.since_us, until_us=freeze.until_us)
    return freeze.promotion


async def _freeze_lost(
    documents: Documents, ledger: StageLedger, wanted: Wanted, unfrozen: Collection[PromotionId]
) -> bool:
    """Freeze again what may have been pushed of these releases; say whether there was any.

    A plan is deleted before its freeze is thawed. So one that is still there was not ended in between, unless its
    receipt is.
    """
    lost = False
    for promotion in sorted(unfrozen):
        plan = await read_plan(documents, promotion)
        if plan is None or wanted.releases.isdisjoint(plan.releases) or not await read_journal(documents, promotion):
            continue
        if await read_receipt(documents, promotion) is None:
            await ledger.freeze(plan.freeze(until_us=0, durable=True))
            lost = True
    return lost
