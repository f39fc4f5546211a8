"""Time, as a run sees it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The three things that a run asks of time."""

    passed_s: Callable[[], float]
    """Seconds since some moment; never set back."""
    now_s: Callable[[], float]
    """Seconds since the epoch; for what others date."""
    sleep: Callable[[float], Awaitable[None]]
    """Wait for so many seconds."""
