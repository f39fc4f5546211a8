"""A proxy before an overlay that stops one call of a promotion's run: before the overlay heard it, or after."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from enum import StrEnum

import aiohttp
from aiohttp import web

_PASSED_ON = ("Authorization", "Content-Type", "Accept", "User-Agent")


class When(StrEnum):
    """Whether the overlay has done what was asked when the call stops."""

    BEFORE = "before"
    AFTER = "after"


class Of(StrEnum):
    """Which calls are counted."""

    STEPS = "steps"
    """Plan, journal, looks."""
    FILES = "files"
    """The fetches of staged bytes."""
    LEASE = "lease"
    """The renewals."""


class GateProxy:
    """Counts the calls of a run that are of one kind; the chosen one hangs until `opened`, or is cut."""

    def __init__(self, to: str, number: int, when: When, of: Of, *, cut: bool) -> None:
        self.url = ""
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.calls: list[str] = []
        self._to = to
        self._number = number
        self._when = when
        self._of = of
        self._cut = cut

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        counted = _kind(request.path) is self._of
        if counted:
            self.calls.append(f"{request.method} {request.path.rpartition('/')[2]}")
        stops = counted and len(self.calls) - 1 == self._number
        if stops and self._when is When.BEFORE:
            await self._stop(request)
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, self._to + request.path_qs, data=body, headers=headers) as answer,
        ):
            content = await answer.read()
            kept = {name: answer.headers[name] for name in ("Content-Type",) if name in answer.headers}
        if stops and self._when is When.AFTER:
            await self._stop(request)
        return web.Response(status=answer.status, body=content, headers=kept)

    async def _stop(self, request: web.Request) -> None:
        self.reached.set()
        if self._cut:
            assert request.transport is not None
            request.transport.abort()
            raise ConnectionAbortedError
        await self.opened.wait()


def _kind(path: str) -> Of | None:
    if path.startswith("/files/"):
        return Of.FILES
    if "/api/v1/promotions" not in path:
        return None
    return Of.LEASE if path.endswith("/lease") else Of.STEPS


@contextlib.asynccontextmanager
async def gate_proxy(to: str, number: int, when: When, *, cut: bool, of: Of = Of.STEPS) -> AsyncIterator[GateProxy]:
    """Run one until the block ends; `number` counts calls from 0."""
    gate = GateProxy(to, number, when, of, cut=cut)
    runner = web.ServerRunner(web.Server(gate.handle), shutdown_timeout=0.1)  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gate.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield gate
    finally:
        await runner.cleanup()
