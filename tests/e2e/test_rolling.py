"""Two hosts behind deploy/nginx.conf are restarted one after the other, under load, and no request fails."""

import asyncio
import contextlib
import hashlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import psutil
import pytest

from overlay.domain.page import Format
from tests.builders import wheel
from tests.distributed import backing_in, hosts
from tests.fakes.index import ScriptedIndex
from tests.nginx import nginx_in_front_of
from tests.running import ADMIN, basic, form
from tests.served import Served

pytestmark = pytest.mark.hosts

READERS = 3
UPLOADERS = 2
PAUSE_S = 0.01  # between a client's requests: the load is to last, not to fill two cores


@dataclass
class Load:
    """What clients behind the load balancer saw: the status of every answer, and no exception."""

    url: str
    read: list[int] = field(default_factory=list)
    fetched: list[int] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def reading(self) -> None:
        async with aiohttp.ClientSession(headers={"Accept": Format.JSON.value}) as session:
            while not self.enough.is_set():
                async with session.get(f"{self.url}/simple/demo/") as response:
                    if response.status != 200:
                        self.failures.append(f"page: {response.status} {await response.text()}")
                    await response.read()
                    self.read.append(response.status)
                await asyncio.sleep(PAUSE_S)

    async def fetching(self) -> None:
        """Download the first file that was staged."""
        async with aiohttp.ClientSession(headers={"Accept": Format.JSON.value}) as session:
            async with session.get(f"{self.url}/simple/demo/") as response:
                (file, *_) = (await response.json())["files"]
            while not self.enough.is_set():
                async with session.get(urljoin(f"{self.url}/simple/demo/", file["url"])) as response:
                    if hashlib.sha256(await response.read()).hexdigest() != file["hashes"]["sha256"]:
                        self.failures.append(f"file: {response.status} {await response.text()}")
                    self.fetched.append(response.status)
                await asyncio.sleep(PAUSE_S)

    async def uploading(self, number: int) -> None:
        """Stage a version after another, and look at once whether the page has it."""
        async with aiohttp.ClientSession(headers=basic(ADMIN)) as session:
            while not self.enough.is_set():
                version = f"{number}.{len(self.staged)}"
                async with session.post(f"{self.url}/legacy/", data=form(wheel("demo", version))) as response:
                    if response.status != 200:
                        self.failures.append(f"upload: {response.status} {await response.text()}")
                        continue
                async with session.get(f"{self.url}/simple/demo/", headers={"Accept": Format.JSON.value}) as response:
                    if version not in (await response.json())["versions"]:
                        self.failures.append(f"page: {version} is not there")
                self.staged.append(version)
                await asyncio.sleep(PAUSE_S)


async def stage(url: str, version: str) -> None:
    async with (
        aiohttp.ClientSession(headers=basic(ADMIN)) as session,
        session.post(f"{url}/legacy/", data=form(wheel("demo", version))) as response,
    ):
        assert response.status == 200, await response.text()


@contextlib.asynccontextmanager
async def loaded(url: str) -> AsyncIterator[Load]:
    load = Load(url)
    tasks = [asyncio.ensure_future(load.reading()) for _ in range(READERS)]
    tasks += [asyncio.ensure_future(load.fetching())]
    tasks += [asyncio.ensure_future(load.uploading(number)) for number in range(1, UPLOADERS + 1)]
    try:
        yield load
    finally:
        load.enough.set()
        await asyncio.gather(*tasks)


async def restarted(host: Served) -> None:
    """Stop and start again on the same port, as an upgrade does."""
    assert await host.stop() == 0
    await host.start()


async def rolled(host: Served) -> None:
    """Replace its workers."""
    replaced = host.log.count("all workers are replaced")
    psutil.Process(host.pid).send_signal(signal.SIGHUP)
    async with asyncio.timeout(120):
        while host.log.count("all workers are replaced") == replaced:
            await asyncio.sleep(0.05)


async def logged(host: Served, words: str) -> None:
    """Wait for a line of the log: it is written after its answer."""
    async with asyncio.timeout(60):
        while words not in host.log:
            await asyncio.sleep(0.05)


async def test_a_rolling_restart_behind_nginx_fails_no_request(tmp_path: Path) -> None:
    """Host after host, and worker after worker: pages, files and uploads go on, and uploads are seen at once."""
    steps: tuple[Callable[[Served], Awaitable[None]], ...] = (restarted, rolled)
    with backing_in(tmp_path) as backing:
        async with ScriptedIndex() as index, hosts(backing, index.simple_url, "a", "b") as both:
            with nginx_in_front_of([host.port for host in both], tmp_path) as url:
                await stage(url, "0.1")
                async with loaded(url) as load:
                    for step in steps:
                        for host in both:
                            before = len(load.read), len(load.fetched), len(load.staged)
                            await step(host)
                            async with asyncio.timeout(60):  # all go on before the next host's turn comes
                                while (
                                    len(load.read) < before[0] + 20
                                    or len(load.fetched) < before[1] + 20
                                    or len(load.staged) < before[2] + 3
                                ):
                                    await asyncio.sleep(0.05)
    assert load.failures == []
    print(f"{len(load.read)} pages, {len(load.fetched)} files and {len(load.staged)} uploads, none failed")


async def test_what_a_stranger_forges_changes_nothing(tmp_path: Path) -> None:
    """X-Forwarded-* from nobody's proxy is not believed; from nginx it is, and nginx drops what its client forged."""
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    help_page = {"Accept": "text/html"}
    with backing_in(tmp_path) as backing:
        async with (
            ScriptedIndex() as index,
            hosts(backing, index.simple_url, "stranger", workers=1) as (stranger,),
            hosts(backing, index.simple_url, "friend", workers=1, OVERLAY_SERVER_TRUSTED_PROXIES='["127.0.0.0/8"]') as (
                friend,
            ),
            aiohttp.ClientSession(headers=forged | help_page) as session,
        ):
            async with session.get(f"{stranger.url}/help") as response:
                text = await response.text()
            assert "evil.example" not in text
            assert f"{stranger.url}/simple/" in text
            await logged(stranger, '"GET /help"')
            assert "203.0.113.9" not in stranger.log
            async with session.get(f"{friend.url}/help") as response:
                assert "https://evil.example/simple/" in await response.text()
            await logged(friend, '203.0.113.9 "GET /help"')
            with nginx_in_front_of([friend.port], tmp_path) as url:
                async with session.get(f"{url}/help") as response:
                    text = await response.text()
            assert "evil.example" not in text
            assert f"{url}/simple/" in text
