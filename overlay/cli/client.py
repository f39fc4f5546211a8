"""The command line's side of /api/v1: one request, one noun of `overlay.domain.wire`, or one sentence.

No redirect is followed: the token would go with it to wherever it leads, and the address of an overlay is what its
operator says it is.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Self, TypeVar

import aiohttp
import msgspec
from yarl import URL

from overlay import __version__
from overlay.cli.outcome import FAILED, REFUSED, USAGE, CommandFailed
from overlay.domain.rights import FOREIGN_PREFIX
from overlay.domain.wire import API, NO_PAGE, Problem
from overlay.promote.answers import decoded
from overlay.promote.errors import PromoteError
from overlay.promote.http import broken
from overlay.promote.proxies import proxy_for

# Long enough for a sweep of a large store; a server that hangs says nothing for that long.
_SILENT_S: Final = 120.0
_CONNECT_S: Final = 10.0
_QUOTED: Final = 300
# A proxy says so of what it holds back; it never reached the overlay.
_ASK_LATER: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_REFUSALS: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT})

Noun = TypeVar("Noun", bound=msgspec.Struct)


class Unreachable(CommandFailed):
    """The server did not answer, or answered that it cannot now; asking again may help."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where the overlay is, and the token for it."""

    url: URL
    token: str = field(repr=False)
    """Empty when there is none."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of the server as it came."""

    status: int
    reason: str
    location: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to the API; `path` is below /api/v1 and percent-encoded."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    order: msgspec.Struct | None = None


def server(url: str | None, environment: Mapping[str, str]) -> Server:
    """Find the server: `--url`, else OVERLAY_URL; the token is in OVERLAY_TOKEN. Raises CommandFailed (usage)."""
    named = (url or environment.get("OVERLAY_URL", "")).strip()
    if not named:
        raise CommandFailed("Which overlay? Set OVERLAY_URL, or give --url http://127.0.0.1:8080.", USAGE)
    try:
        address = URL(named.rstrip("/"))
    except ValueError as err:
        raise CommandFailed("The overlay's URL is none; it looks like http://127.0.0.1:8080.", USAGE) from err
    if address.scheme not in {"http", "https"} or not address.host:
        raise CommandFailed("The overlay's URL begins with http:// or https:// and names a host.", USAGE)
    if address.user or address.password:
        raise CommandFailed("The overlay's URL holds a credential; put it into OVERLAY_TOKEN instead.", USAGE)
    token = environment.get("OVERLAY_TOKEN", "").strip()
    if token.startswith(FOREIGN_PREFIX):
        raise CommandFailed(
            "OVERLAY_TOKEN holds a token of pypi.org; it was not sent. A token of an overlay begins ovl_.", REFUSED
        )
    return Server(address, token)


def run(at: Server, call: Call, answer: type[Noun]) -> Noun:
    """Make one call and wait for its answer. Raises CommandFailed."""

    async def once() -> Noun:
        async with Connection(at) as connection:
            return await connection.call(call, answer)

    return asyncio.run(once())


def order(at: Server, call: Call) -> None:
    """Make one call that has nothing to answer. Raises CommandFailed."""

    async def once() -> None:
        async with Connection(at) as connection:
            await connection.body(call)

    asyncio.run(once())


class Connection:
    """Calls to one server; `async with` closes it."""

    def __init__(self, at: Server) -> None:
        self._at = at

    async def __aenter__(self) -> Self:
        headers = {"User-Agent": f"overlay-index/{__version__}", "Accept": "application/json"}
        if self._at.token:
            headers["Authorization"] = f"Bearer {self._at.token}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENT_S),
            # aiohttp's own trust in the environment brings netrc with it, whose credentials contradict the token.
            trust_env=False,
            proxy=_proxy(self._at.url),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, call: Call, answer: type[Noun]) -> Noun:
        """Make a call and read its answer. Raises CommandFailed, Unreachable."""
        body = await self.body(call)
        try:
            return msgspec.json.decode(body, type=answer)
        except msgspec.DecodeError as err:
            raise CommandFailed(
                f"{self._at.url} answered something that is not the overlay's API. Is OVERLAY_URL right?", FAILED
            ) from err

    async def body(self, call: Call) -> bytes:
        """Make a call and return the bytes of its answer. Raises CommandFailed, Unreachable."""
        answered = await self.ask(call)
        if answered.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self.failure(answered)
        return answered.body

    async def ask(self, call: Call) -> Answered:
        """Make a call and return its answer, whatever its status. Raises Unreachable."""
        url = URL(f"{self._at.url}{API}{call.path}", encoded=True).with_query(list(call.query))
        data = None if call.order is None else msgspec.json.encode(call.order)
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            async with self._session.request(
                call.method, url, data=data, headers=headers, allow_redirects=False
            ) as response:
                location = response.headers.get("Location", "elsewhere")[:_QUOTED]
                return Answered(response.status, response.reason or "", location, await response.read())
        except (aiohttp.ClientError, TimeoutError) as err:
            raise Unreachable(f"Cannot reach the overlay at {self._at.url}: {_reason(err)}", FAILED) from err

    def failure(self, answered: Answered) -> CommandFailed:
        """Say why a call of the API failed."""
        problem = decoded(answered.body, Problem)
        failed = self._failed(answered, self._at.url)
        if answered.status == HTTPStatus.NOT_FOUND and (problem is None or problem.type == NO_PAGE):
            hint = f"No overlay has its API at {self._at.url}{API}. Is OVERLAY_URL right, path and all?"
            return CommandFailed(f"{failed}\n{hint}", FAILED)
        return failed

    def _failed(self, answered: Answered, asked: URL) -> CommandFailed:
        status = answered.status
        if status < HTTPStatus.BAD_REQUEST:
            return CommandFailed(
                f"{self._at.url} redirects to {answered.location}, which is not followed. Set OVERLAY_URL to the "
                "overlay's own address.",
                FAILED,
            )
        problem = decoded(answered.body, Problem)
        detail = f"{asked} answered {status} {answered.reason}." if problem is None else problem.detail
        if status == HTTPStatus.UNAUTHORIZED:
            held = "The token in OVERLAY_TOKEN was not accepted." if self._at.token else "OVERLAY_TOKEN is not set."
            return CommandFailed(f"{detail}\n{held} Set it to a token of {self._at.url} (ovl_…).", REFUSED)
        if status == HTTPStatus.FORBIDDEN:
            return CommandFailed(f"{detail}\nSet OVERLAY_TOKEN to a token that may do this.", REFUSED)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _ASK_LATER:
            return Unreachable(detail, FAILED)
        return CommandFailed(detail, REFUSED if status in _REFUSALS else FAILED)

    @asynccontextmanager
    async def stream(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """GET what lies at a URL of this server, piece by piece. Raises CommandFailed, Unreachable.

        Only the path counts: behind whatever public name the server knows itself, it is asked where it is known here.
        Sent on to a store (`[store] downloads = "redirect"`), the token stays behind.
        """
        address = self._at.url.origin().join(URL(URL(url, encoded=True).raw_path, encoded=True))
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(self._session.get(address, allow_redirects=False))
                if response.status == HTTPStatus.FOUND:
                    there = URL(response.headers.get("Location", ""), encoded=True)
                    bare = await stack.enter_async_context(
                        aiohttp.ClientSession(timeout=self._session.timeout, trust_env=False, proxy=_proxy(there))
                    )
                    response = await stack.enter_async_context(bare.get(there, allow_redirects=False))
                if response.status != HTTPStatus.OK:
                    location = response.headers.get("Location", "elsewhere")[:_QUOTED]
                    answered = Answered(response.status, response.reason or "", location, await response.read())
                    raise self._failed(answered, response.url.origin())
                yield response.content.iter_any()
            except (aiohttp.ClientError, TimeoutError) as err:
                raise Unreachable(f"Cannot read from the overlay at {self._at.url}: {_reason(err)}", FAILED) from err


def _proxy(url: URL) -> str | None:
    try:
        return proxy_for(url)
    except PromoteError as err:
        raise CommandFailed(str(err), int(err.ending)) from err


def _reason(err: aiohttp.ClientError | TimeoutError) -> str:
    if isinstance(err, aiohttp.ClientConnectorError) and not isinstance(err, aiohttp.ClientProxyConnectionError):
        refused = isinstance(err.os_error, ConnectionRefusedError)
        return "the connection was refused. Is it running?" if refused else str(err.os_error)
    return broken(err)
