"""Find the primary: a single server is known, Sentinels are asked for it, and every node of a cluster names it.

Who answers may be wrong all the same. A Sentinel that was parted from the others goes on naming the dead primary, and a
node that was parted from its cluster serves nothing; both answer the look at once, for as long as that lasts. So when
what was found does not serve, whoever led there is asked last the next time. That costs nothing when it was right: the
others name the same primary.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from redis.exceptions import ResponseError

from overlay.caching.patience import Patience
from overlay.storage.redis_failures import NoPrimary, words
from overlay.storage.redis_sockets import FAILURES, opened, reply_to, unopened
from overlay.storage.redis_url import Address, Form, RedisTarget


class PrimarySearch:
    """Asks the addresses of a URL, one after the other; each has `patience_s` to answer. The caller closes it."""

    def __init__(self, target: RedisTarget, *, patience_s: float) -> None:
        self._target = target
        self._patience_s = patience_s
        self._seeds = list(target.addresses)
        self._guide: Address | None = None
        self._looking: asyncio.Task[Address] | None = None

    async def find(self) -> Address:
        """Return where to ask; one look serves all who want to know. Raises NoPrimary."""
        if self._target.form is Form.SINGLE:
            return self._target.addresses[0]
        if self._looking is None or self._looking.done():
            ask = self._ask_sentinel if self._target.form is Form.SENTINEL else self._reach
            self._looking = asyncio.get_running_loop().create_task(self._first_answer(ask))
            self._looking.add_done_callback(_heard)
        looking = self._looking
        await asyncio.wait({looking})  # who hangs up here ends it for nobody else
        if looking.cancelled():
            raise NoPrimary("its connections are being closed")
        return looking.result()

    def misled(self) -> None:
        """Ask those who led to what `find` returned last only after all others: it does not serve."""
        if self._guide is not None:
            self._ask_last(self._guide)
            self._guide = None

    async def close(self) -> None:
        """End a look that is under way; `find` may be called again."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _first_answer(self, ask: Callable[[Address], Awaitable[Address]]) -> Address:
        reasons = []
        for seed in tuple(self._seeds):
            try:
                async with Patience(self._patience_s):
                    found = await ask(seed)
            except FAILURES as err:
                reasons.append(f"{seed}: {words(err)}")
                self._ask_last(seed)
            else:
                self._guide = seed
                return found
        raise NoPrimary(f"nobody leads to the primary; {'; '.join(sorted(reasons))}")

    def _ask_last(self, seed: Address) -> None:
        self._seeds.remove(seed)
        self._seeds.append(seed)

    async def _reach(self, node: Address) -> Address:
        """Any node that answers will do, whatever it answers: it names the one that has the keys.

        A connection alone says nothing: for a process that hangs the kernel accepts it.
        """
        connection = await opened(self._target, node)
        try:
            await reply_to(connection, ("PING",))
        finally:
            await connection.disconnect(nowait=True)
        return node

    async def _ask_sentinel(self, sentinel: Address) -> Address:
        connection = unopened(self._target, sentinel, self._target.sentinel_login, db=0)
        try:
            reply = await reply_to(connection, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._target.service))
        finally:
            await connection.disconnect(nowait=True)
        if isinstance(reply, ResponseError):
            raise reply
        if reply is None:
            raise NoPrimary(f"it knows no {self._target.service!r}")
        host, port = cast("tuple[bytes, bytes]", reply)
        return Address(host.decode(), int(port))


def _heard(looking: asyncio.Task[Address]) -> None:
    """Take note of how it ended: when all who waited have hung up, asyncio would log a traceback each time."""
    if not looking.cancelled():
        looking.exception()
