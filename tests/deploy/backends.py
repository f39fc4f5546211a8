"""Small servers to stand behind nginx, which remember what reached them."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from tests.ports import HOST, free_port

LIMIT_S = 30.0
"""How long a test waits for something before it fails."""

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Backend:
    """A server on a port of its own; `requests` is what came, `connections` the sender's port of each."""

    port: int
    answer: Answer
    requests: list[web.Request] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [request.raw_path for request in self.requests]


async def ok(_request: web.Request) -> web.StreamResponse:
    """Answer 200 without reading a body."""
    return web.Response(text="ok")


async def said(status: int, _request: web.Request) -> web.StreamResponse:
    return web.Response(status=status)


def always(status: int) -> Answer:
    return partial(said, status)


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection once the request is there, as a process does that dies over it."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@contextlib.asynccontextmanager
async def backend(answer: Answer = ok, port: int | None = None) -> AsyncIterator[Backend]:
    """Serve every path and method with `answer`."""
    served = Backend(port or free_port(), answer)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.Request)
        assert request.transport is not None
        served.requests.append(request)
        served.connections.append(request.transport.get_extra_info("peername")[1])
        return await served.answer(request)

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, max_field_size=64 * 1024, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, served.port).start()
        yield served
    finally:
        await runner.cleanup()
