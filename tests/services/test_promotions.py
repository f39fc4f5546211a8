"""Promotions on the server's side: planned, frozen, journalled, taken up, ended; and who may do it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from overlay.domain.errors import BadUpload, FileExists, NotGranted, UnknownFile, UpstreamUnavailable
from overlay.domain.layout import journal_key, promotion_key, receipt_key
from overlay.domain.names import MAIN, NormalizedName, ReleaseName, StageId
from overlay.domain.promotion import (
    FileState,
    Freeze,
    LivePledge,
    Outcome,
    PromotionEnding,
    PromotionId,
    PromotionReceipt,
    Underway,
)
from overlay.domain.promotion_errors import (
    PromotionLost,
    PromotionRefused,
    PromotionRunning,
    ReleaseFrozen,
    StagedChanged,
    UnknownPromotion,
)
from overlay.domain.promotion_plan import Rules
from overlay.domain.records import JournalDocument, decode
from overlay.domain.rights import Right
from overlay.services.promotion_looks import Seen
from overlay.services.promotions import Promotions
from overlay.storage.ledger_memory import MemoryLedger
from tests.desk import (
    ADMIN,
    CI,
    LEASE_S,
    NOW_US,
    PUSHED,
    PUSHING,
    RELEASE,
    SECOND_US,
    SOURCE,
    TARGET,
    WHEEL,
    Desk,
    other_bytes,
)
from tests.ledgers import stage
from tests.staged import DEMO, GIVEN_UP, claim_for, digest, staged_file, token

ANOTHER = staged_file(9, filename="demo-1.0-py2-none-any.whl", content="another wheel")
OTHER = staged_file(5, project="other", version="2.0", filename="other-2.0-py3-none-any.whl", content="other")
OTHER_RELEASE = ReleaseName(OTHER.project, OTHER.version)
NOBODY = PromotionId("f" * 32)


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.ledger.load((), ())
    await made.stage(WHEEL, SOURCE)
    return made


async def refusals(desk: Desk, *args: object, **changes: object) -> set[tuple[str, str]]:
    """Plan, and return by which rules that is refused for which files; nothing may have happened."""
    with pytest.raises(PromotionRefused) as refused:
        await desk.plan(*args, **changes)  # type: ignore[arg-type]
    return {(refusal.rule, refusal.filename) for refusal in refused.value.refusals}


# Planning


async def test_a_plan_freezes_the_release_and_orders_its_files(desk: Desk) -> None:
    """The wheel first, the sdist after it; the freeze ends with the lease."""
    planned = await desk.plan(WHEEL, SOURCE)
    assert planned.held is not None
    promotion, freeze = planned.held.promotion, planned.held.freeze
    assert [(file.filename, file.wave) for file in promotion.files] == [(WHEEL.filename, 0), (SOURCE.filename, 1)]
    assert (promotion.target, promotion.who, promotion.token_id, promotion.fence) == (TARGET, "ci", CI.id, 1)
    assert freeze is not None
    assert (freeze.releases, freeze.fence, freeze.durable) == ((RELEASE,), 1, False)
    assert freeze.until_us == NOW_US + LEASE_S * SECOND_US
    assert desk.papers() == {promotion_key(promotion.id)}
    assert planned.new_projects == (DEMO,)
    with pytest.raises(ReleaseFrozen):
        await desk.ledger.admit(claim_for(ANOTHER))
    desk.pass_s(LEASE_S)
    await desk.ledger.admit(claim_for(ANOTHER))


async def test_every_reason_against_a_plan_is_said_at_once(desk: Desk) -> None:
    """Of all its releases; nothing is frozen, nothing written."""
    await desk.stage(OTHER)
    desk.upstream.add(OTHER, sha256=digest("somebody's"))
    pledges = {SOURCE.filename: digest("built again"), OTHER.filename: OTHER.sha256, "gone-1.0.tar.gz": digest("gone")}
    assert await refusals(desk, WHEEL, OTHER, pledges=pledges) == {
        ("pledge-differs", SOURCE.filename),
        ("not-named", WHEEL.filename),
        ("live-differs", OTHER.filename),
        ("outside", "gone-1.0.tar.gz"),
    }
    assert (await desk.ledger.freezes(), desk.papers()) == ((), set())


async def test_without_a_target_nothing_is_promoted() -> None:
    """A private package never goes to PyPI because a key was forgotten; the sentence names it."""
    aimless = Desk(target="")
    await aimless.ledger.load((), ())
    with pytest.raises(PromotionRefused, match=r"\[upstream\] upload_url"):
        await aimless.plan(WHEEL)


async def test_what_is_live_already_needs_no_promotion(desk: Desk) -> None:
    """Where all of it is, nothing is frozen; its address is told."""
    for file in (WHEEL, SOURCE):
        desk.upstream.add(file)
    planned = await desk.plan(WHEEL, SOURCE)
    assert planned.held is None
    assert [(live.filename, live.url) for live in planned.already_live] == [
        (WHEEL.filename, f"https://files.example/{WHEEL.filename}"),
        (SOURCE.filename, f"https://files.example/{SOURCE.filename}"),
    ]
    assert await desk.ledger.freezes() == ()


async def test_the_target_s_rules_refuse_unless_they_are_ignored() -> None:
    """What was ignored stands in the plan; a rule that was ignored for nothing is said."""
    desk = Desk(rules=Rules.PYPI)
    await desk.ledger.load((), ())
    await desk.stage(SOURCE)  # its archive has no single top-level directory
    assert await refusals(desk, SOURCE) == {("sdist-top-level", SOURCE.filename)}
    planned = await desk.plan(SOURCE, ignore_rules=frozenset({"sdist-top-level", "nonsense"}))
    assert planned.held is not None
    assert [found.rule for found in planned.held.promotion.ignored] == ["sdist-top-level"]
    new, ignored = planned.warnings
    assert new.startswith("demo does not exist on PyPI yet.")
    assert ignored == "Nothing was found by the rule nonsense, which was to be ignored."


async def test_several_projects_go_in_the_order_of_their_staged_requirements(desk: Desk) -> None:
    """Demo requires other, so other comes first, whatever the names say."""
    await desk.stage(OTHER)
    await desk.stage(
        staged_file(3, filename="demo-1.0-1-py3-none-any.whl", content="1"), requires={"demo": ["Other>=2"]}
    )
    again = staged_file(3, filename="demo-1.0-1-py3-none-any.whl", content="1")
    held = await desk.held(WHEEL, SOURCE, again, OTHER)
    assert [file.project for file in held.promotion.files] == [OTHER.project, DEMO, DEMO, DEMO]


async def test_many_projects_are_asked_about_some_at_once(desk: Desk) -> None:
    """All of them, each once."""
    many = [
        staged_file(number, project=f"p{number}", filename=f"p{number}-1.0.tar.gz", content=str(number))
        for number in range(100, 140)
    ]
    await desk.stage(*many)
    caller = token(Right.PROMOTE, projects=tuple(file.project for file in many))
    held = await desk.held(*many, caller=caller)
    assert {file.upload_id for file in held.promotion.files} == {file.upload_id for file in many}
    assert sorted(project for project, _ in desk.upstream.asked) == sorted(file.project for file in many)


async def test_attestations_are_told_as_they_were_staged(desk: Desk) -> None:
    """Of the files that have some."""
    await desk.stage(OTHER, attestations="[{}]")
    planned = await desk.plan(WHEEL, SOURCE, OTHER)
    assert planned.attestations == {OTHER.upload_id: "[{}]"}


async def test_more_attestations_than_an_answer_holds_are_refused(desk: Desk) -> None:
    """Before anything is frozen; each file's alone are small enough."""
    wheels = [
        staged_file(number, filename=f"demo-1.0-{number}-py3-none-any.whl", content=str(number))
        for number in range(100, 131)
    ]
    text = f'["{"a" * 1_048_572}"]'
    await desk.stage(*wheels, attestations=text)
    assert len((await desk.plan(*wheels, partial=True)).attestations) == 31
    await desk.promotions.abandon(CI, PromotionId(f"{1:032x}"))
    more = [staged_file(131, filename="demo-1.0-131-py3-none-any.whl"), OTHER]
    await desk.stage(*more, attestations=text)
    assert await refusals(desk, *wheels, *more, partial=True) == {("attestations", "")}
    assert (await desk.ledger.freezes(), desk.papers()) == ((), set())


async def test_a_pledge_that_is_no_distribution_file_is_no_order(desk: Desk) -> None:
    """The request itself is wrong."""
    with pytest.raises(BadUpload):
        await desk.plan(WHEEL, pledges={"README.md": digest("x")})


async def test_a_plan_asks_upstream_now(desk: Desk) -> None:
    """A page in hand may lack what was just promoted; unknown is no absence."""
    await desk.plan(WHEEL, SOURCE)
    assert desk.upstream.asked == [(DEMO, 0.0)]
    desk.upstream.down = True
    with pytest.raises(UpstreamUnavailable):
        await desk.plan(WHEEL, SOURCE)


class Meddled(MemoryLedger):
    """Somebody stages a file just before a release is frozen."""

    meddle = True

    async def freeze(self, wanted: Freeze) -> Freeze:
        if self.meddle:
            self.meddle = False
            await stage(self, ANOTHER)
        return await super().freeze(wanted)


async def test_a_file_staged_between_preflight_and_freeze_is_not_left_out(desk: Desk) -> None:
    """The plan fails, the release thaws, and the next one sees the file."""
    desk.ledger = Meddled(lambda: desk.now_us)
    await desk.ledger.load((WHEEL, SOURCE), ())
    desk.promotions = desk.process(desk.documents, desk.ledger)
    with pytest.raises(StagedChanged, match=r"demo==1\.0"):
        await desk.plan(WHEEL, SOURCE)
    assert (await desk.ledger.freezes(), desk.papers()) == ((), set())
    assert await refusals(desk, WHEEL, SOURCE) == {("not-named", ANOTHER.filename)}


# Who may


@pytest.mark.parametrize(
    ("caller", "words"),
    [
        (token(Right.STAGE, label="stager"), "needs promote"),
        (token(Right.PROMOTE, projects=("other",), label="another's"), "may not promote 'demo'"),
        (token(Right.PROMOTE, stages=("flag-day",), label="elsewhere"), "covers the stages flag-day"),
    ],
)
async def test_promoting_needs_the_right_for_every_project(desk: Desk, caller: object, words: str) -> None:
    """Before upstream is asked anything."""
    with pytest.raises(NotGranted, match=words):
        await desk.plan(WHEEL, caller=caller)  # type: ignore[arg-type]
    assert desk.upstream.asked == []


async def test_a_token_for_everything_promotes_only_what_came_from_here(desk: Desk) -> None:
    """A new project, also half promoted; never one with files of others, or with none at all."""
    everything = token(Right.PROMOTE, projects=("*",), label="everything")
    await desk.held(WHEEL, SOURCE, caller=everything, run=everything.id)
    desk.pass_s(LEASE_S)
    desk.upstream.add(WHEEL)  # from now on upstream has the project, with a file that is staged here
    rotated = replace(everything, id="rotated")
    held = await desk.held(WHEEL, SOURCE, caller=rotated, run=rotated.id)
    desk.pass_s(LEASE_S)
    await desk.promotions.abandon(everything, held.promotion.id)
    desk.upstream.listed[DEMO]["demo-0.9.tar.gz"] = digest("somebody's")
    with pytest.raises(NotGranted, match="only names that upstream does not have"):
        await desk.plan(WHEEL, SOURCE, caller=everything)
    desk.upstream.listed[DEMO] = {}
    with pytest.raises(NotGranted, match="only names that upstream does not have"):
        await desk.plan(WHEEL, SOURCE, caller=everything)


async def test_another_token_needs_a_grant_of_its_own(desk: Desk) -> None:
    """To look, to write, to end, to abandon."""
    held = await desk.held(WHEEL, SOURCE)
    stranger = token(Right.PROMOTE, projects=("other",), label="stranger")
    name, upload = held.promotion.id, held.promotion.files[0].upload_id
    calls: list[Callable[[Promotions], object]] = [
        lambda service: service.renew(stranger, name, 1),
        lambda service: service.journal(stranger, name, upload, 1, PUSHING),
        lambda service: service.look(stranger, name, 1),
        lambda service: service.end(stranger, name, 1),
        lambda service: service.abandon(stranger, name),
    ]
    for call in calls:
        with pytest.raises(NotGranted):
            await call(desk.promotions)  # type: ignore[misc]
    assert (await desk.promotions.abandon(ADMIN, name)).ended_by == "admin"


async def test_what_ended_is_told_to_whoever_might_have_run_it_only(desk: Desk) -> None:
    """A receipt names files, digests and people; where reading is closed nobody else may have it."""
    held = await desk.held(WHEEL, SOURCE)
    for file in held.promotion.files:
        await desk.push(held, file)
    await desk.promotions.look(CI, held.promotion.id, 1)
    stranger, name = token(Right.PROMOTE, projects=("other",), label="stranger"), held.promotion.id
    for call in (
        desk.promotions.renew(stranger, name, 1),
        desk.promotions.journal(stranger, name, WHEEL.upload_id, 1, PUSHED),
        desk.promotions.end(stranger, name, 1),
    ):
        with pytest.raises(NotGranted):
            await call


# Taking up


async def test_the_same_run_may_ask_again(desk: Desk) -> None:
    """After a lost answer: the same promotion, the same fence."""
    first, second = await desk.held(WHEEL, SOURCE), await desk.held(WHEEL, SOURCE)
    assert first == second


async def test_another_run_waits_for_the_lease_and_overtakes_the_one_before(desk: Desk) -> None:
    """With a fence that is greater by one; the promotion is the same, and the documents know who has it."""
    first = await desk.held(WHEEL, SOURCE)
    desk.pass_s(LEASE_S - 1)
    with pytest.raises(PromotionRunning, match="by ci since"):
        await desk.plan(WHEEL, SOURCE, run="b")
    await desk.promotions.journal(CI, first.promotion.id, WHEEL.upload_id, 1, PUSHING)
    desk.pass_s(LEASE_S)
    planned = await desk.plan(WHEEL, SOURCE, caller=ADMIN, run="b")
    assert planned.held is not None
    second = planned.held
    assert (second.promotion.id, second.promotion.fence) == (first.promotion.id, 2)
    assert (second.promotion.who, second.promotion.planned_at_us) == ("admin", NOW_US)
    assert second.journal[WHEEL.upload_id].state is FileState.PUSHING
    assert planned.warnings == ("Takes up a promotion that is under way: ci began it at 2027-01-15 08:00:00 UTC.",)
    assert await desk.promotions.find(first.promotion.id) == second
    with pytest.raises(PromotionLost):
        await desk.promotions.renew(CI, first.promotion.id, 1)
    with pytest.raises(PromotionLost):
        await desk.promotions.journal(CI, first.promotion.id, WHEEL.upload_id, 1, PUSHED)
    with pytest.raises(PromotionLost):
        await desk.promotions.look(CI, first.promotion.id, 1)


class Forgetful(MemoryLedger):
    """Loses every freeze just before one is asked for."""

    async def freeze(self, wanted: Freeze) -> Freeze:
        await self.thaw(wanted.promotion, GIVEN_UP)
        return await super().freeze(wanted)


async def test_a_freeze_that_is_lost_while_it_is_taken_up_is_made_anew(desk: Desk) -> None:
    """It lasts again, and the run before stays overtaken."""
    first = await desk.held(WHEEL, SOURCE)
    await desk.push(first, first.promotion.files[0])
    desk.pass_s(LEASE_S)
    (freeze,) = await desk.ledger.freezes()
    desk.ledger = Forgetful(lambda: desk.now_us)
    await desk.ledger.load((WHEEL, SOURCE), (), (freeze,))
    desk.promotions = desk.process(desk.documents, desk.ledger)
    second = await desk.held(WHEEL, SOURCE, run="b")
    assert second.freeze is not None
    assert (second.freeze.durable, second.freeze.fence, second.promotion.fence) == (True, 2, 2)


async def test_files_that_became_live_meanwhile_do_not_hinder_the_next_run(desk: Desk) -> None:
    """It is the same command with the same files."""
    first = await desk.held(WHEEL, SOURCE)
    await desk.push(first, first.promotion.files[0])
    desk.pass_s(LEASE_S)
    second = await desk.held(WHEEL, SOURCE, run="b")
    assert second.promotion.files == first.promotion.files


async def test_other_files_do_not_take_a_promotion_up(desk: Desk) -> None:
    """More, fewer, or others of the same name: it has to be ended first."""
    held = await desk.held(WHEEL, SOURCE)
    desk.pass_s(LEASE_S - 1)
    await desk.promotions.renew(CI, held.promotion.id, 1)
    pledges = {WHEEL.filename: digest("built again"), ANOTHER.filename: ANOTHER.sha256}
    assert await refusals(desk, WHEEL, run="b", pledges=pledges) == {
        ("promotion-differs", WHEEL.filename),
        ("promotion-differs", SOURCE.filename),
        ("promotion-differs", ANOTHER.filename),
    }
    desk.upstream.add(ANOTHER)  # done already: it does not count
    pledges = {file.filename: file.sha256 for file in (WHEEL, SOURCE, ANOTHER)}
    planned = await desk.plan(WHEEL, pledges=pledges)
    assert [live.filename for live in planned.already_live] == [ANOTHER.filename]


async def test_a_release_is_promoted_in_one_stage_and_one_promotion_at_a_time(desk: Desk) -> None:
    """Another stage, or a plan over two promotions, has to wait."""
    flag_day = StageId("flag-day")
    caller = token(Right.PROMOTE, projects=("demo", "other"), stages=("main", "flag-day"))
    await desk.stage(OTHER, other_bytes(WHEEL, number=7, stage=flag_day))
    await desk.plan(WHEEL, SOURCE)
    with pytest.raises(ReleaseFrozen, match=r"demo==1\.0 is being promoted by ci"):
        await desk.plan(other_bytes(WHEEL, number=7, stage=flag_day), caller=caller, stage=flag_day, run="b")
    await desk.plan(OTHER, run="b")
    with pytest.raises(ReleaseFrozen):
        await desk.plan(WHEEL, SOURCE, OTHER)


async def test_versions_that_are_equal_are_promoted_one_at_a_time(desk: Desk) -> None:
    """PyPI has one release of 1.0 and 1.0.0; what is staged under the other spelling is not left out unseen."""
    longer = staged_file(6, version="1.0.0", filename="demo-1.0.0-py3-none-any.whl", content="longer")
    held = await desk.held(WHEEL, SOURCE)
    await desk.stage(staged_file(7, version="1.1", filename="demo-1.1-py3-none-any.whl"))
    with pytest.raises(ReleaseFrozen, match=r"demo==1\.0 "):
        await desk.stage(longer)
    assert await desk.promotions.under_way(longer.release) == (held,)
    await desk.promotions.abandon(CI, held.promotion.id)
    await desk.stage(longer)
    assert await refusals(desk, WHEEL, SOURCE) == {("not-named", longer.filename)}


async def test_a_freeze_without_its_plan_is_taken_by_the_same_run_only(desk: Desk) -> None:
    """The process was killed between the two."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.documents.delete(promotion_key(held.promotion.id))
    with pytest.raises(PromotionRunning):
        await desk.plan(WHEEL, run="b")
    again = await desk.held(WHEEL, SOURCE)
    assert (again.promotion.id, again.freeze) == (held.promotion.id, held.freeze)
    assert desk.papers() == {promotion_key(held.promotion.id)}


async def test_a_promotion_that_was_ended_halfway_does_not_stand_in_the_way(desk: Desk) -> None:
    """Its receipt is there, and the rest was not taken away."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    left = {key: desk.documents.held[key] for key in desk.papers()}
    await desk.promotions.abandon(CI, held.promotion.id)
    desk.documents.held |= left
    assert held.freeze is not None
    await desk.ledger.freeze(replace(held.freeze, durable=True))
    again = await desk.held(WHEEL, SOURCE, run="b")
    assert again.promotion.id != held.promotion.id
    assert desk.papers() == {promotion_key(again.promotion.id)}


# The run


async def test_from_the_first_push_on_the_freeze_outlives_its_run(desk: Desk) -> None:
    """It is written down before the answer."""
    held = await desk.held(WHEEL, SOURCE)
    file, entry = await desk.promotions.journal(CI, held.promotion.id, WHEEL.upload_id, 1, PUSHING)
    assert (file.filename, entry.state, entry.fence) == (WHEEL.filename, FileState.PUSHING, 1)
    key = journal_key(held.promotion.id, WHEEL.upload_id)
    assert decode(key, desk.documents.held[key], JournalDocument).entry == entry
    desk.pass_s(1000 * LEASE_S)
    (freeze,) = await desk.ledger.freezes()
    assert freeze.durable
    with pytest.raises(FileExists, match="being promoted by ci"):
        await desk.ledger.admit(claim_for(other_bytes(WHEEL, number=8)))


async def test_a_journal_never_says_less(desk: Desk) -> None:
    """A push that is repeated was accepted once, as far as anybody knows."""
    held = await desk.held(WHEEL, SOURCE)
    name = held.promotion.id
    for step, state, status in (
        (PUSHING, FileState.PUSHING, None),
        (replace(PUSHING, status=503, said="Busy."), FileState.PUSHING, 503),
        (PUSHED, FileState.PUSHED, 200),
        (PUSHING, FileState.PUSHED, None),
    ):
        _, entry = await desk.promotions.journal(CI, name, WHEEL.upload_id, 1, step)
        assert (entry.state, entry.status) == (state, status)


async def test_a_run_that_lost_its_lease_writes_nothing(desk: Desk) -> None:
    """Nor one with another fence, nor about a file that is not planned."""
    held = await desk.held(WHEEL, SOURCE)
    name = held.promotion.id
    with pytest.raises(PromotionLost):
        await desk.promotions.journal(CI, name, WHEEL.upload_id, 2, PUSHING)
    with pytest.raises(UnknownFile):
        await desk.promotions.journal(CI, name, ANOTHER.upload_id, 1, PUSHING)
    desk.pass_s(LEASE_S)
    for call in (
        desk.promotions.journal(CI, name, WHEEL.upload_id, 1, PUSHING),
        desk.promotions.renew(CI, name, 1),
        desk.promotions.look(CI, name, 1),
        desk.promotions.end(CI, name, 1),
    ):
        with pytest.raises(PromotionLost):
            await call
    assert desk.papers() == {promotion_key(name)}
    with pytest.raises(UnknownPromotion):
        await desk.promotions.find(name)


async def test_a_lease_is_renewed_from_now(desk: Desk) -> None:
    """As often as the run says so."""
    held = await desk.held(WHEEL, SOURCE)
    for _ in range(3):
        desk.pass_s(LEASE_S - 1)
        freeze = await desk.promotions.renew(CI, held.promotion.id, 1)
        assert freeze.until_us == desk.now_us + LEASE_S * SECOND_US


# Looking


async def test_a_look_says_what_upstream_has_now(desk: Desk) -> None:
    """Absent, live with its address, or other bytes under the name."""
    held = await desk.held(WHEEL, SOURCE)
    desk.upstream.add(WHEEL)
    desk.upstream.add(SOURCE, sha256=None)
    sights, ended = await desk.promotions.look(CI, held.promotion.id, 1)
    assert ended is None
    assert [(sight.file.filename, sight.seen) for sight in sights] == [
        (WHEEL.filename, Seen.LIVE),
        (SOURCE.filename, Seen.OTHER),
    ]
    assert sights[0].on_page is not None
    assert sights[0].on_page.url == f"https://files.example/{WHEEL.filename}"
    assert desk.upstream.asked[-1] == (DEMO, 1.0)
    assert desk.papers() == {promotion_key(held.promotion.id)}  # nothing was pushed: it still ends with its lease


async def test_a_look_never_uses_a_page_from_before_the_last_push(desk: Desk) -> None:
    """Such a page shows less for certain, and the run would wait for nothing; later ones may be a second old."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    oldest = []
    for passed_s in (0, 0.25, 60):
        desk.pass_s(passed_s)
        await desk.promotions.renew(CI, held.promotion.id, 1)
        await desk.push(held, held.promotion.files[1]) if passed_s == 60 else None
        await desk.promotions.look(CI, held.promotion.id, 1)
        oldest.append(desk.upstream.asked[-1][1])
    assert oldest == [0, 0.25, 0]


async def test_what_is_seen_live_is_written_down_once_something_was_pushed(desk: Desk) -> None:
    """By the server's own look, also a file of which the journal had nothing."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    await desk.promotions.look(CI, held.promotion.id, 1)
    found = await desk.promotions.find(held.promotion.id)
    assert isinstance(found, Underway)
    assert {upload: entry.state for upload, entry in found.journal.items()} == {WHEEL.upload_id: FileState.LIVE}
    assert found.journal[WHEEL.upload_id].status == 200


async def test_once_all_is_live_the_promotion_has_ended(desk: Desk) -> None:
    """A receipt, no more documents, no freeze; the files stay staged for pages that lack them."""
    held = await desk.held(WHEEL, SOURCE)
    for file in held.promotion.files:
        await desk.push(held, file)
    _, receipt = await desk.promotions.look(CI, held.promotion.id, 1)
    assert receipt is not None
    assert (receipt.outcome, receipt.ended_by) == (Outcome.LIVE, "ci")
    assert [entry.state for entry in receipt.journal] == [FileState.LIVE, FileState.LIVE]
    assert (desk.papers(), await desk.ledger.freezes()) == (set(), ())
    assert desk.receipts() == {receipt_key(held.promotion.id)}
    assert await desk.promotions.find(held.promotion.id) == receipt
    (snapshot,) = await desk.ledger.snapshot(DEMO, (MAIN,))
    assert snapshot.files == (WHEEL, SOURCE)


async def test_a_receipt_names_what_was_live_before(desk: Desk) -> None:
    """Every pledge is in it: what was pushed, and what was done already, as the first run or a later one found it."""
    desk.upstream.add(WHEEL)
    held = await desk.held(WHEEL, SOURCE)
    assert [file.filename for file in held.promotion.files] == [SOURCE.filename]
    desk.upstream.add(ANOTHER)
    pledges = {file.filename: file.sha256 for file in (WHEEL, SOURCE, ANOTHER)}
    await desk.plan(SOURCE, pledges=pledges)
    await desk.push(held, held.promotion.files[0])
    _, receipt = await desk.promotions.look(CI, held.promotion.id, 1)
    assert receipt is not None
    assert receipt.promotion.already_live == tuple(
        LivePledge(filename=file.filename, sha256=file.sha256, url=f"https://files.example/{file.filename}")
        for file in sorted((WHEEL, ANOTHER), key=lambda file: file.filename)
    )
    assert await desk.promotions.find(held.promotion.id) == receipt


async def test_what_others_pushed_ends_a_promotion_too(desk: Desk) -> None:
    """With plain twine, before the run began to."""
    held = await desk.held(WHEEL, SOURCE)
    for file in (WHEEL, SOURCE):
        desk.upstream.add(file)
    _, receipt = await desk.promotions.look(CI, held.promotion.id, 1)
    assert receipt is not None
    assert receipt.outcome is Outcome.LIVE
    assert await desk.ledger.freezes() == ()


async def test_a_run_that_speaks_after_the_end_is_told_so(desk: Desk) -> None:
    """That a file was pushed is answered as it is known; nothing else may go on."""
    held = await desk.held(WHEEL, SOURCE)
    name = held.promotion.id
    for file in held.promotion.files:
        await desk.push(held, file)
    _, receipt = await desk.promotions.look(ADMIN, name, 1)
    _, entry = await desk.promotions.journal(CI, name, SOURCE.upload_id, 1, PUSHED)
    assert entry.state is FileState.LIVE
    with pytest.raises(PromotionLost):
        await desk.promotions.journal(CI, name, SOURCE.upload_id, 1, PUSHING)
    with pytest.raises(PromotionLost):
        await desk.promotions.renew(CI, name, 1)
    sights, again = await desk.promotions.look(CI, name, 1)
    assert ({sight.seen for sight in sights}, again) == ({Seen.LIVE}, receipt)
    assert await desk.promotions.end(CI, name, 1) == receipt
    assert desk.papers() == set()


# Ending


async def test_a_run_that_ends_before_its_first_push_leaves_nothing(desk: Desk) -> None:
    """The release is free at once; asked again, nobody knows of it."""
    held = await desk.held(WHEEL, SOURCE)
    ended = await desk.promotions.end(CI, held.promotion.id, 1)
    assert isinstance(ended, PromotionReceipt)
    assert ended.outcome is Outcome.ABANDONED
    assert (desk.papers(), desk.receipts(), await desk.ledger.freezes()) == (set(), set(), ())
    with pytest.raises(PromotionLost):
        await desk.promotions.end(CI, held.promotion.id, 1)


async def test_a_run_that_ends_later_leaves_the_rest_to_the_next_one(desk: Desk) -> None:
    """At once: it need not wait for the lease."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    ended = await desk.promotions.end(CI, held.promotion.id, 1)
    assert isinstance(ended, Underway)
    assert ended.freeze is not None
    assert (ended.freeze.durable, ended.freeze.leased(desk.now_us)) == (True, False)
    again = await desk.held(WHEEL, SOURCE, run="b")
    assert (again.promotion.id, again.promotion.fence) == (held.promotion.id, 2)


@pytest.mark.parametrize("pushed", [False, True])
async def test_a_promotion_is_given_up_without_its_fence(desk: Desk, *, pushed: bool) -> None:
    """With a receipt only where something may have been pushed; its run may not go on, and it stays given up."""
    held = await desk.held(WHEEL, SOURCE)
    if pushed:
        await desk.push(held, held.promotion.files[0])
    receipt = await desk.promotions.abandon(ADMIN, held.promotion.id)
    assert (receipt.outcome, receipt.ended_by) == (Outcome.ABANDONED, "admin")
    assert [entry.state for entry in receipt.journal] == [FileState.LIVE] * pushed
    assert (desk.papers(), await desk.ledger.freezes()) == (set(), ())
    assert desk.receipts() == ({receipt_key(held.promotion.id)} if pushed else set())
    for call in (
        desk.promotions.journal(CI, held.promotion.id, SOURCE.upload_id, 1, PUSHING),
        desk.promotions.look(CI, held.promotion.id, 1),
        desk.promotions.renew(CI, held.promotion.id, 1),
    ):
        with pytest.raises(PromotionLost):
            await call
    if pushed:
        desk.pass_s(5)
        assert await desk.promotions.abandon(ADMIN, held.promotion.id) == receipt


async def test_a_run_that_ends_keeps_what_a_rebuild_took_for_not_begun(desk: Desk) -> None:
    """It read the documents just before the journal began."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    assert held.freeze is not None
    await desk.ledger.load((WHEEL, SOURCE), (), (held.freeze,))
    await desk.promotions.end(CI, held.promotion.id, 1)
    (freeze,) = await desk.ledger.freezes()
    assert freeze.durable


class Pushing(MemoryLedger):
    """A run goes on until the very moment of the thaw."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def thaw(self, promotion: PromotionId, ending: PromotionEnding, *, unless_durable: bool = False) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await super().thaw(promotion, ending, unless_durable=unless_durable)


async def test_what_a_run_wrote_while_it_was_given_up_is_not_forgotten(desk: Desk) -> None:
    """Something may have been pushed: there is a receipt."""
    ledger = Pushing(lambda: desk.now_us)
    await ledger.load((WHEEL, SOURCE), ())
    desk.promotions = desk.process(desk.documents, ledger)
    held = await desk.held(WHEEL, SOURCE)
    ledger.meanwhile = lambda: desk.push(held, held.promotion.files[0])
    await desk.promotions.abandon(ADMIN, held.promotion.id)
    assert desk.receipts() == {receipt_key(held.promotion.id)}
    assert (desk.papers(), await ledger.freezes()) == (set(), ())


async def test_giving_up_what_is_all_live_ends_it_as_that(desk: Desk) -> None:
    """There is nothing left to give up."""
    held = await desk.held(WHEEL, SOURCE)
    for file in held.promotion.files:
        await desk.push(held, file)
    assert (await desk.promotions.abandon(CI, held.promotion.id)).outcome is Outcome.LIVE


async def test_giving_up_does_not_need_upstream(desk: Desk) -> None:
    """The receipt says what was known."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    desk.upstream.down = True
    receipt = await desk.promotions.abandon(CI, held.promotion.id)
    assert [entry.state for entry in receipt.journal] == [FileState.PUSHED]


# Finding


async def test_promotions_are_found_by_release_and_project(desk: Desk) -> None:
    """Those under way first, then those that ended; of each the latest first."""
    await desk.stage(OTHER)
    first = await desk.held(WHEEL, SOURCE)
    await desk.push(first, first.promotion.files[0])
    ended = await desk.promotions.abandon(CI, first.promotion.id)
    desk.pass_s(1)
    second = await desk.held(WHEEL, SOURCE)
    desk.pass_s(1)
    third = await desk.held(OTHER)
    find = partial(desk.promotions.find_all, limit=9)
    assert await find() == await find(stage=MAIN) == (third, second, ended)
    assert await find(project=DEMO) == await find(releases=[RELEASE]) == (second, ended)
    assert await find(releases=[RELEASE, OTHER_RELEASE]) == (third, second, ended)
    assert await find(project=DEMO, releases=[OTHER_RELEASE]) == ()
    assert await find(releases=[replace(RELEASE, version="2")]) == ()
    assert await find(project=NormalizedName("nothing")) == ()
    assert await find(stage=StageId("flag-day")) == ()
    assert await desk.promotions.find_all(limit=0) == (third, second)
    assert await desk.promotions.under_way(OTHER_RELEASE) == (third,)
    with pytest.raises(UnknownPromotion):
        await desk.promotions.find(NOBODY)


async def test_a_promotion_is_listed_once_while_it_is_being_ended(desk: Desk) -> None:
    """As what its receipt says."""
    held = await desk.held(WHEEL, SOURCE)
    await desk.push(held, held.promotion.files[0])
    left = {key: desk.documents.held[key] for key in desk.papers()}
    freezes = await desk.ledger.freezes()
    receipt = await desk.promotions.abandon(CI, held.promotion.id)
    desk.documents.held |= left
    await desk.ledger.load((WHEEL, SOURCE), (), freezes)
    assert await desk.promotions.find_all(project=DEMO, limit=1) == (receipt,)
    assert await desk.promotions.find_all(project=DEMO, limit=0) == ()
