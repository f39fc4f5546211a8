"""How the scripted PyPI says no: in the reason phrase and in a body of the kind that `Accept` asks for."""

import html
import http
import json
from collections.abc import Mapping

from aiohttp import web


class Refused(Exception):
    """An upload is refused (legacy-upload §3)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def bad(message: str) -> Refused:
    """Refuse with 400."""
    return Refused(400, message)


def forbidden(message: str) -> Refused:
    """Refuse with 403."""
    return Refused(403, message)


def said(request: web.Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Form an answer with a message; "" is the status's own phrase."""
    title = http.HTTPStatus(status).phrase
    message = message or title
    # PyPI replaces what latin-1 lacks; here ASCII is the limit, because aiohttp writes the reason as UTF-8.
    reason = " ".join(message.encode("ascii", "replace").decode().split())
    html_wanted, json_wanted = (_quality(request, kind) for kind in ("text/html", "application/json"))
    if html_wanted and html_wanted >= json_wanted:
        kind, body = "text/html; charset=UTF-8", f"<html><h1>{title}</h1>{html.escape(message)}</html>\n"
    elif json_wanted:
        kind = "application/json"
        body = json.dumps({"message": message, "code": f"{status} {reason}", "title": title})
    else:
        kind, body = "text/plain; charset=UTF-8", f"{status} {title}\n\n{message}\n"
    return web.Response(
        status=status, reason=reason, body=body.encode(), headers={"Content-Type": kind, **(headers or {})}
    )


def _quality(request: web.Request, kind: str) -> float:
    """Say how much a type is wanted (RFC 9110 12.5.1), as far as clients' headers go."""
    wanted = 0.0
    for item in request.headers.get("Accept", "*/*").split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name in {kind, "*/*"}:
            weights = [float(value[2:]) for value in parameters if value.startswith("q=")]
            wanted = max(wanted, weights[0] if weights else 1.0)
    return wanted
