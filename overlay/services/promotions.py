"""Promotions: planned, run and journalled, looked at, ended (design §7). The server pushes nothing.

A run speaks with its fence, which the ledger checks before anything of it is written down. The token that planned the
promotion, or took it up, was granted its projects then; any other one is asked for a grant of its own.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from overlay.domain.errors import UnknownFile, UpstreamCorrupt, UpstreamUnavailable
from overlay.domain.names import NormalizedName, StageId
from overlay.domain.ports import Documents, StageLedger, Upstream
from overlay.domain.promotion import (
    FileState,
    Freeze,
    JournalEntry,
    Outcome,
    PlannedFile,
    Promotion,
    PromotionId,
    PromotionReceipt,
    ReleaseName,
    Underway,
)
from overlay.domain.promotion_errors import PromotionLost, UnknownPromotion
from overlay.domain.rights import Right, Token
from overlay.services.access import require
from overlay.services.promotion_looks import Sight, look, note
from overlay.services.promotion_papers import (
    Journal,
    clear,
    close,
    put_entry,
    read_entry,
    read_journal,
    read_plan,
    read_receipt,
    read_receipts,
)
from overlay.services.promotion_planning import Planned, Planning, PromotionSettings, Wanted
from overlay.services.promotion_survey import Survey

# Who looks wants to know what upstream says now, and several who look at once may share an answer.
_LOOK_S: Final = 1.0
_MICROSECONDS: Final = 1_000_000
_FURTHEST: Final = tuple(FileState)

Known = Underway | PromotionReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far one file came, as the run that pushes it says."""

    state: Literal[FileState.PUSHING, FileState.PUSHED]
    status: int | None
    said: str


class Promotions:
    """The use cases of promotions; `now_us` is the clock."""

    def __init__(
        self,
        *,
        documents: Documents,
        ledger: StageLedger,
        upstream: Upstream,
        survey: Survey,
        planning: Planning,
        settings: PromotionSettings,
        now_us: Callable[[], int],
    ) -> None:
        self.settings = settings
        self._documents = documents
        self._ledger = ledger
        self._upstream = upstream
        self._survey = survey
        self._planning = planning
        self._now_us = now_us

    async def plan(self, caller: Token, wanted: Wanted) -> Planned:
        """Plan a promotion or take it up; see `Planning.plan`."""
        return await self._planning.plan(caller, wanted)

    async def find(self, promotion: PromotionId) -> Known:
        """Find a promotion, also one that ended. Raises UnknownPromotion, also for one that lapsed before any push."""
        held = await self._held(promotion)
        if held is None or (isinstance(held, Underway) and held.freeze is None and not held.journal):
            raise UnknownPromotion(promotion)
        return held

    async def under_way(self, release: ReleaseName | None = None) -> tuple[Underway, ...]:
        """List the promotions under way, of one release or of all, the latest first."""
        found = []
        for freeze in reversed(await self._ledger.freezes()):
            if release is None or release in freeze.releases:
                promotion = await read_plan(self._documents, freeze.promotion)
                if promotion is not None:  # else it is about to begin, or has just ended
                    journal = await read_journal(self._documents, freeze.promotion)
                    found.append(Underway(promotion=promotion, journal=journal, freeze=freeze))
        return tuple(found)

    async def find_all(
        self,
        project: NormalizedName | None = None,
        releases: Collection[ReleaseName] = (),
        stage: StageId | None = None,
    ) -> tuple[Known, ...]:
        """List promotions, those under way first; of a project or of releases also those that ended, the latest first.

        It reads every receipt for that: some thousands take seconds.
        """
        ended = await read_receipts(self._documents) if project is not None or releases else ()
        over = {receipt.promotion.id for receipt in ended}
        going_on = [held for held in await self.under_way() if held.promotion.id not in over]
        known: list[Known] = [*going_on, *ended]
        found = [one for one in known if stage is None or one.promotion.stage == stage]
        return tuple(one for one in found if _is_of(one.promotion, project, releases))

    async def renew(self, caller: Token, promotion: PromotionId, fence: int) -> Freeze:
        """Renew a run's lease. Raises NotGranted, PromotionLost."""
        planned = await self._read(promotion)
        if isinstance(planned, PromotionReceipt):
            raise PromotionLost(promotion)
        await self._authorize(caller, planned)
        return await self._ledger.renew(promotion, fence=fence, until_us=self._lease_until_us())

    async def journal(
        self, caller: Token, promotion: PromotionId, upload: str, fence: int, step: Step
    ) -> tuple[PlannedFile, JournalEntry]:
        """Write down how far a file came; from the first time on the freeze lasts until the promotion ended.

        What is written never says less than before. Raises UnknownFile, NotGranted, PromotionLost.
        """
        planned = await self._read(promotion)
        if isinstance(planned, PromotionReceipt):
            return _told(planned, upload, step)
        await self._authorize(caller, planned)
        file = _file_of(planned, upload)
        await self._ledger.renew(promotion, fence=fence, until_us=self._lease_until_us(), durable=True)
        held = await read_entry(self._documents, promotion, file.upload_id)
        entry = JournalEntry(
            upload_id=file.upload_id,
            state=step.state if held is None else max(step.state, held.state, key=_FURTHEST.index),
            at_us=self._now_us(),
            fence=fence,
            status=step.status,
            said=step.said,
        )
        await put_entry(self._documents, promotion, entry)
        return file, entry

    async def look(
        self, caller: Token, promotion: PromotionId, fence: int
    ) -> tuple[tuple[Sight, ...], PromotionReceipt | None]:
        """Ask upstream what it has; returns the receipt, too, once all files are live.

        Raises NotGranted, PromotionLost, UpstreamUnavailable, UpstreamCorrupt.
        """
        held = await self._held(promotion)
        if held is None:
            raise PromotionLost(promotion)
        await self._authorize(caller, held.promotion)
        if isinstance(held, PromotionReceipt):
            if held.outcome is not Outcome.LIVE:
                raise PromotionLost(promotion)
            return await look(self._upstream, held.promotion, no_older_than_s=_LOOK_S), held
        if held.freeze is None or held.freeze.fence != fence:
            raise PromotionLost(promotion)
        sights = await look(self._upstream, held.promotion, no_older_than_s=_LOOK_S)
        return sights, await self._note(held, sights, caller)

    async def end(self, caller: Token, promotion: PromotionId, fence: int) -> Known:
        """End a run: its lease at once, and the promotion, too, if nothing of it can have been pushed.

        Raises NotGranted, PromotionLost.
        """
        planned = await self._read(promotion)
        if isinstance(planned, PromotionReceipt):
            return planned
        await self._authorize(caller, planned)
        journal = await read_journal(self._documents, promotion)
        # Durable already where there is a journal, unless a rebuild read the documents just before it began.
        freeze = await self._ledger.renew(promotion, fence=fence, until_us=0, durable=bool(journal))
        if journal:
            return Underway(promotion=planned, journal=journal, freeze=freeze)
        await clear(self._documents, self._ledger, promotion)
        return self._abandoned(planned, {}, caller)

    async def abandon(self, caller: Token, promotion: PromotionId) -> PromotionReceipt:
        """Give a promotion up, whoever runs it. May be repeated. Raises UnknownPromotion, NotGranted.

        Where something may have been pushed its receipt says what is live, as far as upstream can be asked.
        """
        held = await self._held(promotion)
        if held is None:
            raise UnknownPromotion(promotion)
        await self._authorize(caller, held.promotion)
        if isinstance(held, PromotionReceipt):
            await clear(self._documents, self._ledger, promotion)
            return held
        if not held.durable:
            await self._ledger.thaw(promotion)
            # What a run wrote since: from here on none can.
            held = replace(held, journal=await read_journal(self._documents, promotion), freeze=None)
        if not held.durable:
            await clear(self._documents, self._ledger, promotion)
            return self._abandoned(held.promotion, {}, caller)
        with contextlib.suppress(UpstreamUnavailable, UpstreamCorrupt):
            sights = await look(self._upstream, held.promotion, no_older_than_s=_LOOK_S)
            receipt = await self._note(held, sights, caller)
            if receipt is not None:
                return receipt
        receipt = self._abandoned(held.promotion, await read_journal(self._documents, promotion), caller)
        await close(self._documents, self._ledger, receipt)
        return receipt

    async def _read(self, promotion: PromotionId) -> Promotion | PromotionReceipt:
        """Read the plan of a run, or the receipt. Raises PromotionLost where nothing is left of what was planned."""
        found = await read_plan(self._documents, promotion) or await read_receipt(self._documents, promotion)
        if found is None:
            raise PromotionLost(promotion)
        return found

    async def _held(self, promotion: PromotionId) -> Known | None:
        """Read all there is of a promotion."""
        freezes = {freeze.promotion: freeze for freeze in await self._ledger.freezes()}
        receipt = await read_receipt(self._documents, promotion)
        if receipt is not None:
            return receipt
        planned = await read_plan(self._documents, promotion)
        if planned is None:  # it may have ended between the two
            return await read_receipt(self._documents, promotion)
        journal = await read_journal(self._documents, promotion)
        return Underway(promotion=planned, journal=journal, freeze=freezes.get(promotion))

    async def _authorize(self, caller: Token, promotion: Promotion) -> None:
        if caller.id == promotion.token_id:
            require(caller, Right.PROMOTE)
        else:
            projects = {release.project for release in promotion.releases}
            await self._survey.authorize(caller, promotion.stage, projects)

    async def _note(self, held: Underway, sights: Sequence[Sight], caller: Token) -> PromotionReceipt | None:
        return await note(self._documents, self._ledger, held, sights, who=caller.label, now_us=self._now_us)

    def _abandoned(self, promotion: Promotion, journal: Journal, caller: Token) -> PromotionReceipt:
        return PromotionReceipt(
            promotion=promotion,
            outcome=Outcome.ABANDONED,
            ended_at_us=self._now_us(),
            ended_by=caller.label,
            journal=tuple(journal[file.upload_id] for file in promotion.files if file.upload_id in journal),
        )

    def _lease_until_us(self) -> int:
        return self._now_us() + self.settings.lease_s * _MICROSECONDS


def _is_of(promotion: Promotion, project: NormalizedName | None, releases: Collection[ReleaseName]) -> bool:
    its_own = promotion.releases
    if project is not None and all(release.project != project for release in its_own):
        return False
    return not releases or any(release in releases for release in its_own)


def _file_of(promotion: Promotion, upload: str) -> PlannedFile:
    for file in promotion.files:
        if file.upload_id == upload:
            return file
    raise UnknownFile(upload)


def _told(ended: PromotionReceipt, upload: str, step: Step) -> tuple[PlannedFile, JournalEntry]:
    """Answer a run that came too late: what it pushed was seen live before it could say so, or it is lost."""
    entries = {entry.upload_id: entry for entry in ended.journal}
    file = _file_of(ended.promotion, upload)
    if ended.outcome is not Outcome.LIVE or step.state is not FileState.PUSHED:
        raise PromotionLost(ended.promotion.id)
    return file, entries[file.upload_id]
