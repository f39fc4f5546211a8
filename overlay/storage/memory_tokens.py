"""Tokens in a dictionary, and what they have used up of their rates."""

from collections.abc import Iterable

from overlay.domain import rates
from overlay.domain.rights import Token


class Tokens:
    """Tokens by the hash of their text."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._tokens = {token.sha256: token for token in tokens}
        self._paid_until_us: dict[str, int] = {}

    def find(self, sha256: str) -> Token | None:
        """Find a token by the hash of its text."""
        return self._tokens.get(sha256)

    def listed(self) -> tuple[Token, ...]:
        """Return all tokens, the oldest first."""
        return tuple(sorted(self._tokens.values(), key=lambda token: (token.created_at_s, token.id)))

    def put(self, token: Token) -> None:
        """Add or replace a token."""
        self._tokens[token.sha256] = token

    def drop(self, token_id: str) -> None:
        """Forget a token."""
        self._tokens = {sha256: token for sha256, token in self._tokens.items() if token.id != token_id}

    def spend(self, token_id: str, per_minute: int, now_us: int) -> float:
        """Take one of the uploads that a token has; return the seconds until there is one, 0 where it was taken."""
        paid_until_us, wait_us = rates.taken(self._paid_until_us.get(token_id, 0), now_us, per_minute)
        held = {one: us for one, us in self._paid_until_us.items() if not rates.forgotten(us, now_us)}
        self._paid_until_us = held | {token_id: paid_until_us}
        return wait_us / 1_000_000
