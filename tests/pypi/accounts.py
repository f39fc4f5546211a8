"""Who may upload: tokens with their rights, and how a request shows one."""

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.pypi.orders import ADA, TOKEN, TOKENS_BEGIN, Publisher, Token
from tests.pypi.recording import CredentialKind

_USER: Final = "__token__"


@dataclass(frozen=True)
class Credential:
    """What a request shows, and what it is worth."""

    kind: CredentialKind
    token: Token | None = None
    """Known, and of a user; it may be expired or for another project."""
    minted: "Minted | None" = None

    @property
    def account(self) -> str:
        if self.minted is not None:
            return f"{self.minted.publisher.kind}:{self.minted.publisher.repository}"
        return self.token.user if self.token is not None else ""


@dataclass(frozen=True)
class Minted:
    """A token that a publisher got for an identity token."""

    text: str
    publisher: Publisher
    expires_at_s: float


class Accounts:
    """All tokens that the index knows."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {TOKEN: Token(text=TOKEN, user=ADA)}
        self._minted: dict[str, Minted] = {}

    def add(self, token: Token) -> None:
        self._tokens[token.text] = token

    def revoke(self, text: str) -> None:
        self._tokens.pop(text, None)
        self._minted.pop(text, None)

    def mint(self, publisher: Publisher, expires_at_s: float) -> Minted:
        """Make a token for the projects of a publisher."""
        minted = Minted(TOKENS_BEGIN + secrets.token_urlsafe(96), publisher, expires_at_s)
        self._minted[minted.text] = minted
        return minted

    def shown_by(self, headers: Mapping[str, str]) -> Credential:
        """Read the credential of a request."""
        scheme, _, value = headers.get("Authorization", "").partition(" ")
        match scheme.lower():
            case "":
                return Credential("none")
            case "token" | "bearer":
                return self._known("bearer", value)
            case "basic":
                user, password = _basic(value)
                return self._known("token", password.strip()) if user == _USER else Credential("password")
            case _:
                return Credential("other")

    def _known(self, kind: CredentialKind, text: str) -> Credential:
        return Credential(kind, self._tokens.get(text), self._minted.get(text))


def _basic(value: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user.strip(), password
