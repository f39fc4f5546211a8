"""Refuse, also while the index runs, a Redis that must not hold it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from overlay.domain.errors import LedgerUnavailable
from overlay.storage.ledger_redis import RedisLedger

LOOK_S: Final = 1.0


async def watch_server(ledger: RedisLedger, *, wait: Callable[[float], Awaitable[None]] = asyncio.sleep) -> NoReturn:
    """Check the server as soon as it answers, and each other one that takes its place. Raises InvalidConfig.

    The start checks it, too, but must not wait for it. A server that does not tell its run id is checked once.
    """
    checked: str | None = None
    while True:
        with contextlib.suppress(LedgerUnavailable):
            server = (await ledger.state()).server
            if server != checked:
                await ledger.check_server()
                checked = server
        await wait(LOOK_S)
