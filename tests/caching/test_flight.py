"""One flight per key."""

import asyncio

import pytest

from overlay.caching.flight import Flight


async def test_callers_of_one_key_share_one_computation() -> None:
    """Ten ask, one computes."""
    flight: Flight[str, int] = Flight()
    gate, calls = asyncio.Event(), []

    async def compute() -> int:
        calls.append(1)
        await gate.wait()
        return 7

    tasks = [asyncio.create_task(flight.run("k", compute)) for _ in range(10)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*tasks) == [7] * 10
    assert len(calls) == 1


async def test_nothing_is_remembered_once_a_flight_has_ended() -> None:
    """The next caller computes anew."""
    flight: Flight[str, int] = Flight()
    numbers = iter(range(5))

    async def compute() -> int:
        return next(numbers)

    assert [await flight.run("k", compute) for _ in range(3)] == [0, 1, 2]


async def test_a_cancelled_caller_leaves_the_others_their_answer() -> None:
    """A client that hangs up does not take the page from the rest."""
    flight: Flight[str, int] = Flight()
    gate = asyncio.Event()

    async def compute() -> int:
        await gate.wait()
        return 1

    first, second = (asyncio.create_task(flight.run("k", compute)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_an_error_reaches_every_caller_and_is_not_kept() -> None:
    """Each of them gets it; the next flight may succeed."""
    flight: Flight[str, int] = Flight()

    async def fail() -> int:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def succeed() -> int:
        return 1

    results = await asyncio.gather(*(flight.run("k", fail) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 3
    assert await flight.run("k", succeed) == 1


async def test_closing_ends_what_is_under_way() -> None:
    """Nothing runs on after the server has stopped."""
    flight: Flight[str, int] = Flight()
    task = flight.start("k", asyncio.Event().wait)
    await asyncio.sleep(0)
    await flight.close()
    assert task.cancelled()
