"""A soak knows when the machine, and not the overlay, was slow."""

import asyncio
import contextlib

from tests.clock import Clock
from tests.soak.history import History
from tests.soak.run import STALL_S, watch


async def test_a_stall_of_the_machine_is_a_fault() -> None:
    """It lasts as long as the soak stood still, and a little longer; a machine that runs has none."""
    history, clock = History(), Clock()
    began_s = clock.now_s
    watching = asyncio.create_task(watch(history, clock))
    await asyncio.sleep(0)  # it sleeps
    clock.now_s += 1 + STALL_S
    async with asyncio.timeout(60):
        while not history.faults:
            await asyncio.sleep(0.01)
    clock.now_s += STALL_S
    await asyncio.sleep(0.3)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    (stall,) = history.faults
    assert (stall.began_s, stall.ended_s) == (began_s, began_s + 1 + STALL_S)
    assert stall.well_s > stall.ended_s
