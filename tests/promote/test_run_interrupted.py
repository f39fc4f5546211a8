"""Runs that are killed, cut off, or meet whatever an upstream may do: the rerun ends as one clean run would."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.promotion import FileState
from overlay.domain.wire_promotions import (
    JournalOrder,
    LeaseView,
    LookView,
    PlanView,
    PromotionList,
    PromotionOrder,
    PromotionView,
)
from overlay.promote.answers import Answer
from overlay.promote.course import Options
from overlay.promote.errors import Ending, PromoteError, ServerSilent
from overlay.promote.push import Package
from overlay.promote.run import promote
from tests.fakes.pushed_index import Happens
from tests.promote.runs import DEMO, Scene

Anything = TypeVar("Anything")
NAMES = [built.filename for built in DEMO]
EXPECTED = {built.filename: built.sha256 for built in DEMO}


class Killed(BaseException):
    """The process is gone."""


class Steps:
    """Counts what a run does outside of itself; at step `at`, before or after it, something happens."""

    def __init__(self, happens: Callable[[], None], *, at: int, after: bool, for_good: bool) -> None:
        self.count = 0
        self._happens = happens
        self._at = at
        self._after = after
        self._for_good = for_good

    async def step(self, work: Callable[[], Awaitable[Anything]]) -> Anything:
        self.count += 1
        now = self.count == self._at
        if (now and not self._after) or (self._for_good and self.count > self._at):
            self._happens()
        done = await work()
        if now:
            self._happens()
        return done


class CutServer:
    """The overlay behind steps; implements `PromotionServer`."""

    def __init__(self, scene: Scene, steps: Steps) -> None:
        self._server = scene.server
        self._steps = steps

    async def plan(self, order: PromotionOrder) -> PlanView:
        return await self._steps.step(lambda: self._server.plan(order))

    async def renew(self, promotion: str, fence: int) -> LeaseView:
        return await self._steps.step(lambda: self._server.renew(promotion, fence))

    async def journal(self, promotion: str, upload: str, order: JournalOrder) -> None:
        await self._steps.step(lambda: self._server.journal(promotion, upload, order))

    async def look(self, promotion: str, fence: int) -> LookView:
        return await self._steps.step(lambda: self._server.look(promotion, fence))

    async def end(self, promotion: str, fence: int) -> None:
        await self._steps.step(lambda: self._server.end(promotion, fence))

    async def abandon(self, promotion: str) -> PromotionView:
        return await self._steps.step(lambda: self._server.abandon(promotion))

    async def under_way(self, releases: Sequence[str], stage: str) -> PromotionList:
        return await self._steps.step(lambda: self._server.under_way(releases, stage))

    @contextlib.asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._server.open(url) as pieces:
            yield self._pieces(pieces)

    async def _pieces(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            await self._steps.step(_nothing)
            yield piece


async def _nothing() -> None:
    """Do nothing, as one step."""


def _killed() -> None:
    raise Killed


def _silent() -> None:
    raise ServerSilent("cut off")


def _orderly(scene: Scene) -> None:
    """What holds whatever happened: only pledged bytes are out, wheels before the sdist."""
    stored = list(scene.upstream.stored)
    assert scene.upstream.stored.items() <= EXPECTED.items()
    assert all(name.endswith(".whl") for name in stored[:3])
    assert scene.upstream.most_under_way <= 4


async def _promoted(scene: Scene, steps: Steps, *, cut_pushes: bool = True) -> Ending:
    async def push(package: Package, authorization: str, sent: Callable[[int], None]) -> Answer:
        return await steps.step(lambda: scene.upstream(package, authorization, sent))

    tools = scene.tools(server=CutServer(scene, steps), push=push if cut_pushes else None)
    return (await promote(scene.order(), Options(), tools)).ending


async def _steps_of_one_run(folder: Path, *, cut_pushes: bool = True) -> int:
    counting = Steps(_killed, at=10**9, after=False, for_good=True)
    assert await _promoted(Scene(folder), counting, cut_pushes=cut_pushes) is Ending.DONE
    return counting.count


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_run_killed_at_any_step_is_finished_by_the_next(tmp_path: Path, *, after: bool) -> None:
    """Killed before or after each single step, the same command ends with each file stored once, in order."""
    steps = await _steps_of_one_run(tmp_path)
    assert steps > 4 * len(DEMO)
    for at in range(1, steps + 1):
        scene = Scene(tmp_path)
        # In a task group several ends may come together.
        with contextlib.suppress(Killed, BaseExceptionGroup):
            await _promoted(scene, Steps(_killed, at=at, after=after, for_good=True))
        _orderly(scene)
        result = await scene.run()
        assert (at, result.ending, result.problem) == (at, Ending.DONE, "")
        assert all(file.state is FileState.LIVE for file in result.files)
        _orderly(scene)
        assert scene.upstream.stored == EXPECTED
        assert scene.server.ended == ["live"]
        assert not scene.server.frozen


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_run_cut_off_from_the_overlay_goes_on(tmp_path: Path, *, after: bool) -> None:
    """When any single call to the overlay, or its answer, is lost, the run itself gets to its end."""
    for at in range(1, await _steps_of_one_run(tmp_path, cut_pushes=False) + 1):
        scene = Scene(tmp_path)
        steps = Steps(_silent, at=at, after=after, for_good=False)
        assert (at, await _promoted(scene, steps, cut_pushes=False)) == (at, Ending.DONE)
        assert scene.upstream.stored == EXPECTED
        assert sorted(scene.upstream.posts) == sorted(NAMES)
        assert scene.server.ended == ["live"]


async def test_a_run_without_an_overlay_stops_pushing_with_its_lease(tmp_path: Path) -> None:
    """Once the overlay stays silent, nothing is pushed after the lease that it last gave."""
    steps = await _steps_of_one_run(tmp_path, cut_pushes=False)
    for at in range(2, steps):
        scene = Scene(tmp_path)
        with contextlib.suppress(PromoteError):
            await _promoted(scene, Steps(_silent, at=at, after=False, for_good=True), cut_pushes=False)
        _orderly(scene)
        assert len(scene.upstream.posts) <= len(set(scene.upstream.posts))
        assert (await scene.run()).ending is Ending.DONE
        assert scene.upstream.stored == EXPECTED


@st.composite
def scripts(draw: st.DrawFn) -> dict[str, list[Happens]]:
    happens = st.sampled_from([one for one in Happens if one not in {Happens.FORBIDDEN, Happens.UNAUTHORIZED}])
    return {name: draw(st.lists(happens, max_size=4)) for name in NAMES}


@given(
    script=scripts(),
    hidden_looks=st.integers(0, 40),
    conflicts=st.booleans(),
    forbidden=st.none() | st.sampled_from(NAMES),
)
def test_whatever_upstream_does_reruns_end_as_one_clean_run(
    script: dict[str, list[Happens]], hidden_looks: int, forbidden: str | None, *, conflicts: bool
) -> None:
    """Lost answers, errors, lags and refusals in any order: the same command, repeated, ends with all of it live."""
    if forbidden is not None:
        script[forbidden].insert(0, Happens.FORBIDDEN)

    async def runs() -> None:
        with tempfile.TemporaryDirectory() as folder:
            scene = Scene(Path(folder))
            scene.upstream.script = script
            scene.upstream.hidden_looks = hidden_looks
            scene.upstream.conflicts = conflicts
            result = await scene.run()
            for _ in range(10):
                if result.ending is not Ending.DONE:
                    result = await scene.run()
                _orderly(scene)
                if result.ending is Ending.DONE:
                    break
            assert result.ending is Ending.DONE
            assert all(file.state is FileState.LIVE for file in result.files)
            assert scene.upstream.stored == EXPECTED
            assert not scene.server.frozen

    asyncio.run(runs())


@pytest.mark.parametrize("when", ["pushing", "waiting"])
async def test_a_cancelled_run_lets_its_lease_go(tmp_path: Path, when: str) -> None:
    """Ctrl-C ends the lease at once, so that the next run need not wait for it; how far it came is told."""
    scene = Scene(tmp_path)
    scene.upstream.script[NAMES[0]] = [Happens.CUT]
    reached = asyncio.Event()

    async def push(package: Package, authorization: str, sent: Callable[[int], None]) -> Answer:
        if when == "pushing":
            reached.set()
            await asyncio.Event().wait()
        reached.set()
        return await scene.upstream(package, authorization, sent)

    running = asyncio.ensure_future(promote(scene.order(), Options(), scene.tools(push=push)))
    await reached.wait()
    await asyncio.sleep(0)
    running.cancel()
    result = await running
    assert result.ending is Ending.FAILED
    assert result.problem == "Stopped."
    assert result.may_be_out
    assert scene.server.calls[-1] == "end"
    began_s = scene.time.now_s
    await scene.server.plan(scene.order())
    assert scene.time.now_s == began_s


class HeldAnswer(CutServer):
    """The overlay, whose answer to a plan comes late, or gets lost the first time."""

    def __init__(self, scene: Scene, *, is_lost: bool) -> None:
        super().__init__(scene, Steps(_killed, at=0, after=False, for_good=False))
        self.planned = asyncio.Event()
        self.answers = asyncio.Event()
        self._scene = scene
        self._is_lost = is_lost

    async def plan(self, order: PromotionOrder) -> PlanView:
        is_first = not self.planned.is_set()
        try:
            plan = await self._scene.server.plan(order)
        finally:
            self.planned.set()
            await self.answers.wait()
        if is_first and self._is_lost:
            raise ServerSilent("cut off")
        return plan


@pytest.mark.parametrize("is_lost", [False, True], ids=["late", "lost"])
async def test_a_run_cancelled_while_it_plans_takes_the_plan_back(tmp_path: Path, *, is_lost: bool) -> None:
    """The overlay has frozen the release already: nobody waits for the lease of a run that never began."""
    scene = Scene(tmp_path)
    server = HeldAnswer(scene, is_lost=is_lost)
    running = asyncio.ensure_future(promote(scene.order(), Options(), scene.tools(server=server)))
    await server.planned.wait()
    assert scene.server.frozen
    running.cancel()
    await asyncio.sleep(0)
    running.cancel()  # who is impatient changes nothing
    server.answers.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not scene.server.frozen
    assert scene.server.calls[-1] == "end"
    assert scene.heard.events == scene.heard.warnings == []


async def test_a_run_cancelled_while_the_overlay_refuses_it_just_ends(tmp_path: Path) -> None:
    """There is nothing to take back."""
    scene = Scene(tmp_path)
    await scene.server.plan(scene.order())
    server = HeldAnswer(scene, is_lost=False)
    running = asyncio.ensure_future(promote(scene.order(), Options(), scene.tools(server=server)))
    await server.planned.wait()
    running.cancel()
    await asyncio.sleep(0)
    server.answers.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert scene.server.calls[-1] == "plan"
    assert scene.server.frozen
    assert scene.heard.warnings == []
