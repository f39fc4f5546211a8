"""The lead in Redis, and a rebuild under it.

The lease is renewed while its context lasts and lapses soon after its holder died. Nothing depends on clocks: every
step of a load is refused without the lease, out of order, or on a primary that lacks an earlier step, and a load that
began on one server never ends on another. So what becomes ready is always one whole load.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Final, TypeVar

import msgspec

from overlay.domain.errors import LeadLost, LedgerBusy, LedgerUnavailable
from overlay.domain.ledger_port import LedgerState
from overlay.domain.names import UploadId
from overlay.domain.promotion import Freeze
from overlay.domain.rights import Token
from overlay.domain.stage import StagedFile
from overlay.storage import redis_lead_scripts as scripts
from overlay.storage.redis_freezes import stored_freeze
from overlay.storage.redis_layout import Keys, nonce, stored
from overlay.storage.redis_link import LONG_PATIENCE_S, RedisLink
from overlay.storage.redis_scripts import Script

LEASE_MS: Final = 6000
_RENEWED_EVERY_S: Final = 2.0
_AT_ONCE: Final = 200

Item = TypeVar("Item")


@asynccontextmanager
async def leading(link: RedisLink, keys: Keys) -> AsyncIterator["RedisLead"]:
    """Hold the lead until the context ends. Raises LedgerBusy, LedgerUnavailable."""
    lead = RedisLead(link, keys, secrets.token_hex(16))
    await lead.take()
    renewal = asyncio.get_running_loop().create_task(lead.keep())
    try:
        yield lead
    finally:
        renewal.cancel()
        await asyncio.wait({renewal})  # awaited itself, it would swallow a cancellation of this task
        with suppress(LedgerUnavailable):  # then it lapses
            await lead.leave()


async def read_state(link: RedisLink, keys: Keys) -> LedgerState:
    """Read how the ledger is, in one round trip."""
    (epoch, note), server = await link.values_and_server((keys.ready, keys.key("reconciled")))
    reconciled_server, _, at_us = (note or b"").decode().partition(" ")
    return LedgerState(
        epoch=(epoch or b"").decode(),
        server=server,
        reconciled_server=reconciled_server,
        reconciled_at_us=int(at_us or 0),
    )


class RedisLead:
    """Lead: the holder of the lease that `token` marks."""

    def __init__(self, link: RedisLink, keys: Keys, token: str) -> None:
        self._link = link
        self._keys = keys
        self._token = token
        self._lease, self._steps = keys.key("lease"), keys.key("steps")
        self._done = 0

    async def take(self) -> None:
        """Take the lease. Raises LedgerBusy."""
        try:
            await self._link.run(scripts.TAKE_LEAD, (self._lease,), (self._token, LEASE_MS))
        except LeadLost as err:
            raise LedgerBusy from err

    async def keep(self) -> None:
        """Renew the lease until it is lost; while Redis is silent, go on trying."""
        while True:
            await asyncio.sleep(_RENEWED_EVERY_S)
            try:
                await self._link.run(scripts.RENEW_LEAD, (self._lease,), (self._token, LEASE_MS))
            except LeadLost:
                return
            except LedgerUnavailable:
                continue

    async def leave(self) -> None:
        """Give the lease back, unless it is another's by now."""
        await self._link.run(scripts.LEAVE_LEAD, (self._lease,), (self._token,))

    async def reconciled(self, server: str, at_us: int) -> None:
        """Remember a reconcile that went through. Raises LeadLost."""
        keys = self._lease, self._keys.key("reconciled")
        await self._link.run(scripts.LEADERS_NOTE, keys, (self._token, f"{server} {at_us}"))

    async def load(
        self,
        files: Sequence[StagedFile],
        tokens: Sequence[Token],
        freezes: Sequence[Freeze] = (),
        live: Sequence[UploadId] = (),
    ) -> None:
        """Replace the whole content, then be ready. Raises LeadLost."""
        keys = self._keys.ready, self._lease, self._steps
        await self._link.run(scripts.BEGIN_LOAD, keys, (self._token,))
        self._done = 0
        server = (await read_state(self._link, self._keys)).server
        await self._clear()
        for some_files in _batches(files):
            await self._load_files(some_files)
        for some_tokens in _batches(tokens):
            await self._load_tokens(some_tokens)
        for some_freezes in _batches(freezes):
            await self._load_freezes(some_freezes)
        for some_live in _batches(live):
            await self._step(scripts.LIVE_STEP, (self._keys.key("live"),), some_live)
        if (await read_state(self._link, self._keys)).server != server:
            raise LeadLost  # the list of what was to be cleared came from another server
        await self._finish(files)

    async def _clear(self) -> None:
        kept = {self._lease, self._steps, self._keys.key("last-serial")}
        found = [key for key in await self._link.keys(self._keys.key("*")) if key not in kept]
        for some in _batches(found):
            await self._step(scripts.CLEAR_STEP, some, ())

    async def _load_files(self, files: Sequence[StagedFile]) -> None:
        keys = [*self._keys.changed]
        arguments: list[str | bytes] = []
        for file in files:
            keys += self._keys.shelf(file.stage, file.project)
            arguments += (stored(file), nonce(), nonce())
        await self._step(scripts.FILES_STEP, keys, arguments)

    async def _load_tokens(self, tokens: Sequence[Token]) -> None:
        keys = [self._keys.key("tokens"), self._keys.key("token-ids")]
        arguments: list[str | bytes] = []
        for token in tokens:
            arguments += (token.sha256, token.id, msgspec.json.encode(token))
        await self._step(scripts.TOKENS_STEP, keys, arguments)

    async def _load_freezes(self, freezes: Sequence[Freeze]) -> None:
        arguments: list[str | bytes] = []
        for freeze in freezes:
            arguments += (freeze.promotion, stored_freeze(freeze))
        await self._step(scripts.FREEZES_STEP, self._keys.changed, arguments)

    async def _finish(self, files: Sequence[StagedFile]) -> None:
        greatest = max((file.serial for file in files), default=0)
        keys = [self._keys.key(name) for name in ("ready", "last-serial", "events-made")]
        await self._step(scripts.FINISH_STEP, keys, (secrets.token_hex(4), str(greatest)))

    async def _step(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes]) -> None:
        number = self._done + 1
        await self._link.run(
            script, (self._lease, self._steps, *keys), (self._token, number, *arguments), patience_s=LONG_PATIENCE_S
        )
        self._done = number


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    remaining = iter(items)
    while batch := list(islice(remaining, _AT_ONCE)):
        yield batch
