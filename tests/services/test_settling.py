"""What nobody ends is ended by the server: promotions without a run; and its loops."""

import asyncio
import logging
from dataclasses import replace

import pytest

from overlay.domain.layout import journal_key, promotion_key, receipt_key
from overlay.domain.names import NormalizedName
from overlay.domain.page import UpstreamPage
from overlay.domain.promotion import Freeze, Outcome, PromotionReceipt, Underway
from overlay.domain.promotion_errors import PromotionLost, UnknownPromotion
from overlay.services.promotion_looks import look, note
from overlay.services.promotion_papers import close
from overlay.services.settling import (
    LOOK_EVERY_S,
    NOTICE_EVERY_S,
    SERVER,
    notice_regularly,
    settle_regularly,
)
from tests.desk import CI, LEASE_S, PUSHING, SOURCE, WHEEL, Desk
from tests.fakes.upstream import MemoryUpstream
from tests.faults import FaultyDocuments, FaultyLedger, Steps
from tests.staged import DEMO, GIVEN_UP, staged_file

LATER = staged_file(4, version="1.1", filename="demo-1.1-py3-none-any.whl", content="later")


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.ledger.load((), ())
    await made.stage(WHEEL, SOURCE)
    return made


async def begun(desk: Desk, *, pushes: int = 1) -> Underway:
    """Plan, push so many files, and let the lease end."""
    held = await desk.held(WHEEL, SOURCE)
    for file in held.promotion.files[:pushes]:
        await desk.push(held, file)
    desk.pass_s(LEASE_S)
    return held


# Promotions


async def test_a_promotion_whose_run_is_gone_ends_once_all_is_live(desk: Desk) -> None:
    """With `--no-wait`, or killed after the last push: nobody has to run it again."""
    held = await begun(desk, pushes=2)
    await desk.settling.settle()
    receipt = await desk.promotions.find(held.promotion.id)
    assert isinstance(receipt, PromotionReceipt)
    assert (receipt.outcome, receipt.ended_by) == (Outcome.LIVE, SERVER)
    assert (desk.papers(), await desk.ledger.freezes()) == (set(), ())


async def test_a_promotion_that_is_run_or_not_all_live_is_left_alone(desk: Desk) -> None:
    """A run's own look ends it, and only another run pushes what is missing."""
    held = await desk.held(WHEEL, SOURCE)
    for file in held.promotion.files:
        await desk.push(held, file)
    asked = len(desk.upstream.asked)
    await desk.settling.settle()
    assert len(desk.upstream.asked) == asked
    del desk.upstream.listed[DEMO][SOURCE.filename]
    desk.pass_s(LEASE_S)
    await desk.settling.settle()
    assert isinstance(await desk.promotions.find(held.promotion.id), Underway)


async def test_a_plan_that_lapsed_is_deleted(desk: Desk) -> None:
    """Nothing was pushed; while its run goes on it is kept."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.settling.settle()
    assert desk.papers() == {promotion_key(held.promotion.id)}
    desk.pass_s(LEASE_S)
    await desk.settling.settle()
    assert desk.papers() == set()


async def test_a_freeze_that_the_ledger_lost_is_put_back(desk: Desk) -> None:
    """With the fence of its last run, which may go on; the lease has ended."""
    held = await begun(desk)
    await desk.ledger.thaw(held.promotion.id, GIVEN_UP)
    await desk.settling.settle()
    (freeze,) = await desk.ledger.freezes()
    assert (freeze.promotion, freeze.durable, freeze.fence) == (held.promotion.id, True, 1)
    assert not freeze.leased(desk.now_us)
    await desk.promotions.renew(CI, held.promotion.id, 1)
    again = replace(freeze, until_us=desk.now_us + LEASE_S * 1_000_000)
    assert await desk.ledger.freezes() == (again,)


async def test_what_an_ended_promotion_left_is_taken_away(desk: Desk) -> None:
    """Whoever ended it was killed after the receipt."""
    held = await begun(desk)
    left = {key: desk.documents.held[key] for key in desk.papers()}
    await desk.promotions.abandon(CI, held.promotion.id)
    assert held.freeze is not None
    desk.documents.held |= left
    await desk.ledger.freeze(replace(held.freeze, durable=True, until_us=desk.now_us))
    await desk.settling.settle()
    assert (desk.papers(), await desk.ledger.freezes()) == (set(), ())
    assert desk.receipts() == {receipt_key(held.promotion.id)}


async def test_a_journal_without_its_plan_is_deleted(desk: Desk) -> None:
    """A write of a run that was overtaken came after the end."""
    held = await begun(desk)
    late = journal_key(held.promotion.id, WHEEL.upload_id)
    body = desk.documents.held[late]
    await desk.promotions.abandon(CI, held.promotion.id)
    desk.documents.held[late] = body
    await desk.settling.settle()
    assert desk.papers() == set()


async def test_a_freeze_of_which_all_documents_are_lost_is_thawed(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody could ever end it; the log says so."""
    held = await begun(desk)
    for key in desk.papers():
        del desk.documents.held[key]
    await desk.settling.settle()
    assert await desk.ledger.freezes() == ()
    with pytest.raises(UnknownPromotion):
        await desk.promotions.find(held.promotion.id)
    assert "no documents" in caplog.text


async def test_what_fails_is_said_once_and_does_not_hinder_the_rest(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Upstream is down: what needs it waits, what does not is done."""
    await begun(desk, pushes=2)
    await desk.stage(LATER)
    await desk.held(LATER)
    desk.pass_s(LEASE_S)
    desk.upstream.down = True
    with caplog.at_level(logging.WARNING, "overlay.settling"):
        for _ in range(3):
            await desk.settling.settle()
    assert caplog.text.count("upstream is down") == 1
    assert len([key for key in desk.papers() if key.endswith("/plan.json")]) == 1
    desk.upstream.down = False
    await desk.settling.settle()
    assert desk.papers() == set()


class Ahead(FaultyLedger):
    """The ledger as a host sees it whose clock runs ahead: leases have ended."""

    async def freezes(self) -> tuple[Freeze, ...]:
        return tuple(freeze for freeze in await super().freezes() if freeze.durable)


async def test_a_clock_that_runs_ahead_ends_nothing_of_which_something_may_have_been_pushed(desk: Desk) -> None:
    """The run writes its journal in the moment in which the plan seems to have lapsed."""
    held = await desk.held(WHEEL, SOURCE)

    async def journal(number: int, _: str) -> None:
        if number == 0:
            await desk.promotions.journal(CI, held.promotion.id, WHEEL.upload_id, 1, PUSHING)

    steps = Steps(meanwhile=journal)
    settler = desk.settler(FaultyDocuments(desk.documents, steps), Ahead(desk.ledger, steps))
    await settler.settle()
    assert steps.names == ["thaw"]
    assert desk.papers() == {promotion_key(held.promotion.id), journal_key(held.promotion.id, WHEEL.upload_id)}
    (freeze,) = await desk.ledger.freezes()
    assert freeze.durable
    await desk.promotions.renew(CI, held.promotion.id, 1)


async def test_the_first_receipt_stays(desk: Desk) -> None:
    """A run saw all of it live, while whoever gave it up could not ask upstream; and the other way round."""
    held = await begun(desk, pushes=2)
    live = await note(
        desk.documents,
        desk.ledger,
        held,
        await look(desk.upstream, held.promotion, no_older_than_s=1),
        who="run",
        now_us=lambda: desk.now_us,
    )
    assert live is not None
    late = replace(live, outcome=Outcome.ABANDONED, ended_by="late", journal=())
    assert await close(desk.documents, desk.ledger, late) == live
    assert await desk.promotions.find(held.promotion.id) == live


async def test_a_look_that_was_overtaken_by_the_end_does_not_say_live(desk: Desk) -> None:
    """The promotion was given up while upstream was being asked: the run learns that it is lost."""
    held = await desk.held(WHEEL, SOURCE)
    for file in held.promotion.files:
        await desk.push(held, file)

    class GivenUpMeanwhile(MemoryUpstream):
        async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:
            receipt = PromotionReceipt(
                promotion=held.promotion, outcome=Outcome.ABANDONED, ended_at_us=1, ended_by="bob", journal=()
            )
            await close(desk.documents, desk.ledger, receipt)
            return await super().page(project, no_older_than_s=no_older_than_s)

    upstream = GivenUpMeanwhile()
    upstream.listed, desk.upstream = desk.upstream.listed, upstream
    service = desk.process(desk.documents, desk.ledger)
    with pytest.raises(PromotionLost):
        await service.look(CI, held.promotion.id, 1)
    known = await desk.promotions.find(held.promotion.id)
    assert isinstance(known, PromotionReceipt)
    assert known.outcome is Outcome.ABANDONED


async def test_what_nobody_runs_is_asked_for_less_and_less_often(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """At every look at first, at last every ten minutes; what fails is said once all the same."""
    await begun(desk)
    desk.upstream.asked.clear()
    looks: dict[int, int] = {}
    for hour in range(5):
        desk.upstream.down = hour == 3
        with caplog.at_level(logging.WARNING, "overlay.settling"):
            for _ in range(3600 // int(LOOK_EVERY_S)):
                await desk.settling.settle()
                desk.pass_s(LOOK_EVERY_S)
        looks[hour] = len(desk.upstream.asked)
        desk.upstream.asked.clear()
    assert looks[0] > 20
    assert looks[2] == looks[3] == looks[4] == 6
    assert caplog.text.count("upstream is down") == 1


async def test_what_is_run_again_is_looked_after_as_at_first(desk: Desk) -> None:
    """A new run ended a moment ago: it may have pushed all of it."""
    await begun(desk)
    for _ in range(200):
        await desk.settling.settle()
        desk.pass_s(LOOK_EVERY_S)
    held = await desk.held(WHEEL, SOURCE, run="b")
    await desk.settling.settle()
    await desk.push(held, held.promotion.files[1])
    desk.pass_s(LEASE_S)
    await desk.settling.settle()
    assert isinstance(await desk.promotions.find(held.promotion.id), PromotionReceipt)


# The loops


class Waits:
    """Waits without time, so often; then cancels whoever waits."""

    def __init__(self, times: int) -> None:
        self.waited_s: list[float] = []
        self._left = times

    async def __call__(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        self._left -= 1
        if self._left < 0:
            raise asyncio.CancelledError


async def test_the_server_settles_twice_a_minute_and_notices_every_hour(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """From a moment of the process's own; what fails is logged."""
    waits = Waits(3)
    with pytest.raises(asyncio.CancelledError):
        await settle_regularly(desk.settling, spread=0.5, wait=waits)
    assert waits.waited_s == [LOOK_EVERY_S * 0.75, *[LOOK_EVERY_S] * 3]
    desk.upstream.down = True
    waits = Waits(2)
    with pytest.raises(asyncio.CancelledError):
        await notice_regularly(desk.settling, spread=0.5, wait=waits)
    assert waits.waited_s == [NOTICE_EVERY_S / 4, NOTICE_EVERY_S, NOTICE_EVERY_S]
    assert "could not be noticed" in caplog.text
