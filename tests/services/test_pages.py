"""Project pages: upstream and ledger are asked at the same time; a failure of the ledger does not wait for upstream."""

import asyncio
import gc
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import pytest

from overlay.domain.errors import LedgerUnavailable
from overlay.domain.names import NormalizedName, Revision, StageId, project_name
from overlay.domain.page import MAIN_VIEW, Format, UpstreamPage
from overlay.services.facts import facts_reader
from overlay.services.pages import Current, Pages
from overlay.storage.ledger_memory import MemoryLedger
from tests.fakes.upstream import MemoryUpstream

DEMO: Final = project_name("demo")
LIMIT_S: Final = 20.0


class SlowUpstream(MemoryUpstream):
    """Has nothing in hand; says when it is asked and given up, and answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.create(DEMO)
        self.begun, self.may, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:
        self.begun.set()
        try:
            await self.may.wait()
        finally:
            self.left.set()
        return await super().page(project, no_older_than_s=no_older_than_s)


class SlowLedger(MemoryLedger):
    """Answers once upstream was asked, and not before."""

    def __init__(self, upstream: SlowUpstream) -> None:
        super().__init__(lambda: 1)
        self._upstream = upstream

    async def revisions(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[Revision, ...]:
        await self._upstream.begun.wait()
        answer = await super().revisions(project, stages)
        self._upstream.may.set()
        return answer


@pytest.fixture
async def upstream() -> SlowUpstream:
    return SlowUpstream()


@pytest.fixture
async def ledger(upstream: SlowUpstream) -> SlowLedger:
    """It is not loaded."""
    return SlowLedger(upstream)


@pytest.fixture
async def pages(upstream: SlowUpstream, ledger: SlowLedger) -> Pages:
    return Pages(upstream, ledger, facts_reader(), limit_bytes=1 << 20)


async def asked(pages: Pages) -> Current:
    async with asyncio.timeout(LIMIT_S):
        return await pages.current(MAIN_VIEW, DEMO, Format.JSON, None)


async def test_both_are_asked_at_the_same_time(pages: Pages, ledger: SlowLedger) -> None:
    """Each of them answers only when the other one was asked, too."""
    await ledger.load((), ())
    named, page = await asked(pages)
    assert page is not None
    assert named.key.validator == page.validator


async def test_a_ledger_that_fails_does_not_wait_for_upstream(pages: Pages, upstream: SlowUpstream) -> None:
    """Upstream never answers; nobody waits for it any longer."""
    with pytest.raises(LedgerUnavailable):
        await asked(pages)
    async with asyncio.timeout(LIMIT_S):
        await upstream.left.wait()


async def test_a_reader_who_hangs_up_waits_for_neither(pages: Pages, upstream: SlowUpstream) -> None:
    """What was asked for it is given up."""
    reading = asyncio.ensure_future(pages.current(MAIN_VIEW, DEMO, Format.JSON, None))
    await upstream.begun.wait()
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(LIMIT_S):
        await upstream.left.wait()


async def test_when_both_fail_the_ledger_is_named_and_nothing_is_left_to_complain_about(
    pages: Pages, upstream: SlowUpstream
) -> None:
    """Upstream's error was there first."""
    upstream.down = True
    upstream.may.set()
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    with pytest.raises(LedgerUnavailable):
        await asked(pages)
    gc.collect()
    assert upstream.left.is_set()
    assert complaints == []
