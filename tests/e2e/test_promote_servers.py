"""`overlay promote` to devpi, pypiserver and a scripted PyPI: the tested bytes go live, and no reader misses them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.clients import Clients, installed
from tests.e2e.gate_proxy import When, gate_proxy
from tests.e2e.promoting import Job, Listed, Stage, demo, scripted, staged
from tests.e2e.readings import digests
from tests.e2e.servers import SERVERS
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, OpenGate
from tests.pypi.process import PypiProcess

BUILT: Final = demo()
WANTED: Final = {one.filename: one.sha256 for one in BUILT}
LIMIT_S: Final = 120.0


@dataclass(frozen=True)
class Place:
    """An index with an overlay in front of it, and a job that may upload there."""

    stage: Stage
    simple_url: str
    origin: str
    job: Job
    pypi: PypiProcess | None = None
    """The scripted one: there the sdist waits, pushed but not stored."""


@contextlib.asynccontextmanager
async def place(kind: str, folder: Path, clients: Clients) -> AsyncIterator[Place]:
    """Run one until the block ends; the release is staged."""
    if kind == "pypi":
        async with scripted(folder, BUILT) as (pypi, stage):
            await pypi.do(Fault(at=Point.RECEIVED, action=Hang("sdist"), subject=BUILT[1].filename))
            yield Place(stage, pypi.simple_url, pypi.url, stage.job(*BUILT, TWINE_PASSWORD=TOKEN), pypi)
        return
    async with (
        SERVERS[kind](clients) as server,
        staged(folder, server.simple_url, server.upload_url, BUILT) as stage,
    ):
        job = stage.job(*BUILT, TWINE_USERNAME=server.username, TWINE_PASSWORD=server.password)
        origin = "/".join(server.simple_url.split("/")[:3])
        yield Place(stage, server.simple_url, origin, job)


class Reader:
    """Reads the page again and again until upstream has all of it; both files are there every time."""

    def __init__(self, there: Place) -> None:
        self.began = asyncio.Event()
        self.halfway = asyncio.Event()
        self.pages: list[Mapping[str, Listed]] = []
        self._there = there

    async def read(self) -> None:
        while not self.pages or not all(map(self.is_live, self.pages[-1].values())):
            page = await self._there.stage.listed("demo")
            assert {filename: file.sha256 for filename, file in page.items()} == WANTED
            assert all(file.is_staged or self.is_live(file) for file in page.values())
            self.pages.append(page)
            self.began.set()
            if any(map(self.is_live, page.values())):
                self.halfway.set()
            await asyncio.sleep(0.02)

    def is_live(self, file: Listed) -> bool:
        return file.url.startswith(f"{self._there.origin}/")


async def pip_gets(clients: Clients, simple_url: str, folder: Path) -> Mapping[str, str]:
    """Install the wheel and download the sdist; return the sha256 of what pip got, by filename."""
    where, report = (simple_url, "demo==1.1"), folder / "report.json"
    wheel = ("--no-deps", "--only-binary", ":all:", "--report", str(report))
    sdist = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation")
    for pip in await asyncio.gather(
        clients.pip_install(*where, folder / "installed", *wheel),
        clients.pip_download(*where, folder / "downloaded", *sdist),
    ):
        assert pip.code == 0, pip.output
    assert installed(folder / "installed") == {"demo": "1.1"}
    assert "VERSION = '1.1'" in (folder / "installed" / "demo.py").read_text()
    (got,) = (one["download_info"] for one in json.loads(report.read_text())["install"])
    filename = got["url"].rpartition("/")[2]
    return {filename: got["archive_info"]["hashes"]["sha256"], **digests(*(folder / "downloaded").iterdir())}


@pytest.mark.parametrize("kind", [*SERVERS, "pypi"])
async def test_a_release_goes_live_as_it_was_tested(kind: str, tmp_path: Path, clients: Clients) -> None:
    """At every moment both files are on the page, as staged or as live; pip installs the very bytes from upstream."""
    async with place(kind, tmp_path, clients) as there:
        reader = Reader(there)
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(reader.read())
            await reader.began.wait()
            running = tasks.create_task(there.job.run("--json", *there.job.dist))
            if there.pypi is not None:
                await reader.halfway.wait()
                await there.pypi.do(OpenGate("sdist"))
            ran = await running
            assert ran.code == 0, ran.report.problem
            await reading
        assert len(reader.pages) >= 10
        assert all(file.is_staged for file in reader.pages[0].values())
        if there.pypi is not None:
            assert [BUILT[0].filename] in [
                [name for name in page if reader.is_live(page[name])] for page in reader.pages
            ]
        assert await pip_gets(clients, there.simple_url, tmp_path) == WANTED
        again = await there.job.run("--json", *there.job.dist)
        assert again.code == 0, again.report.problem


async def test_a_file_that_came_there_meanwhile_is_looked_at_when_it_is_refused(
    tmp_path: Path, clients: Clients
) -> None:
    """By 409, as pypiserver does whatever the bytes are; its page says that they are the tested ones."""
    async with (
        SERVERS["pypiserver"](clients) as server,
        staged(tmp_path, server.simple_url, server.upload_url, BUILT) as stage,
        gate_proxy(stage.served.url, 1, When.AFTER, cut=False) as gate,
    ):
        login = {"TWINE_USERNAME": server.username, "TWINE_PASSWORD": server.password}
        job = stage.job(*BUILT, OVERLAY_URL=gate.url, **login)
        await job.start("--json", *job.dist)
        async with asyncio.timeout(LIMIT_S):
            await gate.reached.wait()
        await server.upload(BUILT[0])
        gate.opened.set()
        ran = await job.ended()
        assert ran.code == 0, ran.report.problem
        assert [(file.filename, file.status, file.state) for file in ran.report.files] == [
            (BUILT[0].filename, 409, "live"),
            (BUILT[1].filename, 200, "live"),
        ]
