"""One soak: two hosts of two workers on one Redis and one bucket, clients, faults, and the verdict."""

import asyncio
import math
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import aiohttp
import msgspec

from tests.distributed import backing_in, hosts
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, basic
from tests.served import Served
from tests.soak.aftermath import Aftermath
from tests.soak.clients import Client, World
from tests.soak.faults import KEEPS, WORKERS, Faults
from tests.soak.history import Fault, History
from tests.soak.rules import Problem, problems
from tests.soak.scenario import FAMILY, Scenario

NAMES: Final = 6
WRITERS: Final = 4
READERS: Final = 4
HARD_FROM_S: Final = 120.0
"""Runs this long may spend time on what takes longer than the timeouts."""
CALM_S: Final = 2.0
RECONCILE_S: Final = 3
"""Often, so that it meets everything else."""
STALL_S: Final = 0.35
"""Half of a worker's patience with Redis: where this process stood still for longer, so may they have."""
_LOOK_S: Final = 0.1
_AFTER_S: Final = 1.0
_SHOWN: Final = 5
_AROUND_S: Final = 1.5


@dataclass(frozen=True)
class Verdict:
    """What became of a run."""

    seed: int
    history: History
    problems: list[Problem]
    took_s: float

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {len(self.history.acts)} acts and {len(self.history.faults)} faults"]
        lines[0] += f" in {self.took_s:.0f} s, {len(self.problems)} problems"
        lines[0] += "".join(f"; {problem.sentence}" for problem in self.problems[:_SHOWN])  # a summary shows this line
        lines += [f"  {count:6} {what}" for what, count in self.history.tally().items()]
        waits = [fault.well_s - fault.ended_s for fault in self.history.faults]
        lines.append(f"  all well {max(waits, default=0):.1f} s after a fault at the latest")
        for problem in self.problems[:_SHOWN]:
            lines += ["", problem.sentence, *_slice(self.history, problem)]
        return "\n".join(lines)


async def soak(folder: Path, *, seed: int, seconds: float, names: int = NAMES, writers: int = WRITERS) -> Verdict:
    """Run for so many seconds, judge, and leave the history in the folder.

    The fewer `names` and the more `writers`, the more often they meet.
    """
    began_s = time.monotonic()
    history = History()
    folder.mkdir(parents=True, exist_ok=True)
    with backing_in(folder, redis_options=KEEPS) as backing:
        async with AsyncExitStack() as stack:
            index = await stack.enter_async_context(ScriptedIndex())
            started = {}
            for name in ("a", "b"):
                more = {
                    "OVERLAY_LEDGER_RECONCILE_S": str(RECONCILE_S),
                    "OVERLAY_SERVER_LOCAL_PATH": str(folder / f"{name}-local"),
                    "TMPDIR": str(folder),
                }
                (started[name],) = await stack.enter_async_context(
                    hosts(backing, index.simple_url, name, workers=WORKERS, **more)
                )
            world = World(
                hosts=started,
                scenario=Scenario(index, random.Random(f"{seed} names"), names),
                history=history,
                now_s=lambda: time.monotonic() - began_s,
                adder=await _adder(started["a"]),
            )
            stack.callback(asyncio.create_task(watch(history, world.now_s)).cancel)
            faults = Faults(world, backing, random.Random(f"{seed} faults"), hard=seconds >= HARD_FROM_S)
            found = []
            try:
                await _busy(world, faults, seed, seconds, writers)
                if all(math.isfinite(fault.well_s) for fault in history.faults):
                    found = await Aftermath(world, backing).problems()
            except* TimeoutError as late:  # a group of tasks raises a group
                found = [Problem(f"something took too long: {late!r}", ())]
            finally:
                history.write(folder / "history.jsonl")
    found += problems(history, world.scenario.projects)
    return Verdict(seed, history, found, time.monotonic() - began_s)


async def _adder(host: Served) -> str:
    """Make a token that may only add, also where upstream has the project."""
    order = {"label": "adder", "rights": ["add"], "projects": [f"{FAMILY}*"]}
    async with (
        aiohttp.ClientSession(headers=basic(ADMIN)) as session,
        session.post(f"{host.url}/api/v1/tokens", json=order) as answer,
    ):
        assert answer.ok, await answer.text()
        return str((await answer.json())["text"])


async def watch(history: History, now_s: Callable[[], float]) -> NoReturn:
    """Note as a fault, until cancelled, each time when the machine let this process stand still for `STALL_S`."""
    while True:
        began_s = now_s()
        await asyncio.sleep(_LOOK_S)
        ended_s = now_s()
        if ended_s - began_s > _LOOK_S + STALL_S:
            stall = Fault("the machine stalls", ("redis",), began_s, ended_s=ended_s, well_s=ended_s + _AFTER_S)
            history.faults.append(stall)


async def _busy(world: World, faults: Faults, seed: int, seconds: float, writers: int) -> None:
    """Let clients and faults go on for a while; the clients a little longer."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for number in range(writers + READERS):
            writes = number < writers
            name = f"{'writer' if writes else 'reader'} {number}"
            client = await stack.enter_async_context(Client(world, name, random.Random(f"{seed} {name}")))
            tasks.create_task(client.write() if writes else client.read())
        await faults.run(world.now_s() + seconds)
        await asyncio.sleep(CALM_S)
        world.enough.set()


def _slice(history: History, problem: Problem) -> list[str]:
    """Return what happened around a problem, a line each."""
    if not problem.acts:
        return []
    from_s, to_s = min(act.began_s for act in problem.acts), max(act.ended_s for act in problem.acts)
    around = history.between(from_s - _AROUND_S, to_s + _AROUND_S, {act.project for act in problem.acts})
    marked = {act.number for act in problem.acts}
    lines = []
    for one in around:
        mark = "*" if isinstance(one, Fault) or one.number in marked else " "
        lines.append(f" {mark} {msgspec.json.encode(one).decode()}")
    return lines[:200]
