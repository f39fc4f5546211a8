"""What the documents of promotions ask of the ledger when it is rebuilt or reconciled (design §5, §7).

Once the journal of a promotion has begun, something may have been pushed. A rebuild then finds its releases as the
freeze had kept them, and freezes them again, for good:

    what was staged of them when they were frozen   is staged, whatever the serials
    … and is in the history because it is live      ended
    … and is in the history for any other reason    is staged: the ledger refused that, and whoever asked was killed
                                                    before the history was taken away again
    any other record                                waits for the thaw, neither staged nor put into the history: its
                                                    upload was refused, or never got to the ledger

Before that nothing was pushed, and the freeze may have ended with its lease. So the release is found as any other, and
where all of the plan is staged it is frozen for one lease more: the run that had it may go on.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import ReleaseName, UploadId
from overlay.domain.ports import Documents
from overlay.domain.promotion import Freeze, Underway
from overlay.domain.promotion_errors import PromotionRunning, ReleaseFrozen
from overlay.domain.stage import Reason, StagedFile
from overlay.services.live_copies import read_reason
from overlay.services.promotion_papers import planned, read_journal, read_plan, read_receipt

LEASE_S: Final = 60
"""How long a rebuild waits for a run to go on, in seconds; `[promote] lease_s` says it to the program."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What promotions keep as it is."""

    revived: frozenset[UploadId]
    """Uploads that are staged whatever the history says."""
    _wanted: tuple[Freeze, ...]
    """Of one release the first that holds counts."""
    _staged: Mapping[ReleaseName, Collection[UploadId]]
    """All that was staged of the releases of which something may have been pushed."""

    def waits(self, file: StagedFile) -> bool:
        """Say whether a record is left alone until the thaw."""
        staged = self._staged.get(file.release)
        return staged is not None and file.upload_id not in staged

    def freezes(self, staged: Collection[StagedFile]) -> tuple[Freeze, ...]:
        """Return the freezes of what is staged."""
        uploads = {file.upload_id for file in staged}
        frozen: set[ReleaseName] = set()
        found = []
        for freeze in self._wanted:
            if frozen.isdisjoint(freeze.releases) and (freeze.durable or uploads.issuperset(freeze.uploads)):
                frozen.update(freeze.releases)
                found.append(freeze)
        return tuple(found)


async def read_kept(documents: Documents, ended: Collection[UploadId], *, until_us: int) -> Kept:
    """Read what is kept, with leases until that moment; `ended` are the uploads in the history.

    Raises RecordCorrupt, StoreUnavailable.
    """
    under_way = await _under_way(documents)
    staged: dict[ReleaseName, Collection[UploadId]] = {}
    revived = set[UploadId]()
    for plan in [held.promotion for held in under_way if held.durable]:
        uploads = {file.upload_id for file in plan.files}.union(plan.beside)
        for release in plan.releases:
            staged.setdefault(release, uploads)
        for file in plan.files:
            if file.upload_id in ended:
                reason = await read_reason(documents, file.project, file.upload_id)
                if reason is not Reason.LIVE:  # also where the history was taken away since it was listed
                    revived.add(file.upload_id)
    wanted = [held.promotion.freeze(until_us=until_us, durable=held.durable) for held in under_way]
    return Kept(frozenset(revived), tuple(wanted), staged)


async def freeze_again(documents: Documents, ledger: StageLedger) -> None:
    """Freeze what the ledger lost, of promotions of which something may have been pushed; their runs go on.

    One that ends at this moment may be frozen after its thaw; `overlay.services.settling` thaws it again.
    """
    fences = {freeze.promotion: freeze.fence for freeze in await ledger.freezes() if freeze.durable}
    for held in await _under_way(documents):
        if held.durable and fences.get(held.promotion.id, 0) < held.promotion.fence:
            with contextlib.suppress(PromotionRunning, ReleaseFrozen):  # another run, or promotion, came before
                await ledger.freeze(held.promotion.freeze(until_us=0, durable=True))


async def check_not_frozen(ledger: StageLedger, release: ReleaseName) -> None:
    """Raise ReleaseFrozen while a promotion keeps the release as it is."""
    for freeze in await ledger.freezes():
        if release in freeze.releases:
            raise ReleaseFrozen(str(release), who=freeze.who, since_us=freeze.since_us)


async def planned_uploads(documents: Documents) -> frozenset[UploadId]:
    """Return the uploads of all plans."""
    plans = [await read_plan(documents, promotion) for promotion in await planned(documents)]
    return frozenset(file.upload_id for plan in plans if plan is not None for file in plan.files)


async def _under_way(documents: Documents) -> Sequence[Underway]:
    """Read the promotions that did not end: those that may have begun to push first, then the latest first.

    Of one release the first counts: any other lapsed before that was planned.
    """
    found = []
    for promotion in await planned(documents):
        plan = await read_plan(documents, promotion)
        journal = await read_journal(documents, promotion)
        if plan is not None and await read_receipt(documents, promotion) is None:
            found.append(Underway(promotion=plan, journal=journal, freeze=None))
    return sorted(found, key=lambda held: (held.durable, held.promotion.planned_at_us), reverse=True)
