"""Join reads that are asked for at the same time in one round trip.

A warm page costs one look at its revisions; one round trip for each would be most of a server's work. So one batch is
under way at a time, and what is asked meanwhile goes together in the next: the busier the server, the larger the
batches, while a lone question goes at once. Strict all the same: a read joins only a batch that is not yet sent, so
what it is answered was read after it began. A slow batch holds the next one up for `HELD_S` and no longer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Values: TypeAlias = Mapping[str, bytes | None]

HELD_S: Final = 0.005  # within a data centre a round trip takes a tenth of it


@dataclass(frozen=True, slots=True)
class _Batch:
    keys: list[str] = field(default_factory=list)
    waiting: list[asyncio.Future[Values]] = field(default_factory=list)


class CoalescedReads:
    """Reads values by key; `read` does one round trip and answers in the order of its keys."""

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[Sequence[bytes | None]]], held_s: float) -> None:
        self._read = read
        self._held_s = held_s
        self._unsent = _Batch()
        self._sent: set[asyncio.Task[Values]] = set()
        self._held: asyncio.TimerHandle | None = None

    def get(self, keys: Sequence[str]) -> Awaitable[Values]:
        """Return at least the values of these keys, all of one moment after this call. Raises what `read` raises."""
        batch = self._unsent
        if batch.waiting:
            loop = batch.waiting[0].get_loop()  # to ask which one runs takes a system call in Python 3.11
        else:
            loop = asyncio.get_running_loop()
            # Either way what is asked in this turn of the loop still joins.
            self._held = loop.call_later(self._held_s if self._sent else 0, self._send)
        batch.keys.extend(keys)
        answer: asyncio.Future[Values] = loop.create_future()
        batch.waiting.append(answer)
        return answer

    def _send(self) -> None:
        batch, self._unsent = self._unsent, _Batch()
        if self._held is not None:
            self._held.cancel()
            self._held = None
        sent = asyncio.get_running_loop().create_task(self._fetch(tuple(dict.fromkeys(batch.keys))))
        self._sent.add(sent)
        sent.add_done_callback(lambda _: self._answer(sent, batch.waiting))

    async def _fetch(self, keys: Sequence[str]) -> Values:
        return dict(zip(keys, await self._read(keys), strict=True))

    def _answer(self, sent: asyncio.Task[Values], waiting: Sequence[asyncio.Future[Values]]) -> None:
        self._sent.discard(sent)
        still = [answer for answer in waiting if not answer.done()]  # the callers of the others hung up
        if sent.cancelled():
            for answer in still:
                answer.cancel()
        elif (error := sent.exception()) is not None:
            for answer in still:
                answer.set_exception(error)
        else:
            values = sent.result()
            for answer in still:
                answer.set_result(values)
        if self._unsent.waiting:
            # After those who are answered now: what is asked till then joins, and a busy server loses no time by it.
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._unsent.waiting and not self._sent:
            self._send()
