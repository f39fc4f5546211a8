"""A plan that is not exactly what was pledged is not carried out, whatever the overlay says."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from overlay.domain.wire_promotions import LiveFileView, PlanView, PromotedFileView, PromotionOrder
from overlay.promote.errors import Ending, Refused
from overlay.promote.plan_check import require_pledged
from tests.builders import Built, wheel
from tests.fakes.promotions import FakePromotions
from tests.fakes.pushed_index import FakeUpstream
from tests.fakes.virtual_time import VirtualTime
from tests.promote.packages import planned
from tests.promote.runs import DEMO, Scene, order_of

FIRST, LAST = DEMO[0], DEMO[-1]
OTHER = wheel("demo", "1.1", tag="py3-none-musllinux_1_2_x86_64")
VICTIM = wheel("victim", "9.9")


def live(built: Built, sha256: str = "") -> LiveFileView:
    return LiveFileView(filename=built.filename, sha256=sha256 or built.sha256, url="https://files.test/x")


async def plan_of(order: PromotionOrder) -> PlanView:
    return await FakePromotions(DEMO, FakeUpstream(), VirtualTime()).plan(order)


def with_files(plan: PlanView, *files: PromotedFileView) -> PlanView:
    assert plan.promotion is not None
    return replace(plan, promotion=replace(plan.promotion, files=files))


def changed(plan: PlanView, **changes: str) -> PlanView:
    """Change the first file."""
    assert plan.promotion is not None
    first, *others = plan.promotion.files
    return with_files(plan, replace(first, **changes), *others)


def besides(plan: PlanView, *built: Built) -> PlanView:
    assert plan.promotion is not None
    return with_files(plan, *plan.promotion.files, *map(planned, built))


def without_last(plan: PlanView) -> PlanView:
    assert plan.promotion is not None
    return with_files(plan, *plan.promotion.files[:-1])


def in_stage(plan: PlanView, stage: str) -> PlanView:
    assert plan.promotion is not None
    return replace(plan, promotion=replace(plan.promotion, stage=stage))


def in_waves(plan: PlanView, *waves: int, new: bool = False) -> PlanView:
    """Push the files, which are three wheels and an sdist, in these waves."""
    assert plan.promotion is not None
    files = [replace(file, wave=wave) for file, wave in zip(plan.promotion.files, waves, strict=True)]
    return replace(with_files(plan, *files), new_projects=("demo",) if new else ())


def sdist_first(plan: PlanView) -> PlanView:
    assert plan.promotion is not None
    *wheels, last = plan.promotion.files
    return in_waves(with_files(plan, last, *wheels), 0, 1, 2, 2)


ODD: list[tuple[Callable[[PlanView], PlanView], str]] = [
    (lambda plan: changed(plan, sha256="e" * 64), "has the sha256 eeee"),
    (lambda plan: changed(plan, project="victim"), "is said to be of victim 1.1"),
    (lambda plan: changed(plan, version="9.9"), "is said to be of demo 9.9"),
    (lambda plan: changed(plan, filename=OTHER.filename), f"{OTHER.filename} was not pledged"),
    (lambda plan: changed(plan, filename="../\x1b[2Jevil"), "was not pledged"),
    (lambda plan: besides(plan, OTHER), f"{OTHER.filename} was not pledged"),
    (lambda plan: besides(plan, VICTIM), f"{VICTIM.filename} was not pledged"),
    (lambda plan: besides(plan, FIRST), f"{FIRST.filename} is in it more than once"),
    (without_last, f"{LAST.filename} was pledged and is missing"),
    (lambda plan: in_stage(plan, "canary"), "for the stage canary"),
    (lambda plan: replace(plan, already_live=(live(FIRST),)), "more than once"),
    (lambda plan: replace(without_last(plan), already_live=(live(LAST, "e" * 64),)), "has the sha256 eeee"),
    (lambda plan: replace(plan, already_live=(live(VICTIM),)), f"{VICTIM.filename} was not pledged"),
    (lambda plan: replace(plan, promotion=None, already_live=tuple(map(live, DEMO[:-1]))), "is missing"),
    (lambda plan: replace(plan, promotion=None, already_live=()), "is missing"),
    (sdist_first, f"{LAST.filename} would not go out after all wheels"),
    (lambda plan: in_waves(plan, 0, 1, 1, 1), f"{LAST.filename} would not go out after all wheels"),
    (lambda plan: in_waves(plan, 1, 0, 2, 3), "waves are not in order"),
    (lambda plan: in_waves(plan, 0, 0, 1, 2, new=True), "would create the release, and not go out alone"),
]


@pytest.mark.parametrize(("change", "words"), ODD)
async def test_what_differs_is_refused_and_named(change: Callable[[PlanView], PlanView], words: str) -> None:
    """Other bytes, more or fewer files, also among what is live, or a harmful order; names are safe to show."""
    order = order_of(DEMO)
    plan = change(await plan_of(order))
    with pytest.raises(Refused) as caught:
        require_pledged(order, plan)
    assert caught.value.ending is Ending.REFUSED
    assert words in str(caught.value)
    assert "\x1b" not in str(caught.value)


async def test_a_release_that_was_not_named_is_not_promoted_by_a_pledge_alone() -> None:
    """A pledge says what bytes are expected; the order says of which releases files are pushed."""
    order = replace(order_of(DEMO), releases=("demo==1.0",))
    with pytest.raises(Refused, match="none of the releases"):
        require_pledged(order, await plan_of(order_of(DEMO)))


async def test_what_was_pledged_is_fine() -> None:
    """All of it to be pushed, or in part or wholly live already; in any order that harms nobody."""
    order = order_of(DEMO)
    plan = await plan_of(order)
    for one in (
        plan,
        replace(without_last(plan), already_live=(live(LAST),)),
        replace(plan, promotion=None, already_live=tuple(map(live, DEMO))),
        in_waves(plan, 0, 1, 1, 2, new=True),
        in_waves(plan, 0, 0, 0, 1),  # of a release that upstream has
    ):
        require_pledged(order, one)


async def test_equal_versions_are_one_release() -> None:
    """A plan may spell a version as the file, as the order, or in a third way."""
    order = replace(order_of(DEMO), releases=("demo==1.1.0",))
    require_pledged(order, changed(await plan_of(order), version="1.1.0.0"))


class Lying(FakePromotions):
    """An overlay that plans something else."""

    lie: Callable[[PlanView], PlanView]
    lied: PlanView

    async def plan(self, order: PromotionOrder) -> PlanView:
        self.lied = self.lie(await super().plan(order))
        return self.lied


@pytest.mark.parametrize(("change", "words"), ODD)
async def test_nothing_else_is_ever_pushed(tmp_path: Path, change: Callable[[PlanView], PlanView], words: str) -> None:
    """Not even a credential is looked for, the plan is not shown, and the lease is let go."""
    scene = Scene(tmp_path)
    server = Lying([*DEMO, OTHER, VICTIM], scene.upstream, scene.time)
    server.lie = change
    with pytest.raises(Refused) as caught:
        await scene.run(server=server)
    assert words in str(caught.value)
    assert scene.upstream.posts == []
    assert scene.heard.events == []
    assert not [call for call in server.calls if call.startswith(("open", "push"))]
    if server.lied.promotion is not None:
        assert server.calls[-1] == "end"
        assert not server.frozen
