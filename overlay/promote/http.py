"""Sessions towards upstream: no cookie, no netrc, no credential but the one that is given for a request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from overlay import __version__
from overlay.promote.hosts import Target
from overlay.promote.proxies import proxy_for

USER_AGENT: Final = f"overlay-index/{__version__} (promote)"
_CONNECT_S: Final = 30.0


@asynccontextmanager
async def session_to(target: Target) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session for one host. Each request has a connection of its own.

    A kept connection may be closed by the other side just when a POST is sent on it, and nobody could tell then whether
    the file arrived.
    """
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        # aiohttp's own trust in the environment brings netrc with it, which is none of the sources we name.
        trust_env=False,
        proxy=proxy_for(target.url),
    ) as session:
        yield session


async def beginning(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Read an answer up to a limit; the rest is left unread."""
    pieces: list[bytes] = []
    left = limit_bytes
    while piece := await response.content.read(left):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
