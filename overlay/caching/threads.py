"""Run blocking work in a thread so that a cancelled caller never leaves it running behind its back."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def in_thread(
    work: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Run `work` in the loop's thread pool and wait for its end even when cancelled.

    A thread cannot be stopped: if the caller went on, it could close a file that the thread still writes, and the
    write would reach whatever was opened next under the same descriptor.
    """
    # A future, no task as `to_thread` would need: a tenth of what streaming a file costs.
    return await uninterrupted(
        asyncio.get_running_loop().run_in_executor(None, functools.partial(work, *args, **kwargs))
    )


async def uninterrupted(work: Awaitable[Result]) -> Result:
    """Wait for the end of `work` even when cancelled; the cancellation is raised only then."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                continue  # cancelled again: the work still runs
        if not running.cancelled():
            running.exception()  # nobody else will ask for it, and asyncio would log that
        raise
