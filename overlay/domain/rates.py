"""How often something may happen: so many times a minute, all of them at once after a pause.

The generic cell rate algorithm (ATM Forum, Traffic Management 4.0): one number says until when what was taken is
paid for, each taking adds a minute's share, and nobody may be more than a minute ahead. The ledger in Redis does the
same as a script.
"""

from typing import Final

MINUTE_US: Final = 60_000_000


def share_us(per_minute: int) -> int:
    """Return what one taking costs, in microseconds; all of a minute together cost a minute or a little less."""
    return MINUTE_US // per_minute


def taken(paid_until_us: int, now_us: int, per_minute: int) -> tuple[int, int]:
    """Take one; return until when all is paid for then, and 0, or as it was, and the microseconds to wait."""
    share = share_us(per_minute)
    begins_us = now_us if forgotten(paid_until_us, now_us) else paid_until_us
    wait_us = begins_us + share - now_us - share * per_minute
    return (paid_until_us, wait_us) if wait_us > 0 else (begins_us + share, 0)


def forgotten(paid_until_us: int, now_us: int) -> bool:
    """Say whether the number means nothing: all is paid for, or a clock that ran far ahead wrote it."""
    return not now_us < paid_until_us <= now_us + MINUTE_US
