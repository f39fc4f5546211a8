"""Promise 3 with the real server: killed again and again under load, it loses nothing that it acknowledged."""

import asyncio
import contextlib
import hashlib
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urljoin

import aiohttp
import pytest

from tests.builders import Built, metadata, wheel
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, basic, form
from tests.served import NotStarted, Served

RESTART_LIMIT_S: Final = 5.0
"""Of processor time."""
PROMPT_S: Final = 10.0
"""For the fastest restart, by the clock: alone each takes one or two, and on a loaded machine some take twelve."""
CLIENTS: Final = 4
_LINK: Final = re.compile(r'<a href="([^"#]+)#sha256=([0-9a-f]{64})"')


@dataclass(frozen=True)
class Act:
    """Upload bytes, or withdraw the release of a project."""

    project: str
    built: Built | None


@dataclass
class Known:
    """What may be listed of one file, by sha256; None: it may be missing."""

    may: set[str | None] = field(default_factory=lambda: {None})
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Tally:
    acknowledged: int = 0
    unknown: int = 0
    kills: int = 0
    restarts_s: list[float] = field(default_factory=list)
    restarts_used_s: list[float] = field(default_factory=list)


def _built(project: str, payload: str) -> Built:
    plain = metadata(project, "1.0", extra_lines=("Description-Content-Type: text/plain",))
    # incompressible and of several chunks now and then, so that kills meet bodies that are under way
    dice = random.Random(payload)
    noise = dice.randbytes(dice.choice((10, 1000, 700_000)))
    return wheel(project, "1.0", payload=payload.encode(), metadata_body=plain, files={f"{project}/noise": noise})


def _acts(count: int, dice: random.Random) -> list[Act]:
    """New names, replacements, the same bytes again, withdrawals; several of one name so that they race."""
    acts: list[Act] = []
    projects: list[str] = []
    while len(acts) < count:
        chance = dice.random()
        if chance < 0.4 or not projects:
            projects.append(f"demo{len(projects)}")
            acts.append(Act(projects[-1], _built(projects[-1], "first")))
        elif chance < 0.8:
            project = dice.choice(projects[-6:])
            acts.append(Act(project, _built(project, dice.choice(["first", "second", f"other {len(acts)}"]))))
        else:
            acts.append(Act(dice.choice(projects), None))
    return acts


class Workers:
    """Clients that act on a server which dies now and then, and the model of what it must show."""

    def __init__(self, served: Served, acts: list[Act]) -> None:
        self.served = served
        self.known: dict[str, Known] = {act.project: Known() for act in acts}
        self.every: dict[str, Built] = {act.built.sha256: act.built for act in acts if act.built is not None}
        self.tally = Tally()
        self.up = asyncio.Event()
        self.busy = asyncio.Condition()
        self.done = 0
        self._left = list(reversed(acts))

    async def run(self) -> None:
        """Do all acts with several clients; at most two of them act on one name at a time."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CLIENTS):
                tasks.create_task(self._client())

    async def _client(self) -> None:
        async with aiohttp.ClientSession() as session:
            while self._left:
                act = self._left.pop()
                rival = None
                if act.built is not None and self._left and self._left[-1].project == act.project:
                    rival = self._left.pop()
                known = self.known[act.project]
                async with known.lock:
                    before = set(known.may)
                    pair = [one for one in (act, rival) if one is not None]
                    # Until the answers are in, either may have happened, or none.
                    known.may = before | {one.built.sha256 if one.built is not None else None for one in pair}
                    answered = await asyncio.gather(*(self._act(session, one) for one in pair))
                    known.may = _after(before, pair, answered)
                async with self.busy:
                    self.done += len(pair)
                    self.busy.notify_all()

    async def _act(self, session: aiohttp.ClientSession, act: Act) -> bool:
        """Say whether it was acknowledged; otherwise nobody knows."""
        await self.up.wait()
        try:
            if act.built is None:
                url = f"{self.served.url}/api/v1/projects/{act.project}/1.0"
                sent = session.delete(url, headers=basic(ADMIN))
            else:
                sent = session.post(f"{self.served.url}/legacy/", data=form(act.built), headers=basic(ADMIN))
            async with sent as response:
                text = await response.text()
        except (aiohttp.ClientError, ConnectionError):
            self.tally.unknown += 1
            return False
        # 404: nothing was staged, which is what the withdrawal wanted
        assert response.status == 200 or (act.built is None and response.status == 404), text
        self.tally.acknowledged += 1
        return True

    async def look(self) -> dict[str, set[str]]:
        """Read every project's page and every file on it; returns the digests by project."""
        found: dict[str, set[str]] = {}
        async with aiohttp.ClientSession() as session:
            for project in self.known:
                page_url = f"{self.served.url}/staged/simple/{project}/"
                async with session.get(page_url, headers={"Accept": "text/html"}) as page:
                    text = await page.text() if page.status == 200 else ""
                    assert page.status in {200, 404}
                found[project] = set()
                for link, sha256 in _LINK.findall(text):
                    async with session.get(urljoin(page_url, unescape(link))) as download:
                        assert download.status == 200
                        assert hashlib.sha256(await download.read()).hexdigest() == sha256
                    async with session.get(urljoin(page_url, unescape(link)) + ".metadata") as sidecar:
                        assert sidecar.status == 200
                        assert b"Version: 1.0" in await sidecar.read()
                    found[project].add(sha256)
        return found

    async def check(self) -> dict[str, set[str]]:
        """Compare what is listed with the model."""
        found = await self.look()
        for project, listed in found.items():
            assert len(listed) <= 1
            one = next(iter(listed), None)
            assert one in self.known[project].may, f"{project}: {one} is listed, {self.known[project].may} may be"
        return found


def _after(before: set[str | None], acts: list[Act], answered: list[bool]) -> set[str | None]:
    """What may be shown after these acts, which ran at the same time."""
    wanted = [act.built.sha256 if act.built is not None else None for act in acts]
    if any(answered):
        return set(wanted)
    return before | set(wanted)


async def _kill_now_and_then(workers: Workers, kills: int, total: int, dice: random.Random) -> None:
    """Kill at instants that the dice choose: so many acts later, and so many steps of this loop after that."""
    served, tally = workers.served, workers.tally
    for number in range(kills):
        target = (number + 1) * total // (kills + 1)
        async with workers.busy:
            await workers.busy.wait_for(lambda target=target: workers.done >= target)  # type: ignore[misc]
        for _ in range(dice.randrange(0, 60)):  # the loop turns with every packet of the clients
            await asyncio.sleep(0)
        workers.up.clear()
        await served.kill()
        tally.kills += 1
        tally.restarts_s.append(await served.start())
        tally.restarts_used_s.append(served.used_s)
        workers.up.set()


async def _killed_and_checked(tmp_path: Path, *, uploads: int, kills: int, seed: int) -> Tally:
    dice = random.Random(seed)
    async with ScriptedIndex() as index, Served(tmp_path / "store", index.simple_url) as served:
        workers = Workers(served, _acts(uploads, dice))
        workers.up.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_kill_now_and_then(workers, kills, uploads, dice))
            tasks.create_task(workers.run())
        await workers.check()
        await served.kill()
        await served.start()
        found = await workers.check()
        await _sweep(served)
        assert await workers.check() == found
        _check_disk(served, found)
        await served.kill()
        await served.start()
        assert await workers.check() == found
        return workers.tally


async def _sweep(served: Served) -> None:
    async with (
        aiohttp.ClientSession(headers=basic(ADMIN)) as session,
        session.post(f"{served.url}/api/v1/sweep", json={"older_than_s": 0}) as response,
    ):
        assert response.status == 200, await response.text()


def _check_disk(served: Served, found: dict[str, set[str]]) -> None:
    """Two blobs and one record for each file that is listed, and nothing else."""
    listed = {sha256 for digests in found.values() for sha256 in digests}
    blobs = served.files("blobs")
    on_disk = {
        hashlib.sha256((served.store / name).read_bytes()).hexdigest()
        for name in blobs
        if not name.endswith(".metadata")
    }
    assert on_disk == listed
    assert len(blobs) == 2 * len(listed)
    assert len(served.files("records")) == len(listed)
    assert served.files("spool") == set()
    empty = [path for path in (served.store / "blobs").iterdir() if not any(path.iterdir())]
    assert empty == [], "folders without blobs are left"


def _check_restarts(tally: Tally) -> None:
    """It is ready again in seconds (design §8): it neither computes for long, nor waits."""
    assert median(tally.restarts_used_s) < RESTART_LIMIT_S
    assert min(tally.restarts_s) < PROMPT_S


async def test_a_server_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """New names, replacements, races and withdrawals; each kill finds some of them under way."""
    tally = await _killed_and_checked(tmp_path, uploads=200, kills=8, seed=1)
    print(tally)
    assert tally.kills == 8
    _check_restarts(tally)


@pytest.mark.slow
async def test_two_hundred_uploads_and_twenty_kills_lose_nothing(tmp_path: Path) -> None:
    """The same at length: and some acts of each run did get no answer, or it shows nothing."""
    tally = await _killed_and_checked(tmp_path, uploads=200, kills=20, seed=2)
    print(tally)
    assert tally.unknown > 0
    _check_restarts(tally)


@contextlib.asynccontextmanager
async def _two_servers(tmp_path: Path) -> AsyncIterator[tuple[Served, Served]]:
    async with ScriptedIndex() as index, Served(tmp_path / "store", index.simple_url) as first:
        yield first, Served(tmp_path / "store", index.simple_url)


async def test_a_second_server_on_the_store_exits_2_naming_the_first(tmp_path: Path) -> None:
    """Two ledgers over one directory would each miss what the other staged."""
    async with _two_servers(tmp_path) as (first, second):
        with pytest.raises(NotStarted) as refused:
            await second.start()
        assert refused.value.code == 2
        assert f"process {first.pid}" in refused.value.log
        assert first.process is not None
        assert first.process.returncode is None
