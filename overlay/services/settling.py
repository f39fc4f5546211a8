"""What becomes of promotions that nobody runs, and of staged files that became live.

Every process looks after promotions twice a minute. It costs one list and one question to the ledger, unless there is
something to do, and what it does may be done twice:

    documents  freeze                      then
    receipt    any                         whoever ended it was killed: take the rest away
    journal    durable, no lease           ask upstream; all live: it has ended
    journal    none                        the ledger lost it: freeze again
    plan only  none                        it lapsed before any push: delete the plan
    none       durable, no lease           the documents are lost: nobody could ever end it, so thaw

Documents are listed before the freezes are read, and read after them. So a plan on the list without a freeze has had
one (the freeze comes first); and a plan still there after that has not been ended meanwhile (the freeze goes last).

What stays unfinished for long is asked for less and less often, by each process.

Once an hour one process asks upstream for every project with staged files. What became live stays staged at first, for
pages in hand that lack it, and is hidden where upstream lists it (`overlay.services.live_copies`). It ends `stale_s`
later, when no such page is left, or as soon as upstream has deleted it: what was live never comes back as staged.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, NoReturn

from overlay.domain.errors import Corrupt, DocumentNotFound, OverlayError, RecordCorrupt, UpstreamUnavailable
from overlay.domain.layout import LIVE_MARK
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.listing import Standing, judge
from overlay.domain.names import NOTHING_STAGED, NormalizedName, UploadId
from overlay.domain.ports import Documents, Upstream
from overlay.domain.promotion import Freeze, Outcome, Promotion, PromotionEnding, PromotionId, Underway
from overlay.domain.promotion_errors import PromotionRunning
from overlay.domain.records import SweepMark, decode, encode
from overlay.domain.rights import EVERY_PROJECT
from overlay.domain.stage import Reason, StageSnapshot
from overlay.services.facts import FactsOf
from overlay.services.live_copies import end_live, keep_live, read_record
from overlay.services.promotion_looks import look, note, on_page
from overlay.services.promotion_papers import clear, clear_lapsed, planned, read_journal, read_plan, read_receipt

LOOK_EVERY_S: Final = 30.0
NOTICE_EVERY_S: Final = 3600.0
SERVER: Final = "overlay"
"""Who ended what nobody else did."""

_MICROSECONDS: Final = 1_000_000
_SHARE_OF_AGE: Final = 0.1
_LONGEST_PAUSE_S: Final = 600.0
_JUST_NOW_S: Final = 1.0
# A page that was fetched just now may come from a cache of upstream's that has not heard of the file yet.
_DELETED_AFTER_S: Final = 900.0
_GIVEN_UP_AFTER: Final = 3

_log = logging.getLogger("overlay.settling")


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Since when, as this process knows, nobody runs a promotion, and when it was looked at last."""

    since_us: int
    looked_us: int

    @property
    def pause_us(self) -> float:
        """How long it is let alone: longer and longer."""
        pause_us = (self.looked_us - self.since_us) * _SHARE_OF_AGE
        return min(pause_us, _LONGEST_PAUSE_S * _MICROSECONDS) if pause_us > LOOK_EVERY_S * _MICROSECONDS else 0


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where upstream has which of the staged files; `tells` says whether it has the others not."""

    urls: Mapping[UploadId, str]
    tells: bool


class Settling:
    """Ends what nobody else ends; `stale_s` is how old a page may be that readers get, `now_us` the clock."""

    def __init__(
        self,
        *,
        documents: Documents,
        ledger: StageLedger,
        upstream: Upstream,
        facts_of: FactsOf,
        stale_s: float,
        now_us: Callable[[], int],
    ) -> None:
        self._documents = documents
        self._ledger = ledger
        self._upstream = upstream
        self._facts_of = facts_of
        self._stale_s = stale_s
        self._now_us = now_us
        self._failing: Mapping[PromotionId | None, str] = {}
        self._waiting: Mapping[PromotionId, _Waiting] = {}

    async def settle(self) -> None:
        """Settle every promotion that nobody runs. What fails is logged once and tried again."""
        failing: dict[PromotionId | None, str] = {}
        waiting: dict[PromotionId, _Waiting] = {}
        try:
            listed = await planned(self._documents)
            freezes = {freeze.promotion: freeze for freeze in await self._ledger.freezes()}
        except OverlayError as err:
            listed, freezes, waiting = (), {}, dict(self._waiting)
            failing = {**self._failing, None: str(err)}
        for promotion in sorted({*listed, *freezes}):
            freeze, now_us = freezes.get(promotion), self._now_us()
            if freeze is not None and (freeze.leased(now_us) or not freeze.durable):
                continue
            waiting[promotion] = waited = self._waiting.get(promotion) or _Waiting(since_us=now_us, looked_us=0)
            if now_us - waited.looked_us < waited.pause_us:
                if promotion in self._failing:
                    failing[promotion] = self._failing[promotion]
                continue
            waiting[promotion] = replace(waited, looked_us=now_us)
            try:
                await self._settle(promotion, freeze)
            except OverlayError as err:
                failing[promotion] = f"{promotion}: {err}"
        for sentence in sorted(set(failing.values()) - set(self._failing.values())):
            _log.warning("Promotions wait: %s", sentence)
        self._failing, self._waiting = failing, waiting

    async def _settle(self, promotion: PromotionId, freeze: Freeze | None) -> None:
        receipt = await read_receipt(self._documents, promotion)
        plan = await read_plan(self._documents, promotion)
        journal = await read_journal(self._documents, promotion)
        lapsed = PromotionEnding(outcome=Outcome.ABANDONED, at_us=self._now_us(), who=SERVER)
        if receipt is not None:
            await clear(self._documents, self._ledger, promotion, receipt.ending)
        elif freeze is not None and plan is None:
            _log.warning("The promotion %s has a freeze and no documents: it is thawed.", promotion)
            await clear(self._documents, self._ledger, promotion, lapsed)
        elif plan is None or (freeze is None and not journal):
            await clear_lapsed(self._documents, self._ledger, promotion, lapsed)
        elif freeze is None:
            await self._freeze_again(plan)
        else:
            sights = await look(self._upstream, plan, no_older_than_s=LOOK_EVERY_S)
            held = Underway(promotion=plan, journal=journal, freeze=freeze)
            ended = await note(self._documents, self._ledger, held, sights, who=SERVER, now_us=self._now_us)
            if ended is not None and ended.outcome is Outcome.LIVE:
                _log.info("The promotion %s has ended: all its files are live.", promotion)

    async def _freeze_again(self, plan: Promotion) -> None:
        try:
            await self._ledger.freeze(plan.freeze(until_us=0, durable=True))
        except PromotionRunning:  # it was taken up meanwhile
            return
        _log.warning("The promotion %s had lost its freeze, and has it again.", plan.id)

    async def notice_if_due(self) -> bool:
        """Notice what became live, unless a process began to within the last hour; says whether it did.

        Raises LedgerUnavailable, StoreUnavailable, UpstreamUnavailable; what was not reached waits for the next hour.
        """
        now_us = self._now_us()
        if 0 <= now_us - await self._last_begun_us() < NOTICE_EVERY_S * _MICROSECONDS:
            return False
        await self._documents.put(LIVE_MARK, encode(SweepMark(begun_at_us=now_us)))
        await self.notice()
        return True

    async def notice(self) -> None:
        """Ask upstream for everything that is staged; keep what is live, and end what need not be kept any longer.

        A project whose page or documents cannot be read does not hinder the rest; what fails is logged at the end.
        Raises UpstreamUnavailable where upstream did not answer for several projects in a row: it is down.
        """
        frozen = {upload for freeze in await self._ledger.freezes() for upload in freeze.uploads}
        marked = await self._ledger.marked_live()
        files = sorted((await self._ledger.index()).files, key=lambda file: (file.project, file.stage))
        failed: dict[NormalizedName, str] = {}
        unanswered = 0
        for (project, stage), group in groupby(files, key=lambda file: (file.project, file.stage)):
            snapshot = StageSnapshot(project, stage, NOTHING_STAGED, tuple(group))
            try:
                await self._notice(snapshot, frozen, marked)
            except (UpstreamUnavailable, Corrupt) as err:
                failed[project] = str(err)
                unanswered = unanswered + 1 if isinstance(err, UpstreamUnavailable) else 0
                if unanswered == _GIVEN_UP_AFTER:
                    raise
            else:
                unanswered = 0
        for project, sentence in failed.items():
            _log.warning("What became live of %s could not be noticed: %s", project, sentence)

    async def _notice(
        self, snapshot: StageSnapshot, frozen: Collection[UploadId], marked: Collection[UploadId]
    ) -> None:
        project = snapshot.project
        seen = await self._see(snapshot, no_older_than_s=NOTICE_EVERY_S)
        noted = [file for file in snapshot.files if file.upload_id in marked]
        if any(file.upload_id not in seen.urls for file in noted):
            seen = await self._see(snapshot, no_older_than_s=_JUST_NOW_S)
        now_us = self._now_us()
        live = [file for file in snapshot.files if file.upload_id in marked or file.upload_id in seen.urls]
        # What `*` staged is listed as long as all that upstream has came from here, which is read off these copies.
        witnesses = any(file.grant == EVERY_PROJECT and file not in live for file in snapshot.files)
        new: dict[UploadId, NormalizedName] = {}
        for file in live:
            record = await read_record(self._documents, project, file.upload_id)
            if record is None:  # it ended meanwhile
                continue
            if record.live_since_us is None or file.upload_id not in marked:
                new[file.upload_id] = project
            if record.live_since_us is None or file.upload_id in frozen:
                continue
            age_s = (now_us - record.live_since_us) / _MICROSECONDS
            is_deleted = seen.tells and file.upload_id not in seen.urls and age_s > _DELETED_AFTER_S
            if is_deleted or (age_s >= self._stale_s and not witnesses):
                url = seen.urls.get(file.upload_id, record.live_url)
                await end_live(self._documents, self._ledger, file, url, Ending(Reason.LIVE, now_us, SERVER))
        if new:
            await keep_live(self._documents, self._ledger, new, urls=seen.urls, at_us=now_us)

    async def _see(self, snapshot: StageSnapshot, *, no_older_than_s: float) -> "_Seen":
        """Find what is live of a project's staged files."""
        page = await self._upstream.page(snapshot.project, no_older_than_s=no_older_than_s)
        facts = await self._facts_of(page)
        standing_of = judge(facts, (snapshot,))
        live = [file for file in snapshot.files if standing_of(file) is Standing.LIVE]
        found = await on_page(page, [file.filename for file in live])
        urls = {file.upload_id: found[file.filename].url for file in live}
        return _Seen(urls, tells=facts is None or not facts.quarantined)

    async def _last_begun_us(self) -> float:
        try:
            return decode(LIVE_MARK, await self._documents.get(LIVE_MARK), SweepMark).begun_at_us
        except (DocumentNotFound, RecordCorrupt):  # it only saves work: what cannot be read is written anew
            return -NOTICE_EVERY_S * _MICROSECONDS


async def settle_regularly(settling: Settling, *, spread: float, wait: Callable[[float], Awaitable[None]]) -> NoReturn:
    """Settle promotions twice a minute until cancelled.

    The first time is between a quarter and half of a minute from now: `spread`, from 0 to 1, says when. `wait` takes
    seconds.
    """
    await wait(LOOK_EVERY_S * (1 + spread) / 2)
    while True:
        await settling.settle()
        await wait(LOOK_EVERY_S)


async def notice_regularly(settling: Settling, *, spread: float, wait: Callable[[float], Awaitable[None]]) -> NoReturn:
    """Notice what became live every hour until cancelled, unless another process did; a failure is logged.

    The first time is within half an hour: `spread`, from 0 to 1, says when. `wait` takes seconds.
    """
    await wait(NOTICE_EVERY_S * spread / 2)
    while True:
        try:
            await settling.notice_if_due()
        except OverlayError as err:
            _log.warning("What became live could not be noticed: %s", err)
        await wait(NOTICE_EVERY_S)
