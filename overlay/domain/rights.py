"""Tokens and what they may do (default: nothing).

A token is `ovl_` + 40 random base-62 characters (238 bits) + a checksum of 6 characters (CRC-32, base 62), so that a
mistyped token is told apart from an unknown one and secret scanners can recognise ours. Only its sha256 is kept: the
text is random, so a password hash would add cost and no strength. Never `pypi-…`: scanners would report ours to PyPI.
"""

import re
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from overlay.domain.errors import InvalidName
from overlay.domain.names import NormalizedName, StageId, project_name

PREFIX: Final = "ovl_"
FOREIGN_PREFIX: Final = "pypi-"
ADMIN_GRANT: Final = "admin"
EVERY_PROJECT: Final = "*"
# OVERLAY_ADMIN_TOKEN is chosen by the operator, without checksum: at least this many characters (design §9).
SHORTEST_ADMIN_TOKEN: Final = 32

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH: Final = 40
_CHECKSUM_LENGTH: Final = 6
_FAMILY = re.compile(r"([a-z0-9][a-z0-9-]{2,})-\*")


class Right(StrEnum):
    """What a token may do with the projects of its patterns."""

    READ = "read"
    ADD = "add"
    STAGE = "stage"
    PROMOTE = "promote"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token without its text. `projects` are patterns, `stages` are stage ids or "*"."""

    id: str
    """The first 16 hex digits of `sha256`."""
    sha256: str
    label: str
    rights: tuple[Right, ...]
    projects: tuple[str, ...]
    stages: tuple[str, ...]
    created_at_s: int
    expires_at_s: int | None = None
    """Seconds since the epoch; the token holds while the clock is below. None: never ends."""

    def allows(self, right: Right) -> bool:
        """Say whether the token carries the right; `admin` carries every one, `stage` carries `add`."""
        if Right.ADMIN in self.rights:
            return True
        return right in self.rights or (right is Right.ADD and Right.STAGE in self.rights)

    def expired(self, now_s: float) -> bool:
        """Say whether the token has ended."""
        return self.expires_at_s is not None and now_s >= self.expires_at_s


def mint(random_bits: int) -> str:
    """Form a token's text from at least 238 random bits."""
    body = PREFIX + _base62(random_bits % 62**_RANDOM_LENGTH, _RANDOM_LENGTH)
    return body + _checksum(body)


def mistyped(text: str) -> bool:
    """Say whether the text has the form of a minted token but not its checksum."""
    if not text.startswith(PREFIX) or len(text) != len(PREFIX) + _RANDOM_LENGTH + _CHECKSUM_LENGTH:
        return False
    return _checksum(text[:-_CHECKSUM_LENGTH]) != text[-_CHECKSUM_LENGTH:]


def project_pattern(raw: str) -> str:
    """Check a project pattern: a project name (normalized here), `<3 or more characters>-*`, or `*`.

    Raises InvalidName.
    """
    if raw == EVERY_PROJECT or _FAMILY.fullmatch(raw):
        return raw
    if "*" in raw:
        raise InvalidName("project pattern (an exact name, three or more characters and -*, or *)", raw)
    return project_name(raw)


def covers_stage(token: Token, stage: StageId) -> bool:
    """Say whether the token may touch the stage."""
    return Right.ADMIN in token.rights or stage in token.stages or "*" in token.stages


def grant_for(token: Token, project: NormalizedName, *, on_upstream: bool) -> str | None:
    """Return the pattern by which the token covers the project, or None.

    `*` covers only names that upstream does not have: PyPI's owners are not knowable from here, and this rule is the
    protection against dependency confusion (design §9).
    """
    if Right.ADMIN in token.rights:
        return ADMIN_GRANT
    if project in token.projects:
        return project
    for pattern in token.projects:
        if pattern != EVERY_PROJECT and pattern.endswith("-*") and project.startswith(pattern[:-1]):
            return pattern
    if EVERY_PROJECT in token.projects and not on_upstream:
        return EVERY_PROJECT
    return None


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)
