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

Once an hour one process asks upstream for every project with staged files. What became live stays staged at first, for
pages in hand that lack it, and is hidden where upstream lists it; `stale_s` later no such page is left, and it ends.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import groupby
from typing import Final, NoReturn

from overlay.domain.errors import DocumentNotFound, OverlayError, RecordCorrupt
from overlay.domain.layout import LIVE_MARK, history_key, record_key
from overlay.domain.listing import Standing, standing
from overlay.domain.names import NOTHING_STAGED, UploadId
from overlay.domain.page import UpstreamPage
from overlay.domain.ports import Documents, Ending, StageLedger, Upstream
from overlay.domain.promotion import Freeze, Promotion, PromotionId, Underway
from overlay.domain.promotion_errors import PromotionRunning
from overlay.domain.records import HistoryEntry, Record, SweepMark, decode, encode
from overlay.domain.rights import EVERY_PROJECT
from overlay.domain.stage import Gone, Reason, StagedFile, StageSnapshot
from overlay.services.facts import FactsOf
from overlay.services.promotion_looks import look, note, on_page
from overlay.services.promotion_papers import clear, planned, read_journal, read_plan, read_receipt

LOOK_EVERY_S: Final = 30.0
NOTICE_EVERY_S: Final = 3600.0
SERVER: Final = "overlay"
"""Who ended what nobody else did."""

_MICROSECONDS: Final = 1_000_000

_log = logging.getLogger("overlay.settling")


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
        self._failing: frozenset[str] = frozenset()

    async def settle(self) -> None:
        """Settle every promotion that nobody runs. What fails is logged once and tried again the next time."""
        failing = set()
        try:
            listed = await planned(self._documents)
            freezes = {freeze.promotion: freeze for freeze in await self._ledger.freezes()}
        except OverlayError as err:
            listed, freezes = (), {}
            failing.add(str(err))
        for promotion in sorted({*listed, *freezes}):
            freeze = freezes.get(promotion)
            if freeze is not None and (freeze.leased(self._now_us()) or not freeze.durable):
                continue
            try:
                await self._settle(promotion, freeze)
            except OverlayError as err:
                failing.add(f"{promotion}: {err}")
        for sentence in sorted(failing - self._failing):
            _log.warning("Promotions wait: %s", sentence)
        self._failing = frozenset(failing)

    async def _settle(self, promotion: PromotionId, freeze: Freeze | None) -> None:
        receipt = await read_receipt(self._documents, promotion)
        plan = await read_plan(self._documents, promotion)
        journal = await read_journal(self._documents, promotion)
        if receipt is not None or plan is None or (freeze is None and not journal):
            if receipt is None and freeze is not None:
                _log.warning("The promotion %s has a freeze and no documents: it is thawed.", promotion)
            await clear(self._documents, self._ledger, promotion)
        elif freeze is None:
            await self._freeze_again(plan)
        else:
            sights = await look(self._upstream, plan, no_older_than_s=LOOK_EVERY_S)
            held = Underway(promotion=plan, journal=journal, freeze=freeze)
            ended = await note(self._documents, self._ledger, held, sights, who=SERVER, now_us=self._now_us)
            if ended is not None:
                _log.info("The promotion %s has ended: all its files are live.", promotion)

    async def _freeze_again(self, plan: Promotion) -> None:
        try:
            await self._ledger.freeze(plan.freeze(until_us=0, durable=True))
        except PromotionRunning:  # it was taken up meanwhile
            return
        _log.warning("The promotion %s had lost its freeze, and has it again.", plan.id)

    async def notice_if_due(self) -> bool:
        """Notice what became live, unless a process began to within the last hour; says whether it did.

        Raises Unavailable, Corrupt; what was not reached then waits for the next hour.
        """
        now_us = self._now_us()
        if 0 <= now_us - await self._last_begun_us() < NOTICE_EVERY_S * _MICROSECONDS:
            return False
        await self._documents.put(LIVE_MARK, encode(SweepMark(begun_at_us=now_us)))
        await self.notice()
        return True

    async def notice(self) -> None:
        """Ask upstream for everything that is staged; note what is live, and end what has been for long enough."""
        kept = {upload for freeze in await self._ledger.freezes() for upload in freeze.uploads}
        files = sorted((await self._ledger.index()).files, key=lambda file: (file.project, file.stage))
        for (project, stage), group in groupby(files, key=lambda file: (file.project, file.stage)):
            snapshot = StageSnapshot(project, stage, NOTHING_STAGED, tuple(group))
            page = await self._upstream.page(project, no_older_than_s=NOTICE_EVERY_S)
            await self._notice(snapshot, page, kept)

    async def _notice(self, snapshot: StageSnapshot, page: UpstreamPage, kept: set[UploadId]) -> None:
        facts = await self._facts_of(page)
        live = [file for file in snapshot.files if standing(file, facts, (snapshot,)) is Standing.LIVE]
        seen = {file.upload_id for file in live}
        # What `*` staged is listed as long as all that upstream has came from here, which is read off these copies.
        witnesses = any(file.grant == EVERY_PROJECT and file.upload_id not in seen for file in snapshot.files)
        urls = {name: found.url for name, found in (await on_page(page, [file.filename for file in live])).items()}
        for file in live:
            may_end = not witnesses and file.upload_id not in kept
            await self._note(file, urls[file.filename], may_end=may_end)

    async def _note(self, file: StagedFile, url: str, *, may_end: bool) -> None:
        key, now_us = record_key(file.project, file.upload_id), self._now_us()
        try:
            record = decode(key, await self._documents.get(key), Record)
        except DocumentNotFound:  # it ended meanwhile
            return
        if record.live_since_us is None:
            await self._documents.put(key, encode(replace(record, live_since_us=now_us)))
        elif may_end and now_us - record.live_since_us >= self._stale_s * _MICROSECONDS:
            await self._end(file, url, now_us)

    async def _end(self, file: StagedFile, url: str, now_us: int) -> None:
        ending = Ending(Reason.LIVE, now_us, SERVER)
        entry = HistoryEntry(gone=Gone(file, ending.reason, ending.at_us, ending.who), live_url=url)
        await self._documents.put(history_key(file.project, file.upload_id), encode(entry))
        await self._ledger.forget(file.project, [file.upload_id], ending)
        await self._documents.delete(record_key(file.project, file.upload_id))

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
