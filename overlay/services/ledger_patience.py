"""How long one request waits for the ledger in all, however many questions it asks.

Each question has a patience of its own, but a page asks up to three, one after the other: the caller's token, the
revisions, the snapshot. A page or a staged file is 503 within a second when the ledger is silent (design §8), also when
it falls silent between two of them. So what a request waits for the ledger has one limit; what it waits for others does
not count. Where several requests wait for one answer, that goes on when one of them has given up.
"""

import time
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from typing import Final, TypeVar

from overlay.caching.patience import Patience
from overlay.domain.errors import LedgerUnavailable

Answer = TypeVar("Answer")

REQUEST_S: Final = 0.9  # of the second; the rest is for all that is no waiting
# Time that passed while this process was held up says nothing of the ledger: it is asked all the same.
_LEAST_S: Final = 0.05


class _Patience:
    """What is left of it; as a context manager it holds for what is asked inside."""

    __slots__ = ("_before", "is_whole", "left_s")

    def __init__(self, limit_s: float) -> None:
        self.left_s = limit_s
        self.is_whole = True
        self._before: Token[_Patience | None] | None = None

    def __enter__(self) -> None:
        self._before = _PATIENCE.set(self)

    def __exit__(self, *_: object) -> None:
        assert self._before is not None
        _PATIENCE.reset(self._before)


_PATIENCE: Final = ContextVar[_Patience | None]("_PATIENCE", default=None)


def one_patience(limit_s: float = REQUEST_S) -> AbstractContextManager[None]:
    """Let all that is asked `from_ledger` in this context, by this task, take `limit_s` together."""
    return _Patience(limit_s)  # no generator: every page enters one


async def from_ledger(answer: Awaitable[Answer]) -> Answer:
    """Wait for an answer of the ledger, no longer than the request may; outside of one for as long as it takes.

    Raises LedgerUnavailable.
    """
    patience = _PATIENCE.get()
    if patience is None:
        return await answer
    began_s = time.monotonic()
    try:
        if patience.is_whole:  # then the question's own patience ends first; and a warm page needs no timer
            return await answer
        async with Patience(max(patience.left_s, _LEAST_S)):
            return await answer
    except TimeoutError as err:
        raise LedgerUnavailable("What is staged is unknown: the ledger is too slow. Try again in a moment.") from err
    finally:
        patience.is_whole = False
        patience.left_s -= time.monotonic() - began_s
