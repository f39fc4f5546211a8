"""Ask a store, or upstream, for many things: some at once, for each answer takes a round trip."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Final, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

_AT_ONCE: Final = 16  # readers need connections, too


async def some_at_once(
    ask: Callable[[Asked], Coroutine[object, object, Answer]], about: Iterable[Asked]
) -> list[Answer]:
    """Ask about each; answers in the order of what they are about.

    Raises what the first that fails raises, once the others were cancelled and have ended: nothing goes on, or writes,
    after that.
    """
    ordered, answers = list(about), list[Answer]()
    for at in range(0, len(ordered), _AT_ONCE):
        answers += await _all_at_once([ask(one) for one in ordered[at : at + _AT_ONCE]])
    return answers


async def _all_at_once(asking: Sequence[Coroutine[object, object, Answer]]) -> list[Answer]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in asking]
    except BaseExceptionGroup as failures:  # in the order in which they failed
        first = failures.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise first  # out here its own cause stays what it was
