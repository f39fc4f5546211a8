"""Taking up a promotion: what has happened upstream since it was planned counts, and where its files go."""

from dataclasses import replace

import pytest

from overlay.domain.layout import journal_key
from overlay.domain.promotion import FileState, Outcome, PromotionReceipt, Underway
from overlay.domain.promotion_errors import PromotionRefused
from overlay.domain.promotion_plan import Rules
from overlay.domain.stage import StagedFile
from tests.desk import LEASE_S, SOURCE, WHEEL, Desk
from tests.staged import DEMO, digest


async def pushed(desk: Desk, *, rules_ignored: frozenset[str] = frozenset()) -> Underway:
    """Push the first of two files, and be killed."""
    await desk.ledger.load((), ())
    await desk.stage(WHEEL, SOURCE)
    planned = await desk.plan(WHEEL, SOURCE, ignore_rules=rules_ignored)
    assert planned.held is not None
    await desk.push(planned.held, planned.held.promotion.files[0])
    desk.pass_s(LEASE_S)
    return planned.held


async def refused(desk: Desk, *files: StagedFile) -> set[tuple[str, str]]:
    """Take up, and return by which rules that is refused for which files."""
    with pytest.raises(PromotionRefused) as refusal:
        await desk.plan(*files, run="b")
    (freeze,) = await desk.ledger.freezes()
    assert (freeze.fence, freeze.durable) == (1, True)
    return {(one.rule, one.filename) for one in refusal.value.refusals}


async def test_other_bytes_that_went_live_meanwhile_stop_a_promotion() -> None:
    """A permissive target would overwrite them."""
    desk = Desk()
    await pushed(desk)
    desk.upstream.add(SOURCE, sha256=digest("somebody's"))
    assert await refused(desk, WHEEL, SOURCE) == {("live-differs", SOURCE.filename)}


@pytest.mark.parametrize(("status", "rule"), [("quarantined", "project-quarantined"), ("archived", "project-archived")])
async def test_a_project_that_takes_nothing_any_more_stops_a_promotion(status: str, rule: str) -> None:
    """Until its owners lift that."""
    desk = Desk()
    await pushed(desk)
    desk.upstream.statuses[DEMO] = status
    assert await refused(desk, WHEEL, SOURCE) == {(rule, "")}
    desk.upstream.statuses[DEMO] = "active"
    assert (await desk.held(WHEEL, SOURCE, run="b")).promotion.fence == 2


async def test_what_the_target_refuses_stops_a_promotion_unless_it_was_ignored() -> None:
    """What the first run ignored is ignored still; it stands in the plan once."""
    desk = Desk(rules=Rules.PYPI)
    first = await pushed(desk, rules_ignored=frozenset({"sdist-top-level"}))
    second = await desk.held(WHEEL, SOURCE, run="b")
    assert second.promotion.ignored == first.promotion.ignored != ()
    desk.pass_s(LEASE_S)
    desk.upstream.listed[DEMO]["demo-0.9.tar.gz"] = SOURCE.sha256
    with pytest.raises(PromotionRefused, match="ignore-rule same-content"):
        await desk.plan(WHEEL, SOURCE, run="c")
    planned = await desk.plan(WHEEL, SOURCE, run="c", ignore_rules=frozenset({"same-content"}))
    assert planned.held is not None
    assert [found.rule for found in planned.held.promotion.ignored] == ["sdist-top-level", "same-content"]


async def test_a_promotion_does_not_go_on_to_another_index_than_it_began_with() -> None:
    """Nor on to the old one, while the server looks at the new; the operator, or --abandon, decides."""
    desk = Desk()
    held = await pushed(desk)
    old = desk.settings
    desk.settings = replace(old, target="https://elsewhere.example/legacy/")
    desk.promotions = desk.process(desk.documents, desk.ledger)
    assert await refused(desk, WHEEL, SOURCE) == {("target", "")}
    desk.settings = old
    desk.promotions = desk.process(desk.documents, desk.ledger)
    assert (await desk.held(WHEEL, SOURCE, run="b")).promotion.id == held.promotion.id


async def test_what_went_live_meanwhile_is_not_pushed_again() -> None:
    """The answer says so, and the journal has it."""
    desk = Desk()
    held = await pushed(desk)
    second = await desk.held(WHEEL, SOURCE, run="b")
    assert {upload: entry.state for upload, entry in second.journal.items()} == {WHEEL.upload_id: FileState.LIVE}
    assert journal_key(held.promotion.id, WHEEL.upload_id) in desk.documents.held
    found = await desk.promotions.find(held.promotion.id)
    assert isinstance(found, Underway)
    assert found.journal == second.journal


async def test_what_went_live_before_the_first_push_is_said_and_begins_nothing() -> None:
    """The same run asks again: the freeze still ends with its lease."""
    desk = Desk()
    await desk.ledger.load((), ())
    await desk.stage(WHEEL, SOURCE)
    first = await desk.held(WHEEL, SOURCE)
    desk.upstream.add(WHEEL)
    second = await desk.held(WHEEL, SOURCE)
    assert {upload: entry.state for upload, entry in second.journal.items()} == {WHEEL.upload_id: FileState.LIVE}
    assert second.freeze is not None
    assert not second.freeze.durable
    assert journal_key(first.promotion.id, WHEEL.upload_id) not in desk.documents.held


async def test_a_promotion_of_which_all_is_live_has_ended_when_it_is_taken_up() -> None:
    """With a receipt; there is nothing left to do."""
    desk = Desk()
    held = await pushed(desk)
    desk.upstream.add(SOURCE)
    planned = await desk.plan(WHEEL, SOURCE, run="b")
    assert planned.held is None
    assert {live.filename for live in planned.already_live} == {WHEEL.filename, SOURCE.filename}
    ended = await desk.promotions.find(held.promotion.id)
    assert isinstance(ended, PromotionReceipt)
    assert (ended.outcome, await desk.ledger.freezes()) == (Outcome.LIVE, ())
