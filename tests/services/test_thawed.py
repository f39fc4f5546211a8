"""What a promotion kept out is decided on when it ends, however it ends: also where no reconcile comes by itself."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from overlay.domain.layout import HISTORY, RECORDS, history_key, promotion_key, record_key, upload_of_document
from overlay.domain.names import UploadId
from overlay.domain.promotion import Underway
from overlay.domain.records import HistoryEntry, Record, decode, encode
from overlay.domain.stage import Reason, StagedFile
from overlay.services.reconcile import reconcile_project
from tests.desk import CI, LEASE_S, SOURCE, WHEEL, Desk, other_bytes
from tests.staged import DEMO, staged_file

NEW: Final = staged_file(3, filename="demo-1.0-cp311-none-any.whl", content="new")
LATE: Final = other_bytes(WHEEL, number=4)
OTHER: Final = staged_file(5, project="other", filename="other-1.0.tar.gz")
WAITING: Final = staged_file(6, project="other", filename="other-1.0.zip", content="waits")


async def _all_live(desk: Desk, held: Underway) -> None:
    await _pushed(desk, held)
    assert held.freeze is not None
    await desk.promotions.look(CI, held.promotion.id, held.freeze.fence)


async def _settled(desk: Desk, held: Underway) -> None:
    await _pushed(desk, held)
    desk.pass_s(LEASE_S)
    await desk.settling.settle()


async def _ended(desk: Desk, held: Underway) -> None:
    assert held.freeze is not None
    await desk.promotions.end(CI, held.promotion.id, held.freeze.fence)


async def _abandoned(desk: Desk, held: Underway) -> None:
    await desk.promotions.abandon(CI, held.promotion.id)


async def _abandoned_late(desk: Desk, held: Underway) -> None:
    await desk.push(held, held.promotion.files[0])
    await desk.promotions.abandon(CI, held.promotion.id)


async def _lapsed(desk: Desk, held: Underway) -> None:  # noqa: ARG001 - one shape for all
    desk.pass_s(LEASE_S)
    await desk.settling.settle()


async def _without_plan(desk: Desk, held: Underway) -> None:
    """Whoever ended it was killed before the thaw."""
    await desk.push(held, held.promotion.files[0])
    await desk.documents.delete(promotion_key(held.promotion.id))
    desk.pass_s(LEASE_S)
    await desk.settling.settle()


ENDS: Final[dict[str, Callable[[Desk, Underway], Awaitable[None]]]] = {
    "all is live": _all_live,
    "all is live, and nobody runs it": _settled,
    "its run ends before any push": _ended,
    "it is abandoned before any push": _abandoned,
    "it is abandoned after a push": _abandoned_late,
    "its lease lapses before any push": _lapsed,
    "its plan was deleted": _without_plan,
}


async def _pushed(desk: Desk, held: Underway) -> None:
    for file in held.promotion.files:
        await desk.push(held, file)


def record(desk: Desk, file: StagedFile, *, may_replace: bool = False) -> None:
    """Record an upload whose outcome nobody learned."""
    body = encode(Record(file=file, form=(), attestations=None, replace=may_replace))
    desk.documents.held[record_key(file.project, file.upload_id)] = body


async def staged(desk: Desk) -> set[StagedFile]:
    return set((await desk.ledger.index()).files)


def recorded(desk: Desk) -> set[UploadId]:
    return {upload_of_document(key) for key in desk.documents.held if key.startswith(RECORDS)}


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.ledger.load((), ())
    await made.stage(WHEEL, SOURCE, OTHER)
    return made


@pytest.mark.parametrize("end", ENDS)
async def test_what_waited_is_decided_on_at_once(desk: Desk, end: str) -> None:
    """A new name is staged, other bytes of a held one are refused for good; in every project of the promotion."""
    held = await desk.held(WHEEL, SOURCE, OTHER)
    for waiting in (NEW, LATE, WAITING):
        record(desk, waiting)
        await reconcile_project(desk.documents, desk.ledger, waiting.project)
    assert await staged(desk) == {WHEEL, SOURCE, OTHER}
    assert {NEW.upload_id, LATE.upload_id, WAITING.upload_id} <= recorded(desk)
    await ENDS[end](desk, held)
    assert await desk.ledger.freezes() == ()
    assert await staged(desk) == {WHEEL, SOURCE, OTHER, NEW, WAITING}
    assert recorded(desk) == {file.upload_id for file in await staged(desk)}
    entry = decode("", desk.documents.held[history_key(DEMO, LATE.upload_id)], HistoryEntry)
    assert entry.gone.reason is Reason.REFUSED


async def test_what_cannot_be_decided_on_does_not_hinder_the_end(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The promotion has ended, the other project's uploads are staged, and the log says what is left."""
    held = await desk.held(WHEEL, SOURCE, OTHER)
    broken = record_key(DEMO, NEW.upload_id)
    desk.documents.held[broken] = b"{"
    record(desk, WAITING)
    with caplog.at_level(logging.WARNING):
        await _abandoned(desk, held)
    assert broken in caplog.text
    assert (desk.papers(), await desk.ledger.freezes()) == (set(), ())
    assert await staged(desk) == {WHEEL, SOURCE, OTHER, WAITING}
    assert not [key for key in desk.documents.held if key.startswith(HISTORY)]
