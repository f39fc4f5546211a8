"""What upstream's answer to one POST means (legacy-upload §3, §10).

Only three things are certain: it accepted the file, it refused it, or no byte of it arrived. Everything else, and also
"that name is taken", is settled by looking at upstream's page.
"""

import json
import math
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias, TypeVar

import msgspec

_LONGEST_WORDS: Final = 500
# Answers of other indexes go as far as 202 (a file that waits for a scan).
_ACCEPTED: Final = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED})
# A form that is answered so was read (RFC 9110 §15.4.4), and may have been taken; 307 and 308 want it elsewhere.
_READ: Final = frozenset({HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER})
_ASK_LATER: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
# legacy-upload §3 step 31: PyPI keeps the first words for its clients; others (§7) have the rest, or answer 409. They
# decide only whether upstream's page is looked at.
_TAKEN: Final = re.compile(
    "already exist|updating asset|cannot be updated|already been taken|overwrite artifact", re.IGNORECASE
)
_MAY_BE_TAKEN: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN})
_LEADING_STATUS: Final = re.compile(r"[0-9]{3} ")
_JSON_WORDS: Final = ("detail", "code", "message", "title")


Noun = TypeVar("Noun", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Upstream took the file, or holds these very bytes already."""

    status: int
    said: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Upstream does not take the file; sending it again changes nothing."""

    status: int
    said: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Upstream says that it has a file of this name, or may have taken this one in its own way: its page knows."""

    status: int
    said: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Upstream may or may not have the file; status None: its answer was lost."""

    status: int | None
    said: str
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NotSent:
    """No connection: upstream certainly got nothing."""

    said: str


Answer: TypeAlias = Accepted | Refused | Taken | Unknown | NotSent


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer as it came; `body` may be cut off."""

    status: int
    reason: str
    content_type: str
    body: bytes
    location: str = ""
    retry_after: str = ""


def classify(reply: Reply) -> Answer:
    """Say what an answer means."""
    if HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.BAD_REQUEST:
        return _redirected(reply)
    said = words(reply)
    if reply.status in _ACCEPTED:
        return Accepted(reply.status, said)
    if HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:  # a success to some clients (§6)
        return Taken(reply.status, said or f"It answered {reply.status}, which does not say whether it has the file.")
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.status in _ASK_LATER:
        return Unknown(reply.status, said, _seconds(reply.retry_after))
    taken = reply.status in _MAY_BE_TAKEN and _TAKEN.search(f"{said} {reply.reason}")
    return Taken(reply.status, said) if taken or reply.status == HTTPStatus.CONFLICT else Refused(reply.status, said)


def _redirected(reply: Reply) -> Taken | Refused:
    said = f"It redirects to {one_line(reply.location) or 'elsewhere'}, which is not followed."
    return Taken(reply.status, said) if reply.status in _READ else Refused(reply.status, said)


def words(reply: Reply) -> str:
    """Return upstream's own words, on one line and without control characters; "" when it said nothing of its own.

    PyPI puts its sentence into the reason phrase, and into JSON as `code`, behind the status; its `message` begins with
    words that say nothing. HTTP/2 has no reason phrase, and proxies drop it.
    """
    if _is_own(reply.reason, reply.status):
        return one_line(reply.reason)
    media_type = reply.content_type.partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        return one_line(_json_words(reply))
    if media_type == "text/plain":
        return one_line(reply.body.decode("utf-8", "replace"))
    return ""


def decoded(body: bytes, noun: type[Noun]) -> Noun | None:
    """Decode JSON; None for what is something else, such as another server's page."""
    try:
        return msgspec.json.decode(body, type=noun)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def one_line(text: str) -> str:
    """Fold blanks, replace what cannot be printed (a terminal would obey it), and shorten."""
    folded = " ".join(text.split())
    shown = "".join(letter if letter.isprintable() else "�" for letter in folded)
    return shown if len(shown) <= _LONGEST_WORDS else f"{shown[: _LONGEST_WORDS - 1]}…"


def _is_own(words_: str, status: int) -> bool:
    """Say whether words are more than the standard's name of the status."""
    try:
        standard = HTTPStatus(status).phrase
    except ValueError:
        standard = ""
    return bool(words_.strip()) and words_.strip().lower() != standard.lower()


def _json_words(reply: Reply) -> str:
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    for key in _JSON_WORDS:
        value = document.get(key)
        if isinstance(value, str) and _is_own(said := _LEADING_STATUS.sub("", value, count=1), reply.status):
            return said
    return ""


def _seconds(retry_after: str) -> float:
    """Read Retry-After in seconds; a date, which needs a clock in common, counts as none."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
