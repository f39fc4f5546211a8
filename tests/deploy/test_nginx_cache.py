"""The shared cache of deploy/nginx.conf, which ships as comments: it saves bytes and breaks none of the promises."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from tests.deploy.backends import Backend, backend
from tests.nginx import nginx_in_front_of
from tests.ports import HOST

PAGE, FILE, SECRET = "/simple/demo/", "/files/demo/id/demo-1.0.tar.gz", "/s/st_x/simple/demo/"
HTML, JSON = "text/html", "application/vnd.pypi.simple.v1+json"
IMMUTABLE = "max-age=31536000, immutable"


@dataclass
class Overlay:
    """What an overlay answers: 200 or 304 by the ETag, or an error for everything."""

    bodies: dict[str, str] = field(default_factory=dict)
    cache_control: str = "no-cache"
    failing: int = 0
    asked_for: list[str] = field(default_factory=list)
    """The If-None-Match of each request; empty: there was none."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked_for.append(request.headers.get("If-None-Match", ""))
        if self.failing:
            return web.Response(status=self.failing, headers={"Cache-Control": "no-store"})
        kind = JSON if request.headers.get("Accept") == JSON else HTML
        body = f"{kind}: {self.bodies[request.path]}"
        headers = {
            "ETag": f'"{abs(hash(body))}"',
            "Cache-Control": self.cache_control,
            "Vary": "Accept, Accept-Encoding",
        }
        if self.asked_for[-1] == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(text=body, content_type=kind, headers=headers)


@dataclass
class Cached:
    """An nginx with the cache, an overlay behind it, a client before it."""

    url: str
    overlay: Overlay
    served: Backend
    session: aiohttp.ClientSession

    async def get(self, path: str = PAGE, **headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(self.url + path, headers=named) as response:
            return response.status, await response.text()


@contextlib.asynccontextmanager
async def cached(folder: Path, overlay: Overlay) -> AsyncIterator[Cached]:
    async with backend(overlay.answer) as served, aiohttp.ClientSession() as session:
        with nginx_in_front_of([served.port], folder, enabled=["cache"]) as url:
            yield Cached(url, overlay, served, session)


@pytest.mark.parametrize(("path", "cache_control"), [(PAGE, "no-cache"), (FILE, IMMUTABLE)])
async def test_bytes_come_from_the_cache_and_the_word_from_the_overlay(
    tmp_path: Path, path: str, cache_control: str
) -> None:
    """Each request is asked of the overlay, with the ETag of what nginx has; what has changed is seen at once."""
    overlay = Overlay({path: "one"}, cache_control)
    async with cached(tmp_path, overlay) as nginx:
        for _ in range(3):
            assert await nginx.get(path) == (200, f"{HTML}: one")
        assert overlay.asked_for[0] == ""
        assert overlay.asked_for[1] == overlay.asked_for[2] != ""
        overlay.bodies[path] = "two"
        assert await nginx.get(path) == (200, f"{HTML}: two")
        async with nginx.session.get(nginx.url + path) as response:
            assert response.headers["Cache-Control"] == cache_control
            known = response.headers["ETag"]
        assert await nginx.get(path, If_None_Match=known) == (304, "")


async def test_what_is_withdrawn_or_unknown_is_gone_at_once(tmp_path: Path) -> None:
    """No error is covered up by what was stored, and none is stored."""
    overlay = Overlay({FILE: "bytes"}, IMMUTABLE)
    async with cached(tmp_path, overlay) as nginx:
        assert await nginx.get(FILE) == (200, f"{HTML}: bytes")
        for status in (404, 503, 502, 401):
            overlay.failing = status
            assert (await nginx.get(FILE))[0] == status
        overlay.failing = 0
        assert await nginx.get(FILE) == (200, f"{HTML}: bytes")


async def test_what_is_private_is_not_stored(tmp_path: Path) -> None:
    """Nor what may not be stored at all."""
    for cache_control in ("no-cache, private", f"private, {IMMUTABLE}", "no-store"):
        overlay = Overlay({SECRET: "secret"}, cache_control)
        async with cached(tmp_path, overlay) as nginx:
            for _ in range(2):
                assert await nginx.get(SECRET) == (200, f"{HTML}: secret")
        assert overlay.asked_for == ["", ""]


async def test_formats_do_not_mix(tmp_path: Path) -> None:
    """Each Accept has a stored page of its own."""
    async with cached(tmp_path, Overlay({PAGE: "one"})) as nginx:
        for accept in (HTML, JSON, HTML, JSON):
            assert await nginx.get(Accept=accept) == (200, f"{accept}: one")
        assert all(nginx.overlay.asked_for[2:])


async def test_the_way_through_the_cache_changes_no_request(tmp_path: Path) -> None:
    """A HEAD stays one, which costs no bytes of a file; Host and what is said of the client arrive as without it."""
    async with cached(tmp_path, Overlay({FILE: "bytes"}, IMMUTABLE)) as nginx:
        for method in ("HEAD", "GET", "HEAD"):
            async with nginx.session.request(method, nginx.url + FILE) as response:
                assert response.status == 200
        assert [request.method for request in nginx.served.requests] == ["HEAD", "GET", "HEAD"]
        assert {request.headers["Host"] for request in nginx.served.requests} == {urlsplit(nginx.url).netloc}
        assert {request.headers["X-Forwarded-For"] for request in nginx.served.requests} == {HOST}


async def test_writes_pass_by_the_cache(tmp_path: Path) -> None:
    """They reach the overlay as without it: each on a connection of its own."""
    async with cached(tmp_path, Overlay({"/legacy/": "staged"})) as nginx:
        for _ in range(3):
            async with nginx.session.post(f"{nginx.url}/legacy/", data=b"body") as response:
                assert (response.status, await response.text()) == (200, f"{HTML}: staged")
        assert len(set(nginx.served.connections)) == 3


async def test_reads_see_writes_while_others_read(tmp_path: Path) -> None:
    """A page asked for after a change shows it, though many readers store and renew the old one all the while."""
    overlay = Overlay({PAGE: "0"})
    async with cached(tmp_path, overlay) as nginx:

        async def read_on() -> None:
            while True:
                await nginx.get()

        readers = [asyncio.ensure_future(read_on()) for _ in range(8)]
        for number in range(1, 100):
            overlay.bodies[PAGE] = str(number)
            assert await nginx.get() == (200, f"{HTML}: {number}")
        for reader in readers:
            assert not reader.done()
            reader.cancel()
        await asyncio.wait(readers)
