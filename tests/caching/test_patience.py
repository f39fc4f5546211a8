"""An answer that is there is taken, however late this process comes to look at it."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final

import pytest
import uvloop

from overlay.caching.patience import Patience

LIMIT_S: Final = 0.05
Limit = Callable[[float], "Patience | asyncio.Timeout"]


async def _answered(limit: Limit) -> bytes:
    """Ask over a socket, and be held up until both the answer and the end of the limit have passed."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    with theirs:
        try:
            asyncio.get_running_loop().call_soon(_answer_and_stall, theirs)
            async with limit(LIMIT_S):
                return await reader.readline()
        finally:
            writer.close()


def _answer_and_stall(theirs: socket.socket) -> None:
    theirs.send(b"here\n")
    time.sleep(2 * LIMIT_S)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_answer_that_came_in_time_is_taken(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Where asyncio's own limit loses it."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        for _ in range(5):
            assert runner.run(_answered(Patience)) == b"here\n"
        with pytest.raises(TimeoutError):
            runner.run(_answered(asyncio.timeout))


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_does_not_come_is_given_up(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Also a limit that has passed before it began; and a caller's own cancellation stays one."""

    async def given_up() -> None:
        for limit_s in (LIMIT_S, 0.0, -1.0):
            with pytest.raises(TimeoutError):
                async with Patience(limit_s):
                    await asyncio.Event().wait()
        async with Patience(LIMIT_S):
            pass
        await asyncio.sleep(2 * LIMIT_S)  # an end that was reached ends nothing later
        task = asyncio.ensure_future(_waits_for_ever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(given_up())


async def _waits_for_ever() -> None:
    async with Patience(60.0):
        await asyncio.Event().wait()
