"""Ask a store, or upstream, for many things: some at once, for each answer takes a round trip."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

_AT_ONCE: Final = 16  # readers need connections, too


async def some_at_once(ask: Callable[[Asked], Awaitable[Answer]], about: Iterable[Asked]) -> list[Answer]:
    """Ask about each; answers in the order of what they are about. Raises what the first that fails raises."""
    ordered, answers = list(about), list[Answer]()
    for at in range(0, len(ordered), _AT_ONCE):
        answers += await asyncio.gather(*(ask(one) for one in ordered[at : at + _AT_ONCE]))
    return answers
