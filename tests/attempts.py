"""What may take so long and no longer, tried more than once: other work on the machine is no finding."""

import math
from collections.abc import Awaitable, Callable
from typing import Final

_MOST: Final = 10


async def best_s(attempt: Callable[[], Awaitable[float]], *, limit_s: float) -> float:
    """Return what the first attempt below the limit took, or else the shortest of ten; `attempt` says what it took."""
    best = math.inf
    for _ in range(_MOST):
        best = min(best, await attempt())
        if best < limit_s:
            break
    return best
