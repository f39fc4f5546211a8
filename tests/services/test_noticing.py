"""What became live is noticed, kept, and steps back for good; whatever upstream makes of it, or fails to answer."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from overlay.domain.errors import FileExists, Unavailable, UpstreamCorrupt, UpstreamUnavailable
from overlay.domain.events import EventKind
from overlay.domain.layout import LIVE_MARK, history_key, record_key
from overlay.domain.names import MAIN, NormalizedName
from overlay.domain.records import HistoryEntry, Record, decode, encode
from overlay.domain.stage import Gone, Reason, StagedFile
from overlay.services.downloads import Downloads, Moved
from overlay.services.facts import facts_reader
from overlay.services.settling import NOTICE_EVERY_S, SERVER
from overlay.services.upkeep import reconcile
from tests.desk import CI, LEASE_S, SOURCE, STALE_S, WHEEL, Desk, other_bytes
from tests.faults import Fault, FaultyDocuments, FaultyLedger, Killed, Steps, killed, silent
from tests.staged import DEMO, claim_for, staged_file

URL = f"https://files.example/{WHEEL.filename}"
LATER = staged_file(4, version="1.1", filename="demo-1.1-py3-none-any.whl", content="later")
MINUTE_S = 60
DELETED_AFTER_S = 15 * MINUTE_S


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.ledger.load((), ())
    await made.stage(WHEEL, SOURCE)
    return made


async def promoted(desk: Desk) -> None:
    held = await desk.held(WHEEL, SOURCE)
    for file in held.promotion.files:
        await desk.push(held, file)
    await desk.promotions.look(CI, held.promotion.id, 1)


async def staged(desk: Desk) -> set[StagedFile]:
    (snapshot,) = await desk.ledger.snapshot(DEMO, (MAIN,))
    return set(snapshot.files)


def ended(desk: Desk, file: StagedFile) -> tuple[Reason, str | None] | None:
    key = history_key(file.project, file.upload_id)
    if key not in desk.documents.held:
        return None
    entry = decode(key, desk.documents.held[key], HistoryEntry)
    return entry.gone.reason, entry.live_url


async def test_what_is_noticed_is_kept(desk: Desk) -> None:
    """Whoever published it; its page may lack it for another worker, which would take other bytes."""
    desk.upstream.add(WHEEL)
    await desk.settling.notice()
    assert await desk.ledger.marked_live() == {WHEEL.upload_id}
    del desk.upstream.listed[DEMO]
    with pytest.raises(FileExists, match="is live upstream"):
        await desk.ledger.admit(claim_for(other_bytes(WHEEL, number=9)))


async def test_what_was_deleted_upstream_does_not_come_back(desk: Desk) -> None:
    """Within the hour of its promotion, before it was ever noticed; a fresh page says so, and it ends at once."""
    await promoted(desk)
    del desk.upstream.listed[DEMO][WHEEL.filename]
    desk.pass_s(DELETED_AFTER_S + 1)
    desk.upstream.asked.clear()
    await desk.settling.notice()
    assert desk.upstream.asked == [(DEMO, NOTICE_EVERY_S), (DEMO, 1.0)]
    assert await staged(desk) == {SOURCE}
    assert ended(desk, WHEEL) == (Reason.LIVE, URL)
    assert await desk.ledger.marked_live() == {SOURCE.upload_id}


async def test_a_page_that_has_not_heard_of_it_yet_says_nothing(desk: Desk) -> None:
    """Caches of upstream's lag behind; a quarter of an hour is more than they do."""
    await promoted(desk)
    del desk.upstream.listed[DEMO][WHEEL.filename]
    desk.pass_s(DELETED_AFTER_S)
    await desk.settling.notice()
    assert await staged(desk) == {WHEEL, SOURCE}
    desk.upstream.add(WHEEL)
    desk.pass_s(DELETED_AFTER_S)
    await desk.settling.notice()
    assert await staged(desk) == {WHEEL, SOURCE}


@pytest.mark.parametrize("listed", [True, False])
async def test_it_steps_back_after_stale_s_whatever_upstream_lists(desk: Desk, *, listed: bool) -> None:
    """With where it was live; while a project is quarantined its page tells nothing of deletions."""
    await promoted(desk)
    if not listed:
        desk.upstream.listed[DEMO].clear()
        desk.upstream.statuses[DEMO] = "quarantined"
    desk.pass_s(STALE_S - 1)
    await desk.settling.notice()
    assert await staged(desk) == {WHEEL, SOURCE}
    desk.pass_s(1)
    await desk.settling.notice()
    assert await staged(desk) == set()
    assert ended(desk, WHEEL) == (Reason.LIVE, URL)


async def test_other_bytes_under_its_name_upstream_are_no_reason_to_keep_it(desk: Desk) -> None:
    """It was deleted there, and the index let the name be used again."""
    await promoted(desk)
    desk.upstream.add(WHEEL, sha256=SOURCE.sha256)
    desk.pass_s(DELETED_AFTER_S + 1)
    await desk.settling.notice()
    assert await staged(desk) == {SOURCE}


async def test_what_a_ledger_or_a_record_forgot_is_kept_again(desk: Desk) -> None:
    """A failover lost the mark; a repeated upload wrote the record as it had been read before."""
    await promoted(desk)
    await desk.ledger.load((WHEEL, SOURCE), (), (), (SOURCE.upload_id,))
    key = record_key(DEMO, SOURCE.upload_id)
    record = decode(key, desk.documents.held[key], Record)
    await desk.documents.put(key, encode(replace(record, live_since_us=None, live_url=None)))
    await desk.settling.notice()
    assert await desk.ledger.marked_live() == {WHEEL.upload_id, SOURCE.upload_id}
    assert desk.documents.held[key] == encode(replace(record, live_since_us=desk.now_us))


async def test_a_project_that_fails_does_not_hinder_the_rest(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Those sorted behind it would never be noticed; the log says which failed, and why."""
    first = NormalizedName("aaa")
    await desk.stage(staged_file(5, project="aaa", filename="aaa-1.0.tar.gz"))
    desk.upstream.failing[first] = UpstreamCorrupt("The page is no page.")
    desk.upstream.add(WHEEL)
    with caplog.at_level(logging.WARNING, "overlay.settling"):
        assert await desk.settling.notice_if_due()
    assert await desk.ledger.marked_live() == {WHEEL.upload_id}
    assert "What became live of aaa could not be noticed: The page is no page." in caplog.text


async def test_an_upstream_that_is_down_is_not_asked_for_everything(desk: Desk) -> None:
    """Each question may take seconds, and there may be thousands; one that is answered shows that it is up."""
    names = [NormalizedName(f"a{number}") for number in range(6)]
    for number, name in enumerate(names):
        await desk.stage(staged_file(10 + number, project=name, filename=f"{name}-1.0.tar.gz"))
        desk.upstream.failing[name] = UpstreamUnavailable("It does not answer.")
    with pytest.raises(UpstreamUnavailable):
        await desk.settling.notice()
    assert len(desk.upstream.asked) == 3
    for name in names[2::3]:
        del desk.upstream.failing[name]
    desk.upstream.asked.clear()
    await desk.settling.notice()
    assert {project for project, _ in desk.upstream.asked} == {*names, DEMO}


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
    assert WHEEL in await staged(desk)
    desk.pass_s(1)
    await desk.settling.notice()
    assert await staged(desk) == {SOURCE}
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
            assert await staged(desk) == {SOURCE}
        else:
            assert await staged(desk) == {WHEEL, SOURCE}
        assert len(steps.names) == min(at + 1, 3)


async def test_other_bytes_are_not_live(desk: Desk) -> None:
    """A conflict is shown to people and never ends by itself."""
    desk.upstream.add(WHEEL, sha256=SOURCE.sha256)
    for _ in range(3):
        await desk.settling.notice()
        desk.pass_s(STALE_S)
    assert await live_since_us(desk, WHEEL) is None
    assert WHEEL in await staged(desk)


async def test_what_is_being_promoted_ends_after_its_promotion(desk: Desk) -> None:
    """A run that takes it up finds what was planned."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    desk.pass_s(LEASE_S)
    for _ in range(3):
        await desk.settling.notice()
        desk.pass_s(STALE_S)
    assert await staged(desk) == {WHEEL, SOURCE}
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
    assert await others.notice_if_due()
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
    key = history_key(DEMO, WHEEL.upload_id)
    entry = decode(key, desk.documents.held[key], HistoryEntry)
    desk.documents.held[key] = encode(replace(entry, live_url="https://files.example/demo.whl?v=1#sha256=0"))
    found = await downloads.find(DEMO, WHEEL.upload_id, WHEEL.filename + ".metadata")
    assert found == Moved("https://files.example/demo.whl.metadata?v=1")  # PEP 658 puts it behind the path
