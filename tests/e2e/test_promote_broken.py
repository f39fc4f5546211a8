"""`overlay promote` killed at every step of it: the same command ends as if nothing had been."""

import asyncio
import itertools
from collections.abc import Container
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.gate_proxy import GateProxy, Of, When, gate_proxy
from tests.e2e.promoting import BRIEF, LIMIT_S, Job, Stage, demo, scripted
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, OpenGate
from tests.pypi.process import PypiProcess

# plan, then for each file pushing and pushed, then looks until all is live
CALLS: Final = 6
JOURNAL: Final = range(1, 5)
WHENS: Final = [pytest.param(When.BEFORE, marks=pytest.mark.slow), When.AFTER]


def steps(always: Container[tuple[int, When]]) -> list[object]:
    """List all calls, before and after; what is not of `always` is slow."""
    return [
        pytest.param(number, when, marks=[] if (number, when) in always else [pytest.mark.slow])
        for number, when in itertools.product(range(CALLS), When)
    ]


BUILT: Final = demo()


async def check_end(pypi: PypiProcess, stage: Stage) -> None:
    """All of it is out, once, in order; nothing is frozen any more."""
    recording = await pypi.recording()
    assert recording.stored() == [one.filename for one in BUILT]
    assert not recording.early_sdists()
    assert [one.state for one in await stage.promotions("demo==1.1")] == ["live"]
    await stage.put(*demo("1.2"))


async def kill_at(gate: GateProxy, job: Job) -> None:
    """Start a run, and kill it at the gate."""
    process = await job.start(*job.dist)
    async with asyncio.timeout(LIMIT_S):
        await gate.reached.wait()
    process.kill()
    await process.wait()


async def check_next(pypi: PypiProcess, stage: Stage) -> None:
    """The same command, run again, ends it."""
    job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
    ran = await job.run("--json", *job.dist)
    assert ran.code == 0, ran.report.problem
    await check_end(pypi, stage)


@pytest.mark.parametrize(("number", "when"), steps([*itertools.product(JOURNAL, When)]))
async def test_a_run_that_is_killed_at_a_call_is_taken_up_by_the_next(tmp_path: Path, number: int, when: When) -> None:
    """As by a power cut, before or after the overlay did what was asked. The next run waits for the lease to lapse."""
    async with scripted(tmp_path, BUILT, promote=BRIEF) as (pypi, stage):
        async with gate_proxy(stage.served.url, number, when, cut=False) as gate:
            await kill_at(gate, stage.job(*BUILT, TWINE_PASSWORD=TOKEN, OVERLAY_URL=gate.url))
        await check_next(pypi, stage)


@pytest.mark.parametrize("when", WHENS)
async def test_a_run_that_is_killed_while_it_fetches_is_taken_up_by_the_next(tmp_path: Path, when: When) -> None:
    """Nothing was pushed yet."""
    async with scripted(tmp_path, BUILT, promote=BRIEF) as (pypi, stage):
        async with gate_proxy(stage.served.url, 1, when, cut=False, of=Of.FILES) as gate:
            await kill_at(gate, stage.job(*BUILT, TWINE_PASSWORD=TOKEN, OVERLAY_URL=gate.url))
        assert not (await pypi.recording()).posts()
        await check_next(pypi, stage)


@pytest.mark.parametrize("when", WHENS)
async def test_a_run_that_is_killed_while_it_renews_its_lease_is_taken_up_by_the_next(
    tmp_path: Path, when: When
) -> None:
    """A file is on its way upstream then."""
    async with scripted(tmp_path, BUILT, promote=BRIEF) as (pypi, stage):
        await pypi.do(Fault(at=Point.RECEIVED, action=Hang("here"), subject=BUILT[1].filename))
        async with gate_proxy(stage.served.url, 0, when, cut=False, of=Of.LEASE) as gate:
            job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN, OVERLAY_URL=gate.url)
            await kill_at(gate, job)
        await pypi.do(OpenGate("here"))
        await pypi.settled()
        await check_next(pypi, stage)


@pytest.mark.parametrize("file", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("point", [pytest.param(Point.BODY, marks=pytest.mark.slow), Point.RECEIVED, Point.STORED])
async def test_a_run_that_is_killed_while_it_pushes_is_taken_up_by_the_next(
    tmp_path: Path, file: int, point: Point
) -> None:
    """Whether or not upstream has the file then."""
    async with scripted(tmp_path, BUILT, promote=BRIEF) as (pypi, stage):
        await pypi.do(Fault(at=point, action=Hang("here"), subject=BUILT[file].filename))
        killed = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        process = await killed.start(*killed.dist)
        await pypi.reached("here")
        process.kill()
        await process.wait()
        await pypi.do(OpenGate("here"))
        await pypi.settled()
        await check_next(pypi, stage)
