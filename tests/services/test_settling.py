"""What nobody ends is ended by the server: promotions without a run, and staged files that became live."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from overlay.domain.errors import Unavailable, UpstreamUnavailable
from overlay.domain.layout import LIVE_MARK, history_key, journal_key, promotion_key, receipt_key, record_key
from overlay.domain.names import MAIN
from overlay.domain.promotion import Outcome, PromotionReceipt, Underway
from overlay.domain.promotion_errors import UnknownPromotion
from overlay.domain.records import HistoryEntry, Record, decode
from overlay.domain.stage import EventKind, Gone, Reason, StagedFile
from overlay.services.downloads import Downloads, Moved
from overlay.services.facts import facts_reader
from overlay.services.settling import (
    LOOK_EVERY_S,
    NOTICE_EVERY_S,
    SERVER,
    notice_regularly,
    settle_regularly,
)
from overlay.services.upkeep import reconcile
from tests.desk import CI, LEASE_S, SOURCE, STALE_S, WHEEL, Desk
from tests.faults import Fault, FaultyDocuments, FaultyLedger, Killed, Steps, killed, silent
from tests.staged import DEMO, staged_file

LATER = staged_file(4, version="1.1", filename="demo-1.1-py3-none-any.whl", content="later")


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.ledger.load((), ())
    await made.stage(WHEEL, SOURCE)
    return made


async def staged(desk: Desk) -> set[str]:
    (snapshot,) = await desk.ledger.snapshot(DEMO, (MAIN,))
    return {file.filename for file in snapshot.files}


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
    await desk.ledger.thaw(held.promotion.id)
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


# Files


async def live_since_us(desk: Desk, file: StagedFile) -> int | None:
    key = record_key(file.project, file.upload_id)
    return decode(key, desk.documents.held[key], Record).live_since_us


async def test_a_live_file_steps_back_for_good_once_no_old_page_is_left(desk: Desk) -> None:
    """`stale_s` after it was seen; till then it stays staged, for pages that lack it."""
    desk.upstream.add(WHEEL)
    await desk.settling.notice()
    assert await live_since_us(desk, WHEEL) == desk.now_us
    assert await live_since_us(desk, SOURCE) is None
    desk.pass_s(STALE_S - 1)
    await desk.settling.notice()
    assert WHEEL.filename in await staged(desk)
    desk.pass_s(1)
    await desk.settling.notice()
    assert await staged(desk) == {SOURCE.filename}
    key = history_key(DEMO, WHEEL.upload_id)
    entry = decode(key, desk.documents.held[key], HistoryEntry)
    assert entry.gone == Gone(WHEEL, Reason.LIVE, desk.now_us, SERVER)
    assert entry.live_url == f"https://files.example/{WHEEL.filename}"
    assert record_key(DEMO, WHEEL.upload_id) not in desk.documents.held
    (*_, event) = (await desk.ledger.events(0)).events
    assert (event.kind, event.filename) == (EventKind.LIVE, WHEEL.filename)


@pytest.mark.parametrize(("error", "took_effect"), [(killed, False), (killed, True), (silent, False), (silent, True)])
async def test_a_fault_while_a_live_file_ends_loses_neither_it_nor_its_address(
    error: Callable[[str], BaseException], *, took_effect: bool
) -> None:
    """At any step: it is still staged, or it ended and its URL leads upstream."""
    for at in range(4):
        desk = Desk()
        await desk.ledger.load((), ())
        await desk.stage(WHEEL, SOURCE)
        desk.upstream.add(WHEEL)
        await desk.settling.notice()
        desk.pass_s(STALE_S)
        steps = Steps(Fault(at, took_effect, error))
        settler = desk.settler(FaultyDocuments(desk.documents, steps), FaultyLedger(desk.ledger, steps))
        with contextlib.suppress(Killed, Unavailable):
            await settler.notice()
        await reconcile(desk.documents, desk.ledger)
        key = history_key(DEMO, WHEEL.upload_id)
        if key in desk.documents.held:
            assert decode(key, desk.documents.held[key], HistoryEntry).live_url is not None
            assert await staged(desk) == {SOURCE.filename}
        else:
            assert await staged(desk) == {WHEEL.filename, SOURCE.filename}
        assert len(steps.names) == min(at + 1, 3)


async def test_other_bytes_are_not_live(desk: Desk) -> None:
    """A conflict is shown to people and never ends by itself."""
    desk.upstream.add(WHEEL, sha256=SOURCE.sha256)
    for _ in range(3):
        await desk.settling.notice()
        desk.pass_s(STALE_S)
    assert await live_since_us(desk, WHEEL) is None
    assert WHEEL.filename in await staged(desk)


async def test_what_is_being_promoted_ends_after_its_promotion(desk: Desk) -> None:
    """A run that takes it up finds what was planned."""
    await begun(desk)
    for _ in range(3):
        await desk.settling.notice()
        desk.pass_s(STALE_S)
    assert await staged(desk) == {WHEEL.filename, SOURCE.filename}
    desk.upstream.add(SOURCE)
    await desk.settling.settle()
    for _ in range(2):
        await desk.settling.notice()
        desk.pass_s(STALE_S)
    assert await staged(desk) == set()


async def test_live_copies_bear_witness_for_what_a_token_for_everything_staged(desk: Desk) -> None:
    """Without them the project on upstream would look like somebody else's, and the rest would be hidden."""
    await desk.stage(replace(LATER, grant="*"))
    for file in (WHEEL, SOURCE):
        desk.upstream.add(file)
    for _ in range(3):
        await desk.settling.notice()
        desk.pass_s(STALE_S)
    assert len(await staged(desk)) == 3
    desk.upstream.add(LATER)
    for _ in range(2):
        await desk.settling.notice()
        desk.pass_s(STALE_S)
    assert await staged(desk) == set()


async def test_upstream_s_answer_may_be_an_hour_old(desk: Desk) -> None:
    """It is asked for every project that has something staged, known or not."""
    await desk.settling.notice()
    assert desk.upstream.asked == [(DEMO, NOTICE_EVERY_S)]


async def test_one_process_an_hour_notices(desk: Desk) -> None:
    """The others pass; a failure waits for the next hour, a mark that makes no sense for nobody."""
    others = desk.settler(desk.documents, desk.ledger)
    assert await desk.settling.notice_if_due()
    assert not await others.notice_if_due()
    desk.pass_s(NOTICE_EVERY_S)
    desk.upstream.down = True
    with pytest.raises(UpstreamUnavailable):
        await others.notice_if_due()
    assert not await desk.settling.notice_if_due()
    desk.upstream.down = False
    desk.documents.held[LIVE_MARK] = b"{"
    assert await desk.settling.notice_if_due()


async def test_the_address_of_a_file_that_went_live_leads_there(desk: Desk) -> None:
    """Lock files that name it go on working, its core metadata too; known to the ledger or only to the history."""
    desk.upstream.add(WHEEL)
    await desk.settling.notice()
    desk.pass_s(STALE_S)
    await desk.settling.notice()
    downloads = Downloads(
        blobs=desk.blobs,
        documents=desk.documents,
        ledger=desk.ledger,
        upstream=desk.upstream,
        facts_of=facts_reader(),
        grace_s=60,
        now_us=lambda: desk.now_us,
    )
    for _ in range(2):
        for suffix in ("", ".metadata"):
            found = await downloads.find(DEMO, WHEEL.upload_id, WHEEL.filename + suffix)
            assert found == Moved(f"https://files.example/{WHEEL.filename}{suffix}")
        await desk.ledger.load((SOURCE,), ())


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
