"""From errors to answers: the one table by (error class, door), looked up along the class order.

Doors: `simple` for pages and files that installers read, `upload` for the upload API, `api` for /api/v1, `page` for
people. Upload errors go out as PyPI's do, in the reason phrase, in JSON and in text (legacy-upload §3, §6); everything
else as RFC 9457 problems, or in text.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from aiohttp import web

from overlay.domain import errors as e
from overlay.domain.merge import timestamp
from overlay.domain.negotiate import prefers_json
from overlay.domain.promotion_errors import PromotionLost, PromotionRefused, PromotionRunning
from overlay.domain.wire import NO_PAGE
from overlay.domain.wire_promotions import LOST, REFUSED, RUNNING


class Door(Enum):
    """Where the request came in."""

    SIMPLE = 0
    UPLOAD = 1
    API = 2
    PAGE = 3


# One row a class: the status at each door, in the order of Door.
STATUSES: Final[dict[type[e.OverlayError], tuple[int, int, int, int]]] = {
    e.NotFound: (404, 404, 404, 404),
    e.Rejected: (400, 400, 400, 400),
    e.InvalidName: (404, 400, 400, 404),
    e.NotAcceptable: (406, 406, 406, 406),
    e.RetiredAction: (410, 410, 410, 410),
    e.TooLarge: (413, 413, 413, 413),
    e.Denied: (403, 403, 403, 403),
    e.NotAuthenticated: (401, 401, 401, 401),
    e.Conflict: (409, 400, 409, 409),  # PyPI answers 400 for a name that is taken, and clients look for that
    e.Unavailable: (503, 503, 503, 503),
    e.UpstreamUnavailable: (502, 503, 502, 502),
    e.StoreFull: (507, 507, 507, 507),
    e.SlowBody: (408, 408, 408, 408),
    # Not 5xx: twine sends those again at once, up to five times the whole file. What clients make of 429 is to fail and
    # to show the sentence, so it says when; Retry-After is for the scripts around them.
    e.RateExceeded: (429, 429, 429, 429),
    e.Corrupt: (500, 500, 500, 500),
    e.UpstreamCorrupt: (502, 503, 502, 502),
    e.InvalidConfig: (500, 500, 500, 500),
}

_RETRY_AFTER_S: Final = 1
_LONGEST_REASON: Final = 300
_CHALLENGE: Final = 'Basic realm="overlay", charset="UTF-8"'


def status_of(error: e.OverlayError, door: Door) -> int:
    """Return the status of the nearest class that has a row."""
    for kind in type(error).__mro__:
        row = STATUSES.get(kind)
        if row is not None:
            return row[door.value]
    raise LookupError(type(error))


def answer(error: e.OverlayError, door: Door, accept: str | None) -> web.Response:
    """Form the answer to a request that ended in an error of ours."""
    status = status_of(error, door)
    headers = {"Cache-Control": "no-store"}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(_RETRY_AFTER_S)
    if isinstance(error, e.RateExceeded):
        headers["Retry-After"] = str(error.wait_s)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _CHALLENGE
    return said(status, str(error), door, accept, headers, _members(error))


def _members(error: e.OverlayError) -> Mapping[str, object]:
    """Return what an error's problem has beside the sentence (RFC 9457 §3.1.1, §3.2)."""
    match error:
        case e.UnknownPage():
            return {"type": NO_PAGE}
        case PromotionRefused():
            return {"type": REFUSED, "refusals": [asdict(refusal) for refusal in error.refusals]}
        case PromotionRunning():
            return {"type": RUNNING, "leased_until": timestamp(error.until_us)}
        case PromotionLost():
            return {"type": LOST}
        case _:
            return {}


def said(
    status: int,
    sentence: str,
    door: Door,
    accept: str | None,
    headers: dict[str, str],
    members: Mapping[str, object] = MappingProxyType({}),
) -> web.Response:
    """Form an answer that says one sentence, in the shape of the door and the format the client takes.

    `members` stand in a problem beside what all problems have, or instead of it.
    """
    title = HTTPStatus(status).phrase
    if door is Door.UPLOAD:
        # twine, flit, hatch and pdm show only the reason phrase.
        reason = _phrase(sentence)
        if prefers_json(accept):
            body = {"message": sentence, "code": f"{status} {sentence}", "title": title}
            # uv reads the message only if the type is exactly this, without a charset.
            return _json(status, body, "application/json", headers, reason)
        return web.Response(status=status, reason=reason, text=f"{status} {sentence}\n", headers=headers)
    if door is Door.API or prefers_json(accept):
        problem = {"type": "about:blank", "title": title, "status": status, "detail": sentence, **members}
        return _json(status, problem, "application/problem+json", headers, None)
    return web.Response(status=status, text=f"{status} {title}\n\n{sentence}\n", headers=headers)


def _json(
    status: int, body: Mapping[str, object], content_type: str, headers: dict[str, str], reason: str | None
) -> web.Response:
    return web.Response(
        status=status, reason=reason, body=json.dumps(body).encode(), headers={**headers, "Content-Type": content_type}
    )


def _phrase(sentence: str) -> str:
    """Make a sentence fit for the status line: one line of printable ASCII."""
    line = "".join(char if " " <= char <= "~" else "?" for char in " ".join(sentence.replace("…", "...").split()))
    if len(line) <= _LONGEST_REASON:
        return line
    return line[: _LONGEST_REASON - 4].rpartition(" ")[0] + " ..."
