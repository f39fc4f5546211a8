"""A promotion that is killed, or gets no answer, at any step ends like a clean one once the command is run again.

Each run of the test brings one fault about at one write of the server. Then its lease ends, perhaps the ledger is
rebuilt or what nobody runs is settled, and the same command runs again until it is through.
"""

import contextlib
from collections.abc import Callable

import pytest

from overlay.domain.errors import Unavailable
from overlay.domain.layout import receipt_key
from overlay.domain.names import MAIN
from overlay.domain.promotion import FileState, Outcome, PromotionReceipt
from overlay.domain.records import ReceiptDocument, decode
from overlay.services.promotions import Promotions
from tests.desk import CI, LEASE_S, PUSHED, PUSHING, SOURCE, WHEEL, Desk, wanted
from tests.faults import Fault, FaultyDocuments, FaultyLedger, Killed, Steps, killed, silent
from tests.staged import DEMO

FAULTS = [(error, took_effect) for error in (killed, silent) for took_effect in (False, True)]


class Upload:
    """What upstream was sent, in order; like PyPI it takes the same file twice."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.stored: list[str] = []

    async def run(self, service: Promotions, run: str) -> None:
        """Do what the command does: plan, push what is not live in the order of the plan, look, end."""
        planned = await service.plan(CI, wanted(WHEEL, SOURCE, run=run))
        if planned.held is None:
            return
        assert planned.held.freeze is not None
        name, fence = planned.held.promotion.id, planned.held.freeze.fence
        for file in planned.held.promotion.files:
            listed = self.desk.upstream.listed.setdefault(DEMO, {})
            if file.filename not in listed:
                await service.journal(CI, name, file.upload_id, fence, PUSHING)
                self.stored.append(file.filename)
                listed[file.filename] = file.sha256
                await service.journal(CI, name, file.upload_id, fence, PUSHED)
        await service.look(CI, name, fence)


async def until_through(desk: Desk, upload: Upload, steps: Steps) -> None:
    """Run with the fault, let the lease end, settle, run again."""
    service = desk.process(FaultyDocuments(desk.documents, steps), FaultyLedger(desk.ledger, steps))
    with contextlib.suppress(Killed, Unavailable):
        await upload.run(service, "a")
    desk.pass_s(LEASE_S)


async def check_ended(desk: Desk, upload: Upload) -> None:
    """Hold everything against what a clean run leaves."""
    assert upload.stored == [WHEEL.filename, SOURCE.filename]
    assert (desk.papers(), await desk.ledger.freezes()) == (set(), ())
    (key,) = desk.receipts()
    receipt = decode(key, desk.documents.held[key], ReceiptDocument).receipt
    assert receipt.outcome is Outcome.LIVE
    assert {entry.state for entry in receipt.journal} == {FileState.LIVE}
    assert len(receipt.journal) == 2
    (snapshot,) = await desk.ledger.snapshot(DEMO, (MAIN,))
    assert snapshot.files == (WHEEL, SOURCE)
    assert await desk.ledger.marked_live() == {WHEEL.upload_id, SOURCE.upload_id}


async def new_desk() -> tuple[Desk, Upload]:
    desk = Desk()
    await desk.ledger.load((), ())
    await desk.stage(WHEEL, SOURCE)
    return desk, Upload(desk)


async def steps_of_a_clean_run() -> list[str]:
    desk, upload = await new_desk()
    steps = Steps()
    await until_through(desk, upload, steps)
    await check_ended(desk, upload)
    return steps.names


@pytest.mark.parametrize("rebuilds", [False, True])
@pytest.mark.parametrize("settles", [False, True])
@pytest.mark.parametrize(("error", "took_effect"), FAULTS)
async def test_a_fault_at_any_step_is_mended_by_running_again(
    error: Callable[[str], BaseException], *, took_effect: bool, settles: bool, rebuilds: bool
) -> None:
    """The end state is that of one clean run: each file stored once, the sdist last, a receipt that says live."""
    names = await steps_of_a_clean_run()
    assert len(names) > 10
    for at in range(len(names)):
        desk, upload = await new_desk()
        await until_through(desk, upload, Steps(Fault(at, took_effect, error)))
        if rebuilds:
            await desk.rebuild()
            desk.pass_s(LEASE_S)
        if settles:
            await desk.settling.settle()
        await upload.run(desk.promotions, "b")
        await desk.settling.settle()
        await check_ended(desk, upload)


@pytest.mark.parametrize(("error", "took_effect"), FAULTS)
async def test_a_fault_while_giving_up_is_mended_by_giving_up_again(
    error: Callable[[str], BaseException], *, took_effect: bool
) -> None:
    """And by the background alone; the release is free then."""
    for again in (True, False):
        at = 0
        while True:
            desk, _ = await new_desk()
            held = await desk.held(WHEEL, SOURCE)
            await desk.push(held, held.promotion.files[0])
            steps = Steps(Fault(at, took_effect, error))
            service = desk.process(FaultyDocuments(desk.documents, steps), FaultyLedger(desk.ledger, steps))
            with contextlib.suppress(Killed, Unavailable):
                await service.abandon(CI, held.promotion.id)
            desk.pass_s(LEASE_S)
            if again:
                await desk.promotions.abandon(CI, held.promotion.id)
            await desk.settling.settle()
            known = await desk.promotions.find(held.promotion.id)
            ended = isinstance(known, PromotionReceipt)
            # Before the receipt is there nothing has happened: then the background leaves the promotion as it is.
            assert ended or (not again and not desk.receipts())
            if ended:
                assert desk.receipts() == {receipt_key(held.promotion.id)}
                assert (desk.papers(), await desk.ledger.freezes()) == (set(), ())
                assert await desk.ledger.marked_live() == {held.promotion.files[0].upload_id}
                await desk.held(WHEEL, SOURCE, run="c")
            if at >= len(steps.names):
                break
            at += 1
        assert at > 3
