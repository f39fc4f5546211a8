"""Asking about many things: in order, the first failure is the answer, and nothing is left running behind it."""

import asyncio
from collections.abc import Sequence

import pytest

from overlay.domain.errors import LedgerUnavailable, StoreUnavailable
from overlay.services.at_once import some_at_once

NUMBERS = range(40)


async def test_answers_come_in_the_order_of_the_questions() -> None:
    """Whichever is there first; and more of them than are asked at once."""
    behind = {number: asyncio.Event() for number in NUMBERS}

    async def ask(number: int) -> int:
        if number % 16 != 15 and number + 1 in behind:  # the last of those asked at once answers first
            await behind[number + 1].wait()
        behind[number].set()
        return number

    assert await some_at_once(ask, NUMBERS) == list(NUMBERS)


class Work:
    """Ends when it is cancelled, and not at once: it puts away what it has."""

    def __init__(self) -> None:
        self.underway = 0
        self.begun = asyncio.Event()

    async def do(self, _number: int) -> None:
        self.underway += 1
        if self.underway == 3:
            self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            self.underway -= 1


async def test_the_first_failure_is_raised_when_all_others_have_ended() -> None:
    """As it is, with its own cause; a later failure of another one says nothing."""
    work, cause = Work(), OSError("gone")

    async def ask(number: int) -> None:
        if number == 3:
            await work.begun.wait()
            raise StoreUnavailable from cause
        try:
            await work.do(number)
        except asyncio.CancelledError as err:
            raise LedgerUnavailable("it was cut off") from err

    with pytest.raises(StoreUnavailable) as caught:
        await some_at_once(ask, range(4))
    assert caught.value.__cause__ is cause
    assert work.underway == 0


async def test_nothing_goes_on_for_a_caller_who_hangs_up() -> None:
    """When the caller's task has ended, so has all that it asked for."""
    work = Work()
    asking = asyncio.ensure_future(some_at_once(work.do, range(3)))
    await work.begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert work.underway == 0


async def test_nothing_is_asked_about_nothing() -> None:
    """No answers, and no failure."""
    nothing: Sequence[int] = ()
    assert await some_at_once(Work().do, nothing) == []
