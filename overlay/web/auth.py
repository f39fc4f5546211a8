"""From the Authorization header to a token: Basic with any user name, or Bearer (RFC 7617, RFC 6750)."""

import base64

from aiohttp import web

from overlay.domain.rights import PREFIX, Right, Token
from overlay.services.access import require
from overlay.services.ledger_patience import from_ledger
from overlay.web.context import SERVICES, SETTINGS


def secret_of(request: web.BaseRequest) -> str | None:
    """Return the credential of the request, or None. A malformed header is none."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    match scheme.lower():
        case "bearer" | "token":
            return value.strip() or None
        case "basic":
            try:
                user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
            except ValueError:  # no base64, not ASCII, not UTF-8
                return None
            # https://ovl_…@host: a token where the user name stands
            secret = (password or (user if user.startswith(PREFIX) else "")).strip()
            return secret or None
        case _:
            return None


async def caller(request: web.Request) -> Token:
    """Authenticate the request. Raises NotAuthenticated, ForeignToken."""
    return await request.app[SERVICES].access.authenticate(secret_of(request))


async def check_reader(request: web.Request) -> None:
    """Let everybody read, or whoever has the right where `[read] open = false`.

    Raises NotAuthenticated, ForeignToken, NotGranted. A credential that is sent while reading is open is ignored:
    pip and uv send what a netrc has, and a page that all may read should not fail for it.
    """
    if not request.app[SETTINGS].read_open:
        require(await from_ledger(caller(request)), Right.READ)
