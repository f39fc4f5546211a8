"""Coalesced reads by themselves; what they promise over a real Redis: test_ledger_redis."""

import asyncio
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import LedgerUnavailable
from overlay.storage.redis_coalesced import CoalescedReads

NEVER_S: Final = 3600.0


class Server:
    """Answers each read with how many changes there were when it came, once it is let go."""

    def __init__(self) -> None:
        self.changes = 0
        self.asked: list[tuple[str, ...]] = []
        self.arrived = asyncio.Event()
        self.go = asyncio.Event()

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        seen = self.changes
        self.asked.append(tuple(keys))
        self.arrived.set()
        await self.go.wait()
        return [b"%d" % seen for _ in keys]


async def test_what_is_asked_while_a_batch_is_under_way_goes_together() -> None:
    """However many turns of the loop they ask in."""
    server = Server()
    reads = CoalescedReads(server.read, NEVER_S)
    asking = [asyncio.ensure_future(reads.get(["first"]))]
    await server.arrived.wait()
    for number in range(10):
        asking.append(asyncio.ensure_future(reads.get(["ready", f"key-{number}"])))
        await asyncio.sleep(0)
    server.go.set()
    answers = await asyncio.gather(*asking)
    assert server.asked == [("first",), ("ready", *(f"key-{number}" for number in range(10)))]
    assert [answer["ready"] for answer in answers[1:]] == [b"0"] * 10


async def test_a_slow_batch_holds_the_next_one_up_for_a_while_only() -> None:
    """Then that one goes, and is answered while the first still is not."""
    server = Server()
    reads = CoalescedReads(server.read, 0.001)
    first = asyncio.ensure_future(reads.get(["first"]))
    await server.arrived.wait()
    server.arrived.clear()
    second = asyncio.ensure_future(reads.get(["second"]))
    await server.arrived.wait()
    assert server.asked == [("first",), ("second",)]
    server.go.set()
    await asyncio.gather(first, second)


async def test_an_error_reaches_everybody_in_the_batch_and_nobody_after_it() -> None:
    """The next question is asked as if nothing had been."""
    errors = [LedgerUnavailable("away")]

    async def read(keys: Sequence[str]) -> list[bytes | None]:
        if errors:
            raise errors.pop()
        return [None for _ in keys]

    reads = CoalescedReads(read, NEVER_S)
    answers = await asyncio.gather(*(reads.get([key]) for key in "abc"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LedgerUnavailable] * 3
    assert await reads.get(["a"]) == {"a": None}


async def test_when_all_callers_of_a_batch_hang_up_the_next_batch_goes_all_the_same() -> None:
    """The batch under way is nobody's, and its end still sends the next one."""
    server = Server()
    reads = CoalescedReads(server.read, NEVER_S)
    leaving = asyncio.ensure_future(reads.get(["first"]))
    await server.arrived.wait()
    staying = asyncio.ensure_future(reads.get(["second"]))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    server.go.set()
    assert await staying == {"second": b"0"}


@given(
    st.lists(st.sampled_from(["ask", "change", "send", "answer"]), min_size=20, max_size=60),
    st.sampled_from([0.0, NEVER_S]),
)
async def test_an_answer_is_never_older_than_its_question(steps: Sequence[str], held_s: float) -> None:
    """Whatever is asked, changed and answered in which order: who asks after a change sees it."""
    server = Server()
    reads = CoalescedReads(server.read, held_s)
    asked: list[tuple[int, asyncio.Future[bytes | None]]] = []

    async def ask() -> bytes | None:
        return (await reads.get(["revision"]))["revision"]

    for step in steps:
        match step:
            case "ask":
                asked.append((server.changes, asyncio.ensure_future(ask())))
                await asyncio.sleep(0)
            case "change":
                server.changes += 1
            case "send":
                await _turns()
            case _:
                server.go.set()
                await _turns()
                server.go.clear()
    server.go.set()
    for changes, answer in asked:
        assert int(await answer or b"") >= changes


async def _turns() -> None:
    """Let the loop do what it can do now."""
    for _ in range(8):
        await asyncio.sleep(0)
