"""Promotions: planned, run and journalled, looked at, ended (design §7). The server pushes nothing.

A run speaks with its fence, which the ledger checks before anything of it is written down. The token that planned the
promotion, or took it up, was granted its projects then; any other one is asked for a grant of its own.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from overlay.domain.errors import UnknownFile, UpstreamCorrupt, UpstreamUnavailable
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import NormalizedName, ReleaseName, StageId
from overlay.domain.ports import Documents, Upstream
from overlay.domain.promotion import (
    FileState,
    Freeze,
    JournalEntry,
    Outcome,
    PlannedFile,
    Promotion,
    PromotionId,
    PromotionReceipt,
    Underway,
    further,
)
from overlay.domain.promotion_errors import PromotionLost, UnknownPromotion
from overlay.domain.rights import Right, Token
from overlay.services.access import require
from overlay.services.promotion_listing import Known, find_last, list_promotions, list_under_way, read_all
from overlay.services.promotion_looks import Sight, look, note
from overlay.services.promotion_orders import Planned, PromotionSettings, Wanted
from overlay.services.promotion_papers import (
    Journal,
    clear,
    close,
    put_entry,
    read_entry,
    read_journal,
    read_plan,
    read_receipt,
)
from overlay.services.promotion_planning import Planning
from overlay.services.promotion_survey import Survey

# Who looks wants to know what upstream says now, and several who look at once may share an answer.
_LOOK_S: Final = 1.0
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far one file came, as the run that pushes it says."""

    state: Literal[FileState.PLANNED, FileState.PUSHING, FileState.PUSHED]
    status: int | None
    said: str
    attempt: int = 1


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
        return await list_under_way(self._documents, self._ledger, release)

    async def last_of(self, release: ReleaseName) -> Known | None:
        """Find the promotion that a release is in, or else the last one that it was in."""
        return await find_last(self._documents, self._ledger, release)

    async def find_all(
        self,
        project: NormalizedName | None = None,
        releases: Collection[ReleaseName] = (),
        stage: StageId | None = None,
        *,
        limit: int,
    ) -> tuple[Known, ...]:
        """List promotions; see `list_promotions`."""
        return await list_promotions(self._documents, self._ledger, project, releases, stage, limit=limit)

    async def renew(self, caller: Token, promotion: PromotionId, fence: int) -> Freeze:
        """Renew a run's lease. Raises NotGranted, PromotionLost."""
        if isinstance(await self._read(caller, promotion), PromotionReceipt):
            raise PromotionLost(promotion)
        return await self._ledger.renew(promotion, fence=fence, until_us=self._lease_until_us())

    async def journal(
        self, caller: Token, promotion: PromotionId, upload: str, fence: int, step: Step
    ) -> tuple[PlannedFile, JournalEntry]:
        """Write down how far a file came; from the first time on the freeze lasts until the promotion ended.

        What is written says less than before only as `further` has it. Raises UnknownFile, NotGranted, PromotionLost.
        """
        planned = await self._read(caller, promotion)
        if isinstance(planned, PromotionReceipt):
            return _told(planned, upload, step)
        file = _file_of(planned, upload)
        await self._ledger.renew(promotion, fence=fence, until_us=self._lease_until_us(), durable=True)
        said = JournalEntry(
            upload_id=file.upload_id,
            state=step.state,
            at_us=self._now_us(),
            fence=fence,
            attempt=step.attempt,
            status=step.status,
            said=step.said,
        )
        entry = further(await read_entry(self._documents, promotion, file.upload_id), said)
        await put_entry(self._documents, promotion, entry)
        if step.state is FileState.PUSHING:
            # Whoever gave the promotion up meanwhile may have read the journal before this came: then nothing goes out.
            await self._ledger.renew(promotion, fence=fence, until_us=self._lease_until_us(), durable=True)
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
        sights = await look(self._upstream, held.promotion, no_older_than_s=self._since_last_push_s(held))
        receipt = await self._note(held, sights, caller)
        if receipt is not None and receipt.outcome is not Outcome.LIVE:  # given up in this moment
            raise PromotionLost(promotion)
        return sights, receipt

    async def end(self, caller: Token, promotion: PromotionId, fence: int) -> Known:
        """End a run: its lease at once, and the promotion, too, if nothing of it can have been pushed.

        Raises NotGranted, PromotionLost.
        """
        planned = await self._read(caller, promotion)
        if isinstance(planned, PromotionReceipt):
            return planned
        journal = await read_journal(self._documents, promotion)
        # Durable already where there is a journal, unless a rebuild read the documents just before it began.
        freeze = await self._ledger.renew(promotion, fence=fence, until_us=0, durable=bool(journal))
        if journal:
            return Underway(promotion=planned, journal=journal, freeze=freeze)
        receipt = self._abandoned(planned, {}, caller)
        await clear(self._documents, self._ledger, promotion, receipt.ending)
        return receipt

    async def abandon(self, caller: Token, promotion: PromotionId) -> PromotionReceipt:
        """Give a promotion up, whoever runs it. May be repeated. Raises UnknownPromotion, NotGranted.

        Where something may have been pushed its receipt says what is live, as far as upstream can be asked.
        """
        held = await self._held(promotion)
        if held is None:
            raise UnknownPromotion(promotion)
        await self._authorize(caller, held.promotion)
        if isinstance(held, PromotionReceipt):
            await clear(self._documents, self._ledger, promotion, held.ending)
            return held
        receipt = self._abandoned(held.promotion, {}, caller)
        thawed = not held.durable and await self._ledger.thaw(promotion, receipt.ending, unless_durable=True)
        if not thawed:
            await self._ledger.overtake(promotion)
        # From here on no run begins to push, for each asks the ledger once more when it has written that it will.
        held = replace(held, journal=await read_journal(self._documents, promotion))
        if thawed and not held.journal:
            await clear(self._documents, self._ledger, promotion, receipt.ending)
            return receipt
        with contextlib.suppress(UpstreamUnavailable, UpstreamCorrupt):
            sights = await look(self._upstream, held.promotion, no_older_than_s=_LOOK_S)
            all_live = await self._note(held, sights, caller)
            if all_live is not None:
                return all_live
        receipt = self._abandoned(held.promotion, await read_journal(self._documents, promotion), caller)
        return await close(self._documents, self._ledger, receipt)

    async def _read(self, caller: Token, promotion: PromotionId) -> Promotion | PromotionReceipt:
        """Read the plan of a run, or the receipt, for whoever may run it.

        Raises PromotionLost where nothing is left of what was planned, NotGranted.
        """
        found = await read_plan(self._documents, promotion) or await read_receipt(self._documents, promotion)
        if found is None:
            raise PromotionLost(promotion)
        await self._authorize(caller, found.promotion if isinstance(found, PromotionReceipt) else found)
        return found

    async def _held(self, promotion: PromotionId) -> Known | None:
        return await read_all(self._documents, self._ledger, promotion)

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

    def _since_last_push_s(self, held: Underway) -> float:
        """Return how old a page may be to be looked at: at most `_LOOK_S`, and not from before the last push.

        An older one shows less for certain, and the run would wait a while before it looked again.
        """
        last_us = max((entry.at_us for entry in held.journal.values()), default=0)
        return min(_LOOK_S, max(self._now_us() - last_us, 0) / _MICROSECONDS)

    def _lease_until_us(self) -> int:
        return self._now_us() + self.settings.lease_s * _MICROSECONDS


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
