"""Quantities in words for people, the same on pages and on the command line."""

from datetime import UTC, datetime
from typing import Final

_STEP: Final = 1024
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_LONG: Final = 100  # from here on a decimal says nothing


def size_words(size_bytes: int) -> str:
    """Say a size with two or three significant digits: `812 B`, `1.2 MiB`, `340 GiB`."""
    if size_bytes < _STEP:
        return f"{size_bytes} B"
    power = 1
    while power < len(_UNITS) and round(size_bytes / _STEP**power) >= _STEP:
        power += 1
    amount = size_bytes / _STEP**power
    unit = _UNITS[power - 1]
    return f"{amount:.0f} {unit}" if amount >= _LONG else f"{amount:.1f} {unit}"


def count_words(count: int, one: str) -> str:
    """Say a count with its noun: `1 file`, `2 files`."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def minute_words(timestamp: str) -> str:
    """Shorten an RFC 3339 time in UTC to its minute: `2026-01-31 08:15 UTC`."""
    return f"{timestamp[:10]} {timestamp[11:16]} UTC"


def second_words(at_us: int) -> str:
    """Say a time, in microseconds since the epoch: `2026-01-31 08:15:02 UTC`."""
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
