"""What one request waits for the ledger has one limit, whatever it asks."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from overlay.domain.errors import LedgerUnavailable
from overlay.domain.names import NormalizedName, Revision, StageId
from overlay.domain.page import MAIN_VIEW, Format, Rendition
from overlay.domain.stage import StageSnapshot
from overlay.services.facts import facts_reader
from overlay.services.ledger_patience import from_ledger, one_patience
from overlay.services.pages import Pages
from overlay.storage.ledger_memory import MemoryLedger
from tests.fakes.upstream import MemoryUpstream
from tests.ledgers import NOW_US
from tests.staged import DEMO, staged_file

LIMIT_S = 0.1
LONG_S = 20.0


async def answer_in(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answer"


async def test_questions_that_are_patient_each_are_not_so_together() -> None:
    """Either of them alone would be waited for; the limit is that of their sum."""
    async with asyncio.timeout(LONG_S):
        with one_patience(LIMIT_S):
            assert await from_ledger(answer_in(0.6 * LIMIT_S)) == "answer"
            with pytest.raises(LedgerUnavailable, match="too slow"):
                await from_ledger(answer_in(0.6 * LIMIT_S))


async def test_what_is_waited_for_elsewhere_does_not_count() -> None:
    """Upstream has limits of its own."""
    with one_patience(LIMIT_S):
        assert await from_ledger(answer_in(0.0)) == "answer"
        await asyncio.sleep(LIMIT_S)
        assert await from_ledger(answer_in(0.0)) == "answer"


async def test_time_in_which_this_process_was_held_up_says_nothing_of_the_ledger() -> None:
    """It answered at once; so it is asked once more."""
    with one_patience(LIMIT_S):
        time.sleep(2 * LIMIT_S)
        assert await from_ledger(_held_up()) == "answer"
        assert await from_ledger(answer_in(0.0)) == "answer"


async def _held_up() -> str:
    time.sleep(2 * LIMIT_S)
    return "answer"


async def test_the_next_request_of_a_task_begins_anew() -> None:
    """A connection's requests are one task's; what is no page has no limit here."""
    for _ in range(2):
        with one_patience(LIMIT_S):
            assert await from_ledger(answer_in(0.0)) == "answer"
            with pytest.raises(LedgerUnavailable):
                await from_ledger(answer_in(LONG_S))
    assert await from_ledger(answer_in(0.0)) == "answer"
    assert await from_ledger(answer_in(0.0)) == "answer"


class FallingSilent(MemoryLedger):
    """Answers revisions after a while, and snapshots when it may."""

    def __init__(self, revisions_s: Sequence[float]) -> None:
        super().__init__(lambda: NOW_US)
        self._revisions_s = list(revisions_s)
        self.may, self.told = asyncio.Event(), asyncio.Event()
        self.snapshots = 0

    async def revisions(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[Revision, ...]:
        await asyncio.sleep(self._revisions_s.pop(0))
        return await super().revisions(project, stages)

    async def snapshot(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[StageSnapshot, ...]:
        self.snapshots += 1
        await self.may.wait()
        self.told.set()
        return await super().snapshot(project, stages)


async def page(pages: Pages) -> Rendition:
    with one_patience(LIMIT_S):
        return await pages.rendition(MAIN_VIEW, await pages.current(MAIN_VIEW, DEMO, Format.JSON, None))


async def test_a_page_is_not_waited_for_when_the_ledger_falls_silent_in_its_middle() -> None:
    """The snapshot does not come: both who wait for it give up, one of them soon, for it waited before.

    When it comes late it is rendered all the same, so that a page that takes long is there for the next who asks.
    """
    ledger, upstream = FallingSilent([0.0, 0.8 * LIMIT_S, 0.0]), MemoryUpstream()
    await ledger.load((staged_file(),), ())
    upstream.create(DEMO)
    pages = Pages(upstream, ledger, facts_reader(), limit_bytes=1 << 20)
    async with asyncio.timeout(LONG_S):
        both = await asyncio.gather(page(pages), page(pages), return_exceptions=True)
    assert [type(answer) for answer in both] == [LedgerUnavailable] * 2
    assert ledger.snapshots == 1
    ledger.may.set()
    async with asyncio.timeout(LONG_S):
        await ledger.told.wait()
    assert b"demo" in (await page(pages)).body
    assert ledger.snapshots == 1
    await pages.close()
