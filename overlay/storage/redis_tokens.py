"""Tokens in Redis, and what they have used up of their rates."""

from collections.abc import Callable
from typing import Final, cast

import msgspec

from overlay.domain.rates import MINUTE_US, share_us
from overlay.domain.rights import Token
from overlay.storage import redis_layout as layout
from overlay.storage import redis_scripts as scripts
from overlay.storage.redis_layout import Keys
from overlay.storage.redis_link import RedisLink

# Longer than anything is remembered by one clock, because those of hosts differ.
_SPENT_HELD_S: Final = 600


class RedisTokens:
    """Tokens by the hash of their text; `now_us` is the clock."""

    def __init__(self, link: RedisLink, keys: Keys, now_us: Callable[[], int]) -> None:
        self._link = link
        self._keys = keys
        self._now_us = now_us

    async def find(self, sha256: str) -> Token | None:
        """Find a token by the hash of its text."""
        keys = self._keys.ready, self._keys.key("tokens")
        _, value = cast("list[bytes | None]", await self._link.run(scripts.FIELD, keys, (sha256,)))
        return None if value is None else layout.read(value, Token)

    async def listed(self) -> tuple[Token, ...]:
        """Return all tokens, the oldest first."""
        keys = self._keys.ready, self._keys.key("tokens")
        _, values = await self._link.run(scripts.VALUES, keys)
        tokens = [layout.read(value, Token) for value in cast("list[bytes]", values)]
        return tuple(sorted(tokens, key=lambda token: (token.created_at_s, token.id)))

    async def put(self, token: Token) -> None:
        """Add or replace a token."""
        keys = self._keys.ready, self._keys.key("tokens"), self._keys.key("token-ids")
        await self._link.run(scripts.PUT_TOKEN, keys, (token.sha256, token.id, msgspec.json.encode(token)))

    async def drop(self, token_id: str) -> None:
        """Forget a token."""
        names = "ready", "tokens", "token-ids", "last-serial"
        await self._link.run(scripts.DROP_TOKEN, [self._keys.key(name) for name in names], (token_id,))

    async def spend(self, token_id: str, *, per_minute: int) -> float:
        """Take one of the uploads that a token has; return the seconds until there is one, 0 where it was taken."""
        share = share_us(per_minute)
        arguments = self._now_us(), share, share * per_minute, MINUTE_US, _SPENT_HELD_S
        keys = self._keys.ready, self._keys.spent(token_id)
        _, wait_us = await self._link.run(scripts.SPEND, keys, arguments)
        return cast("int", wait_us) / 1_000_000
