"""The scripted PyPI as a server on loopback: `async with pypi() as index`, in the test's own loop.

A strict model of legacy-upload §3 to §5, §8 and §9 and of trusted-publishing §2, with faults to order (`faults`), a
recording of what came (`recording`), and the simple API of what was uploaded. `process` runs it as a process of its
own.
"""

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from tests.pypi import control
from tests.pypi.faults import Dropped, Instead
from tests.pypi.oidc import AMBIENT_PATH, TrustedPublishing
from tests.pypi.orders import Job, Order
from tests.pypi.pages import Pages
from tests.pypi.recording import Received, Recording
from tests.pypi.refusals import said
from tests.pypi.scripting import PATIENCE_S
from tests.pypi.upload import Uploads
from tests.pypi.world import World

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HOST: Final = "127.0.0.1"
_UPLOAD_PATH: Final = "/legacy/"
_LONGEST_STOP_S: Final = 0.1
_RECEIVED: Final = web.RequestKey("received", Received)


class ScriptedPypi:
    """A Pypi in this process."""

    def __init__(self, url: str, world: World) -> None:
        self.url = url
        self.world = world
        self.uploads = Uploads(world)
        self.trusted_publishing = TrustedPublishing(world, url)
        self.pages = Pages(world, url)
        self._received: list[Received] = []
        self._under_way = 0
        self._ended = asyncio.Condition()

    @property
    def upload_url(self) -> str:
        return self.url + _UPLOAD_PATH

    @property
    def simple_url(self) -> str:
        return f"{self.url}/simple/"

    async def do(self, *orders: Order) -> None:
        for order in orders:
            self.world.do(order)

    async def job(self, job: Job) -> dict[str, str]:
        return self.trusted_publishing.environment(job)

    async def recording(self) -> Recording:
        # As JSON it is a copy that nothing changes any more, the same as from a process.
        return msgspec.json.decode(msgspec.json.encode(Recording(tuple(self._received))), type=Recording)

    async def settled(self) -> None:
        async with asyncio.timeout(PATIENCE_S), self._ended:
            await self._ended.wait_for(lambda: self._under_way == 0)

    async def reached(self, gate: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.world.faults.gates.reached(gate)

    def add_routes(self, app: web.Application) -> None:
        """Add all routes to an application."""
        add = app.router.add_route
        add("POST", _UPLOAD_PATH, self._noted(self._upload))
        add("*", _UPLOAD_PATH, self._noted(_wrong_method))
        add("*", "/legacy", self._noted(_redirected))
        add("GET", "/simple/", self._noted(self.pages.index))
        add("GET", "/simple/{project}/", self._noted(self.pages.project))
        add("GET", "/simple{rest:.*[^/]}", self._noted(_slashed))
        add("GET", "/packages/{path:.+}", self._noted(self.pages.file))
        add("GET", "/pypi/{project}/json", self._noted(self.pages.legacy_json))
        add("GET", "/_/oidc/audience", self._noted(self.trusted_publishing.audience))
        add("POST", "/_/oidc/mint-token", self._noted(self.trusted_publishing.mint))
        add("POST", "/_/oidc/github/mint-token", self._noted(self.trusted_publishing.mint))
        add("GET", AMBIENT_PATH, self._noted(self.trusted_publishing.ambient))
        add("*", "/{path:.*}", self._noted(_nothing))

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        return await self.uploads.answer(request, request[_RECEIVED])

    def _noted(self, handler: _Handler) -> _Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            request[_RECEIVED] = self._note(request)
            self._under_way += 1
            try:
                return await _answered(request, handler)
            finally:
                self._under_way -= 1
                async with self._ended:
                    self._ended.notify_all()

        return answer

    def _note(self, request: web.Request) -> Received:
        credential = self.world.accounts.shown_by(request.headers)
        received = Received(
            number=len(self._received) + 1,
            method=request.method,
            path=request.path,
            user_agent=request.headers.get("User-Agent", ""),
            credential=credential.kind,
            account=credential.account,
            content_length=request.content_length,
            stored_before=self.uploads.stored,
        )
        self._received.append(received)
        return received


async def _answered(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Let the handler answer, or a fault in its place, and note which."""
    received = request[_RECEIVED]
    try:
        response = await handler(request)
    except Instead as scripted:
        received.outcome = received.outcome or "scripted"
        response = said(request, scripted.answer.status, scripted.answer.message, scripted.answer.headers)
    except Dropped:
        received.outcome = received.outcome or "dropped"
        return web.Response()  # to nobody: the connection is gone
    if request.transport is not None and not request.transport.is_closing():
        received.status = response.status
    return response


async def _wrong_method(request: web.Request) -> web.StreamResponse:
    return said(request, 405, "Method Not Allowed", {"Allow": "POST"})


async def _redirected(_: web.Request) -> web.StreamResponse:
    return web.Response(status=308, headers={"Location": _UPLOAD_PATH})


async def _slashed(request: web.Request) -> web.StreamResponse:
    return web.Response(status=301, headers={"Location": f"{request.path}/"})


async def _nothing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="404 Not Found")


@contextlib.asynccontextmanager
async def pypi(
    *, port: int = 0, now_s: Callable[[], float] = time.time, controlled: bool = False
) -> AsyncIterator[ScriptedPypi]:
    """Serve on loopback until the block ends; `controlled` adds the routes of `control`."""
    with (
        tempfile.TemporaryDirectory(prefix="scripted-pypi-") as folder,
        # The socket comes first: its port is part of the pages.
        socket.create_server((HOST, port)) as listening,
    ):
        index = ScriptedPypi(f"http://{HOST}:{listening.getsockname()[1]}", World(Path(folder), now_s))
        app = web.Application()
        if controlled:
            control.add_routes(app, index)
        index.add_routes(app)
        runner = web.AppRunner(app, shutdown_timeout=_LONGEST_STOP_S, access_log=None)
        await runner.setup()
        try:
            await web.SockSite(runner, listening).start()
            yield index
        finally:
            await runner.cleanup()
