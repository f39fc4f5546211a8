"""Time, as a run sees it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

# Beyond it no calendar reaches, and numbers stop being exact.
_END_OF_TIME_S: Final = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The three things that a run asks of time."""

    passed_s: Callable[[], float]
    """Seconds since some moment; never set back."""
    now_s: Callable[[], float]
    """Seconds since the epoch; for what others date."""
    sleep: Callable[[float], Awaitable[None]]
    """Wait for so many seconds."""


def pause_s(failed: int) -> float:
    """Return how long to wait after so many failed attempts, from 1 on: 2 s, then twice as long each time."""
    return 2.0**failed


def moment(value: object) -> float | None:
    """Return seconds since the epoch, as somebody else wrote them; None for what is no such number."""
    return float(value) if isinstance(value, int | float) and abs(value) < _END_OF_TIME_S else None
