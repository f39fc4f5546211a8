"""What a token of pypi.org or test.pypi.org says of itself (trusted-publishing §5): a macaroon, read and not verified.

Binary macaroons, version 2: a byte 2, then fields of (type, length, bytes), both numbers as varints, in sections that a
type 0 ends. The first section has the location (1) and the identifier (2); each section after it is one caveat, whose
identifier is PyPI's JSON array [tag, …]; an empty section ends them. Everything here is a courtesy to people, before
anything is sent: what cannot be read says nothing, and the index decides.
"""

import base64
import binascii
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from overlay.domain.errors import InvalidName
from overlay.domain.names import NormalizedName, project_name
from overlay.domain.rights import FOREIGN_PREFIX
from overlay.promote.clock import moment

_VERSION: Final = 2
_END, _LOCATION, _IDENTIFIER = 0, 1, 2
_VARINT_BITS: Final = 7
_LONGEST_VARINT: Final = 5
# The tags of PyPI's caveats.
_EXPIRATION, _PROJECT_NAMES, _PROJECT_IDS = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What a token says of itself; all its limits hold together."""

    location: str
    """The index that issued it: its domain."""
    expires_s: float | None = None
    """Seconds since the epoch, the earliest; None: never."""
    projects: frozenset[NormalizedName] | None = None
    """The only projects it is for, by name; None: it does not say so."""
    is_for_existing: bool = False
    """It is bound to projects that exist (by name or number): it can create none."""


def read(token: str) -> TokenFacts | None:
    """Read a token `pypi-…`; None where not even the location can be read. Caveats that cannot be read say nothing."""
    if not token.startswith(FOREIGN_PREFIX):
        return None
    packed = token.removeprefix(FOREIGN_PREFIX)
    try:
        # What is cut off belongs to the signature at the end; so padding, which PyPI leaves out, does not matter.
        body = base64.b64decode(packed[: len(packed) // 4 * 4], altchars=b"-_", validate=True)
        location = _location(body)
    except (binascii.Error, ValueError, LookupError):
        return None
    try:
        caveats = [_caveat(section[_IDENTIFIER]) for section in list(_sections(body))[1:]]
    except (ValueError, LookupError, RecursionError):
        caveats = []
    return _facts(location, caveats)


def _location(body: bytes) -> str:
    """Return the first field. Raises ValueError, IndexError."""
    if body[0] != _VERSION or body[1] != _LOCATION:
        raise ValueError("no macaroon of an index")
    length, at = _varint(body, 2)
    return body[at : at + length].decode("ascii")


def _sections(body: bytes) -> Iterator[dict[int, bytes]]:
    """Yield the sections before the empty one. Raises ValueError, IndexError."""
    at, section = 1, dict[int, bytes]()
    while True:
        kind, at = _varint(body, at)
        if kind != _END:
            length, at = _varint(body, at)
            section[kind] = body[at : at + length]
            if len(section[kind]) != length:
                raise ValueError("cut off")
            at += length
        elif section:
            yield section
            section = {}
        else:
            return


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return a number and where it ends. Raises ValueError, IndexError."""
    number = 0
    for place in range(_LONGEST_VARINT):
        byte = body[at + place]
        number |= (byte & 0x7F) << (_VARINT_BITS * place)
        if byte < 1 << _VARINT_BITS:
            return number, at + place + 1
    raise ValueError("a number without end")


def _facts(location: str, caveats: list[tuple[int, object]]) -> TokenFacts:
    ends = [end for tag, value in caveats if tag == _EXPIRATION and (end := moment(value)) is not None]
    named = [_names(value) for tag, value in caveats if tag == _PROJECT_NAMES]
    return TokenFacts(
        location=location,
        expires_s=min(ends, default=None),
        projects=frozenset.intersection(*named) if named else None,
        is_for_existing=any(tag in {_PROJECT_NAMES, _PROJECT_IDS} for tag, _ in caveats),
    )


def _caveat(raw: bytes) -> tuple[int, object]:
    """Return a caveat's tag and its first field; -1 for what is not PyPI's."""
    caveat = json.loads(raw)
    match caveat:
        case [int(tag), value, *_]:
            return tag, value
        case _:
            return -1, None


def _names(value: object) -> frozenset[NormalizedName]:
    return frozenset(_normalized(value if isinstance(value, list) else []))


def _normalized(names: list[object]) -> Iterator[NormalizedName]:
    for name in names:
        with contextlib.suppress(InvalidName):
            yield project_name(name if isinstance(name, str) else "")
