"""Promotions that ended are found by release and project, however many there are, and told of in the feed."""

from collections.abc import AsyncIterator

import pytest

from overlay.domain.events import EventKind
from overlay.domain.layout import ended_key, receipt_key
from overlay.domain.names import ReleaseName
from overlay.domain.promotion import PromotionReceipt, promotion_id
from overlay.domain.stage import StagedFile
from overlay.services.settling import SERVER
from tests.desk import ADMIN, CI, LEASE_S, RELEASE, SOURCE, WHEEL, Desk
from tests.fakes.documents import MemoryDocuments
from tests.staged import DEMO, staged_file

OTHER = staged_file(5, project="other", version="2!1.0+a.b", filename="other-2!1.0+a.b.tar.gz")
OTHER_RELEASE = ReleaseName(OTHER.project, OTHER.version)


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.ledger.load((), ())
    await made.stage(WHEEL, SOURCE, OTHER)
    return made


class Counted(MemoryDocuments):
    """Documents that remember what was read."""

    def __init__(self, held: dict[str, bytes]) -> None:
        super().__init__()
        self.held = held
        self.read: list[str] = []

    async def get(self, key: str) -> bytes:
        self.read.append(key)
        return await super().get(key)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        async for key, body in super().scan(prefix):
            self.read.append(key)
            yield key, body


async def given_up(desk: Desk, *files: StagedFile) -> PromotionReceipt:
    """Begin to push the files, and give that up."""
    held = await desk.held(*files)
    await desk.push(held, held.promotion.files[0])
    receipt = await desk.promotions.abandon(CI, held.promotion.id)
    for listed in desk.upstream.listed.values():
        listed.clear()
    desk.pass_s(1)
    return receipt


async def test_only_what_is_listed_is_read(desk: Desk) -> None:
    """The latest, and no other receipt; one promotion is found by its id with one read."""
    ended = [await given_up(desk, *((OTHER,) if number == 3 else (WHEEL, SOURCE))) for number in range(6)]
    documents = Counted(desk.documents.held)
    service = desk.process(documents, desk.ledger)
    assert await service.find_all(limit=2) == (ended[5], ended[4])
    assert await service.find_all(project=DEMO, limit=3) == (ended[5], ended[4], ended[2])
    assert await service.find_all(releases=[OTHER_RELEASE, RELEASE], limit=1) == (ended[5],)
    assert await service.find_all(releases=[OTHER_RELEASE], limit=9) == (ended[3],)
    assert await service.find_all(limit=0) == ()
    assert documents.read == [receipt_key(ended[at].promotion.id) for at in (5, 4, 5, 4, 2, 5, 3)]
    documents.read.clear()
    assert await service.find(ended[0].promotion.id) == ended[0]
    assert documents.read == [receipt_key(ended[0].promotion.id)]


async def test_what_finds_a_receipt_without_one_is_passed_over(desk: Desk) -> None:
    """Whoever ended the promotion was killed between the two; it is under way, and listed once."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.documents.put(ended_key(RELEASE, held.promotion.stage, held.promotion.id), b"{}")
    assert await desk.promotions.find_all(project=DEMO, limit=9) == (held,)


async def test_a_promotion_that_is_being_ended_is_not_under_way(desk: Desk) -> None:
    """Also where more have ended since than are listed."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    left = {key: desk.documents.held[key] for key in desk.papers()}
    freezes = await desk.ledger.freezes()
    await desk.promotions.abandon(CI, held.promotion.id)
    desk.pass_s(1)
    later = await given_up(desk, OTHER)
    desk.documents.held |= left
    await desk.ledger.load((WHEEL, SOURCE, OTHER), (), freezes)
    assert await desk.promotions.find_all(limit=1) == (later,)
    assert await desk.promotions.find_all(limit=0) == ()


def test_ids_sort_by_time() -> None:
    """To the millisecond, for some thousand years; within one at random."""
    early, late = (promotion_id(now_us, b"\xff" * 10) for now_us in (1_700_000_000_000_999, 1_700_000_000_001_000))
    assert early < promotion_id(1_700_000_000_001_000, bytes(10)) < late < promotion_id(2 * 10**17, bytes(10))
    assert {len(one) for one in (early, late)} == {32}


# The feed


async def told(desk: Desk) -> list[tuple[EventKind, str]]:
    events = (await desk.ledger.events(0)).events
    return [(event.kind, event.who) for event in events if event.promotion is not None]


async def test_a_promotion_is_told_from_its_plan_to_its_end(desk: Desk) -> None:
    """Also that another run took it over, and who ended it."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    desk.pass_s(LEASE_S)
    held = await desk.held(WHEEL, SOURCE, caller=ADMIN, run="b")
    await desk.push(held, held.promotion.files[1])
    await desk.promotions.look(CI, held.promotion.id, 2)
    assert await told(desk) == [(EventKind.PROMOTING, "ci"), (EventKind.RESUMED, "admin"), (EventKind.PROMOTED, "ci")]


@pytest.mark.parametrize("pushed", [False, True])
async def test_that_it_is_given_up_is_told(desk: Desk, *, pushed: bool) -> None:
    """By whom; so it is when a run ends before its first push."""
    for end in (desk.promotions.abandon, lambda caller, name: desk.promotions.end(caller, name, 1)):
        held = await desk.held(WHEEL, SOURCE, caller=ADMIN)
        if pushed:
            await desk.push(held, held.promotion.files[0])
        await end(CI, held.promotion.id)
    expected = [(EventKind.PROMOTING, "admin"), (EventKind.ABANDONED, "ci")] * 2
    assert await told(desk) == expected[: 3 if pushed else 4]


async def test_what_the_server_ends_is_told_too(desk: Desk) -> None:
    """A run that was killed before its first push, and one whose files are all live."""
    await desk.held(WHEEL, SOURCE)
    desk.pass_s(LEASE_S)
    await desk.settling.settle()
    held = await desk.held(WHEEL, SOURCE, run="b")
    for file in held.promotion.files:
        await desk.push(held, file)
    desk.pass_s(LEASE_S)
    await desk.settling.settle()
    begun, ended = (EventKind.PROMOTING, "ci"), (EventKind.PROMOTED, SERVER)
    assert await told(desk) == [begun, (EventKind.ABANDONED, SERVER), begun, ended]


async def test_what_was_ended_and_not_thawed_is_told_as_its_receipt_says(desk: Desk) -> None:
    """Whoever ended it was killed between the two; the server only finishes that."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    left = {key: desk.documents.held[key] for key in desk.papers()}
    await desk.promotions.end(CI, held.promotion.id, 1)
    freezes = await desk.ledger.freezes()
    await desk.promotions.abandon(ADMIN, held.promotion.id)
    desk.documents.held |= left
    await desk.ledger.load((WHEEL, SOURCE, OTHER), (), freezes)
    await desk.settling.settle()
    assert await told(desk) == [(EventKind.ABANDONED, "admin")]
