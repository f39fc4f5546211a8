"""Refuse, also while the index runs, a Redis that must not hold it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from overlay.domain.errors import LedgerUnavailable
from overlay.storage.ledger_redis import RedisLedger

LOOK_S: Final = 1.0
CHECKED_EVERY: Final = 60  # looks: CONFIG SET turns a fit server into one that evicts, and says nothing


async def watch_server(ledger: RedisLedger, *, wait: Callable[[float], Awaitable[None]] = asyncio.sleep) -> NoReturn:
    """Check the server as soon as it answers, each other one that takes its place at once, and any about every minute.

    Raises InvalidConfig. The start checks it, too, but must not wait for it. A server that does not tell its run id is
    taken for the same one always.
    """
    checked: str | None = None
    looks = 0
    while True:
        with contextlib.suppress(LedgerUnavailable):
            server = (await ledger.state()).server
            looks += 1
            if server != checked or looks > CHECKED_EVERY:
                await ledger.check_server()
                checked, looks = server, 1
        await wait(LOOK_S)
