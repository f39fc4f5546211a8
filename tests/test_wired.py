"""What runs beside the requests ends before what it uses is closed."""

import asyncio
from typing import NoReturn

from overlay.wiring.store import ended


async def test_a_task_is_waited_for_that_takes_a_while_to_end() -> None:
    """A sweep, say, that is deleting a blob in a thread."""
    began, left = asyncio.Event(), list(range(10))

    async def watched() -> NoReturn:
        try:
            while True:
                began.set()
                await asyncio.Event().wait()
        finally:
            while left:
                await asyncio.sleep(0)
                left.pop()

    task = asyncio.ensure_future(watched())
    await began.wait()
    await ended(task)
    assert task.cancelled()
    assert left == []
