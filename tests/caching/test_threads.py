"""Work in a thread is never left running behind a cancelled caller's back."""

import asyncio
import gc
import threading

import pytest

from overlay.caching.threads import in_thread, uninterrupted


async def test_a_cancelled_caller_waits_for_its_thread() -> None:
    """However often it is cancelled: whoever closes the file afterwards closes it after the write."""
    started, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        gate.wait(10)
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(started.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_the_error_of_work_whose_caller_was_cancelled_is_nobodys() -> None:
    """It goes with the caller; asyncio does not log that nobody asked for it."""
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(str(context["message"])))
    started, gate = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        gate.wait(10)
        raise ZeroDivisionError

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait({task})
    assert task.cancelled()
    del task
    gc.collect()
    assert said == []


async def test_results_and_errors_come_back() -> None:
    """As from a call."""
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)


async def test_what_tidies_up_is_finished_though_cancelled() -> None:
    """A coroutine with several steps, too: the cancellation waits for the last one."""
    steps: list[int] = []
    gate = asyncio.Event()

    async def tidy() -> None:
        steps.append(1)
        await gate.wait()
        steps.append(2)

    task = asyncio.create_task(uninterrupted(tidy()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == [1, 2]
