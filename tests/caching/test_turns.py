"""One reading at a time, and the next one is shared."""

import asyncio

from overlay.caching.turns import Turns


class Readings:
    """Each gives its number, when it is let go."""

    def __init__(self) -> None:
        self.begun, self.under_way = 0, 0
        self.may_end = asyncio.Event()

    async def read(self) -> int:
        self.begun, self.under_way = self.begun + 1, self.under_way + 1
        assert self.under_way == 1, "two at once"
        number = self.begun
        await self.may_end.wait()
        self.under_way -= 1
        return number


async def begun(readings: Readings, number: int) -> None:
    while readings.begun < number:
        await asyncio.sleep(0)


async def test_who_asks_during_a_reading_shares_the_next_one() -> None:
    """What a caller gets was read after it asked, and ten callers cost one reading."""
    readings = Readings()
    turns = Turns(readings.read)
    first = asyncio.create_task(turns.next())
    await begun(readings, 1)
    rest = [asyncio.create_task(turns.next()) for _ in range(10)]
    await asyncio.sleep(0)
    readings.may_end.set()
    assert (await first, await asyncio.gather(*rest)) == (1, [2] * 10)
    assert (await turns.next(), readings.begun) == (3, 3)


async def test_a_cancelled_caller_leaves_the_reading_to_the_others() -> None:
    readings = Readings()
    turns = Turns(readings.read)
    first, second = asyncio.create_task(turns.next()), asyncio.create_task(turns.next())
    await begun(readings, 1)
    first.cancel()
    readings.may_end.set()
    assert await second == 1


async def test_a_reading_that_fails_fails_for_its_callers_only() -> None:
    numbers = iter([0, 1])

    async def read() -> float:
        return 1 / next(numbers)

    turns = Turns(read)
    for answer in await asyncio.gather(turns.next(), turns.next(), return_exceptions=True):
        assert isinstance(answer, ZeroDivisionError)
    assert await turns.next() == 1


async def test_closing_ends_what_is_read_for_nobody() -> None:
    """Its caller hung up, and what it reads from is closed next."""
    readings = Readings()
    turns = Turns(readings.read)
    caller = asyncio.create_task(turns.next())
    await begun(readings, 1)
    caller.cancel()
    await turns.close()
    assert asyncio.all_tasks() <= {asyncio.current_task(), caller}
