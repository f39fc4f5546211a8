"""The journal of a promotion as runs write it: an attempt that came to nothing is taken back, the freeze is not."""

from dataclasses import replace

import pytest

from overlay.domain.promotion import FileState, Outcome
from tests.desk import CI, LEASE_S, PUSHED, PUSHING, SOURCE, WHEEL, Desk

NOTHING = replace(PUSHING, state=FileState.PLANNED, status=400, said="No.")


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.ledger.load((), ())
    await made.stage(WHEEL, SOURCE)
    return made


async def test_an_attempt_is_taken_back(desk: Desk) -> None:
    """The next run has it as planned, with what upstream said; the release stays frozen until somebody decides."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.promotions.journal(CI, held.promotion.id, WHEEL.upload_id, 1, PUSHING)
    _, entry = await desk.promotions.journal(CI, held.promotion.id, WHEEL.upload_id, 1, NOTHING)
    assert (entry.state, entry.status, entry.said) == (FileState.PLANNED, 400, "No.")
    await desk.promotions.end(CI, held.promotion.id, 1)
    desk.pass_s(1000 * LEASE_S)
    (freeze,) = await desk.ledger.freezes()
    assert freeze.durable
    again = await desk.held(WHEEL, SOURCE, run="b")
    assert again.journal[WHEEL.upload_id] == entry
    receipt = await desk.promotions.abandon(CI, held.promotion.id)
    assert receipt.outcome is Outcome.ABANDONED
    assert await desk.ledger.freezes() == ()


async def test_a_late_word_of_an_earlier_attempt_changes_nothing(desk: Desk) -> None:
    """A call that is repeated after a lost answer may arrive after the next attempt began."""
    held = await desk.held(WHEEL, SOURCE)
    name = held.promotion.id
    for step, state in (
        (PUSHING, FileState.PUSHING),
        (NOTHING, FileState.PLANNED),
        (PUSHING, FileState.PLANNED),
        (replace(PUSHING, attempt=2), FileState.PUSHING),
        (NOTHING, FileState.PUSHING),
        (replace(PUSHED, attempt=2), FileState.PUSHED),
        (replace(NOTHING, attempt=2), FileState.PUSHED),
    ):
        _, entry = await desk.promotions.journal(CI, name, WHEEL.upload_id, 1, step)
        assert entry.state is state
