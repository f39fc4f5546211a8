"""Sessions towards upstream: no cookie, no netrc, no credential but the one that is given for a request."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from overlay import __version__
from overlay.promote.answers import one_line
from overlay.promote.errors import Refused
from overlay.promote.hosts import Target
from overlay.promote.proxies import proxy_for

USER_AGENT: Final = f"overlay-index/{__version__} (promote)"
_CONNECT_S: Final = 30.0


@asynccontextmanager
async def session_to(target: Target, tls: ssl.SSLContext | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session for one host; `tls` as `overlay.promote.tls` reads it. Each request has a connection of its own.

    A kept connection may be closed by the other side just when a POST is sent on it, and nobody could tell then whether
    the file arrived.
    """
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, ssl=True if tls is None else tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        # aiohttp's own trust in the environment brings netrc with it, which is none of the sources we name.
        trust_env=False,
        proxy=proxy_for(target.url),
    ) as session:
        yield session


def untrusted(target: Target, err: aiohttp.ClientConnectorCertificateError) -> Refused:
    """Say that a host is not trusted, and what to do."""
    found = err.certificate_error
    why = found.verify_message if isinstance(found, ssl.SSLCertVerificationError) else type(found).__name__
    return Refused(
        f"{target.host} showed a certificate that is not trusted here ({one_line(why)}). For an authority of your own, "
        "name its certificate: REQUESTS_CA_BUNDLE, else TWINE_CERT, else ca_cert in .pypirc."
    )


def broken(err: aiohttp.ClientError | TimeoutError) -> str:
    """Say why there was no answer, in a line; never with the proxy's address, which may hold a password."""
    match err:
        case aiohttp.ClientHttpProxyError():
            return one_line(f"The proxy refused: {err.status} {err.message}.")
        case aiohttp.ClientProxyConnectionError():
            return one_line(f"The proxy cannot be reached: {err.os_error.strerror or type(err.os_error).__name__}.")
        case aiohttp.ClientConnectorError():
            return one_line(str(err))
        case TimeoutError():
            return "It did not answer in time."
        case _:
            return one_line(f"The connection broke ({type(err).__name__}).")


async def beginning(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Read an answer up to a limit; the rest is left unread."""
    pieces: list[bytes] = []
    left = limit_bytes
    while piece := await response.content.read(left):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
