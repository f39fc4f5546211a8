"""Promise 1 with four workers on two hosts: what was answered on one is there on every other, at once."""

import asyncio
import hashlib
import json
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypedDict, cast

import aiohttp
import psutil
import pytest

from tests.builders import Built, metadata, wheel
from tests.distributed import Backing, backing_in, hosts, workers
from tests.fakes.index import JSON, ScriptedIndex
from tests.running import ADMIN, basic, form
from tests.served import Served

pytestmark = pytest.mark.hosts

WORKERS: Final = 2
WALKERS: Final = 4
RIVALS: Final = 12
LIMIT_S: Final = 60.0


class ListedFile(TypedDict):
    url: str
    filename: str
    hashes: dict[str, str]


@pytest.fixture(scope="module")
def backing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backing]:
    """One S3 server and one Redis for this module."""
    with backing_in(tmp_path_factory.mktemp("backing")) as made:
        yield made


@pytest.fixture
async def pair(backing: Backing, tmp_path: Path) -> AsyncIterator[list[Served]]:
    """Two hosts of two workers; what is staged on them is theirs alone."""
    async with ScriptedIndex() as index:
        index.add(wheel("live", "1.0"))
        async with hosts(
            backing,
            index.simple_url,
            f"{tmp_path.name}-a",
            f"{tmp_path.name}-b",
            workers=WORKERS,
            OVERLAY_STORE_PREFIX=tmp_path.name,
            OVERLAY_LEDGER_PREFIX=tmp_path.name,
        ) as made:
            yield made


class Line:
    """One connection that stays open, and so one worker: the process at its other end."""

    def __init__(self, host: Served) -> None:
        self.host = host
        self.worker = 0
        self.sockets: list[socket.socket] = []
        """Ours; one, if the connection stayed open."""
        self.refused = 0
        """Answers of 503: a worker that got no processor for long gives Redis up; who asked asks again."""

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=1, socket_factory=self._socket)
        self.session = aiohttp.ClientSession(connector=connector)
        await self.get("/-/health")
        self.worker = self.holder()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        self.sockets.append(socket.socket(*address[:3]))
        return self.sockets[-1]

    def holder(self) -> int:
        """Return the worker that has the other end of the connection."""
        port = self.sockets[-1].getsockname()[1]
        (held,) = [process.pid for process in workers(self.host) if _holds(process, port)]
        return held

    async def upload(self, built: Built) -> str:
        """Upload, and return what became of it."""
        headers = basic(ADMIN) | {"Accept": "application/json"}
        status, body = await self._ask("POST", "/legacy/", headers, built)
        assert status == 200, body
        return str(json.loads(body)["status"])

    async def withdraw(self, project: str) -> None:
        refused = self.refused
        status, body = await self._ask("DELETE", f"/api/v1/projects/{project}/1.0", basic(ADMIN))
        # What was answered with 503 may have been done.
        assert status in ({200} if self.refused == refused else {200, 404}), body

    async def page(self, project: str) -> list[ListedFile]:
        """Read a project's page; one that is not found lists nothing."""
        answer = await self.get(f"/simple/{project}/")
        return [] if answer is None else cast("dict[str, list[ListedFile]]", json.loads(answer))["files"]

    async def names(self, path: str) -> set[str]:
        answer = await self.get(path)
        assert answer is not None
        return {project["name"] for project in json.loads(answer)["projects"]}

    async def get(self, path: str) -> bytes | None:
        status, body = await self._ask("GET", path, {"Accept": JSON})
        assert status in {200, 404}, body
        return None if status == 404 else body

    async def _ask(
        self, method: str, path: str, headers: dict[str, str], built: Built | None = None
    ) -> tuple[int, bytes]:
        async with asyncio.timeout(LIMIT_S):
            while True:
                data = None if built is None else form(built)
                url = f"{self.host.url}{path}"
                async with self.session.request(method, url, data=data, headers=headers) as response:
                    status, body = response.status, await response.read()
                if status != 503:
                    return status, body
                self.refused += 1


def _holds(process: psutil.Process, port: int) -> bool:
    return any(one.raddr[1:] == (port,) for one in process.net_connections("tcp"))


@asynccontextmanager
async def lines(pair: list[Served]) -> AsyncIterator[list[Line]]:
    """Open connections until every worker of every host has one; at the end they must still be the same ones."""
    async with AsyncExitStack() as stack:
        found: dict[int, Line] = {}
        async with asyncio.timeout(LIMIT_S):
            while len(found) < WORKERS * len(pair):
                host = next(one for one in pair if sum(line.host is one for line in found.values()) < WORKERS)
                line = await stack.enter_async_context(Line(host))
                found.setdefault(line.worker, line)
        yield list(found.values())
        for line in found.values():
            assert len(line.sockets) == 1
            assert line.holder() == line.worker


@dataclass
class Walk:
    """One thing after another, each read at once elsewhere; a walk has its own projects, so it knows what to see."""

    name: str
    lines: list[Line]
    dice: random.Random
    staged: dict[str, Built] = field(default_factory=dict)
    steps: int = 0

    async def run(self, steps: int) -> None:
        for self.steps in range(1, steps + 1):
            here = self.dice.choice(self.lines)
            project = await self._change(here)
            there = self.dice.choice([line for line in self.lines if line.host is not here.host])
            beside = next(line for line in self.lines if line.host is here.host and line is not here)
            await self._look(there, project)
            await self._look(beside if self.steps % 3 == 0 else here, project)

    async def _change(self, line: Line) -> str:
        """Stage something new, replace something, or withdraw it."""
        chance = self.dice.random()
        if chance < 0.4 or not self.staged:
            project = f"{self.name}-{self.steps}"
        else:
            project = self.dice.choice(list(self.staged))
        if chance > 0.85 and project in self.staged:
            await line.withdraw(project)
            del self.staged[project]
            return project
        built = _built(project, f"{self.name} {self.steps}")
        refused = line.refused
        word = await line.upload(built)
        assert line.refused > refused or word == ("replaced" if project in self.staged else "staged")
        self.staged[project] = built
        return project

    async def _look(self, line: Line, project: str) -> None:
        listed = await line.page(project)
        built = self.staged.get(project)
        assert [file["hashes"]["sha256"] for file in listed] == ([] if built is None else [built.sha256])
        if built is not None and self.steps % 5 == 0:
            path = listed[0]["url"].removeprefix("../..")
            assert path.startswith("/files/")
            assert await line.get(path) == built.body
        if self.steps % 7 == 0:
            assert (project in await line.names("/staged/simple/")) == (built is not None)
            names = await line.names("/simple/")
            assert (project in names) == (built is not None)
            assert "live" in names


def _built(project: str, payload: str) -> Built:
    plain = metadata(project, "1.0", extra_lines=("Description-Content-Type: text/plain",))
    return wheel(project, "1.0", payload=payload.encode(), metadata_body=plain)


async def test_what_one_worker_answered_every_other_shows(pair: list[Served], full: bool) -> None:  # noqa: FBT001
    """200 changes (FULL: 2,000), each read at once on the other host and on a worker beside: never an old page."""
    changes = 2000 if full else 200
    async with lines(pair) as made:
        assert len({line.worker for line in made}) == 2 * WORKERS
        walks = [Walk(f"walk{number}", made, random.Random(number)) for number in range(WALKERS)]
        async with asyncio.TaskGroup() as tasks:
            for walk in walks:
                tasks.create_task(walk.run(changes // WALKERS))
        staged = {project for walk in walks for project in walk.staged}
        for line in made:
            assert await line.names("/staged/simple/") == staged
        assert sum(line.refused for line in made) <= changes // 50


async def test_of_racing_uploads_one_whole_one_is_listed_everywhere(pair: list[Served], backing: Backing) -> None:
    """The others are in the history; it is the same one after Redis has lost everything."""
    async with AsyncExitStack() as stack, lines(pair) as made:
        rivals = [await stack.enter_async_context(Line(pair[number % 2])) for number in range(RIVALS)]
        won = {name: await _race(name, rivals, made) for name in ("race-1", "race-2", "race-3")}
        backing.redis.call("FLUSHALL")
        for host in pair:
            await host.ready()
        for name, winner in won.items():
            for line in made:
                assert [file["hashes"]["sha256"] for file in await line.page(name)] == [winner]


async def _race(project: str, rivals: list[Line], readers: list[Line]) -> str:
    """Upload different bytes of one name at once; return the digest of those that all readers see."""
    sent = [_built(project, f"rival {number}") for number in range(len(rivals))]
    words = await asyncio.gather(*(line.upload(built) for line, built in zip(rivals, sent, strict=True)))
    assert set(words) <= {"staged", "replaced", "superseded"}
    pages = [await line.page(project) for line in readers]
    assert all(page == pages[0] for page in pages)
    (file,) = pages[0]
    winner = file["hashes"]["sha256"]
    body = await readers[0].get(file["url"].removeprefix("../.."))
    assert body is not None
    assert hashlib.sha256(body).hexdigest() == winner
    answer = await readers[-1].get(f"/api/v1/projects/{project}/history")
    assert answer is not None
    entries = json.loads(answer)["entries"]
    assert {entry["reason"] for entry in entries} == {"replaced"}
    assert sorted(entry["sha256"] for entry in entries) == sorted({built.sha256 for built in sent} - {winner})
    return winner
