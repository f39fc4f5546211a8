"""A release staged on an overlay in front of an upstream, and `overlay promote` as a process, as in a CI job.

The overlay, wired as the program wires it, and the scripted PyPI run in the test's own loop, on loopback: to start two
processes more for each test takes most of its time. Tests of hosts have processes of them, too.
"""

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import aiohttp
import msgspec
from yarl import URL

from overlay.cli.client import Connection, Server
from overlay.cli.promote_report import PromoteReport
from overlay.cli.promotion_client import PromotionClient
from overlay.config.tables import Config, PromoteConfig, UpstreamConfig
from overlay.domain.wire_promotions import PromotionList, PromotionOrder, PromotionView
from overlay.promote.course import Options
from overlay.promote.outfit import outfit
from overlay.promote.result import Result
from overlay.promote.run import promote
from tests.builders import Built, sdist, wheel
from tests.fakes.index import JSON
from tests.promote.runs import Heard
from tests.pypi.orders import TOKEN, Order, Token
from tests.pypi.process import PypiProcess
from tests.pypi.server import pypi
from tests.running import ADMIN, basic, config_for, form, running

LIMIT_S: Final = 120.0
FRESH_S: Final = 1
LEASE_S: Final = 60  # no machine stalls for so long: a run that lives keeps it
ABSENT_S: Final = 2
BRIEF: Final = PromoteConfig(lease_s=3, absent_s=ABSENT_S)
"""For what waits until the lease of a killed run lapses, or until a run renews its own."""
# Nothing of the developer's own machine is a credential here.
_OWN: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH")


@dataclass(frozen=True)
class Ran:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> PromoteReport:
        return msgspec.json.decode(self.out, type=PromoteReport)


@dataclass
class Job:
    """A folder with a dist/ in it, and the environment of a job."""

    folder: Path
    environment: dict[str, str]
    process: asyncio.subprocess.Process | None = None

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """Start `overlay promote`."""
        own = {name: os.environ[name] for name in _OWN if name in os.environ}
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "overlay", "promote", *words),
            cwd=self.folder,
            env=own | {"HOME": str(self.folder), "PYTHON_KEYRING_BACKEND": _NO_KEYRING} | self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return self.process

    async def ended(self) -> Ran:
        """Wait for its end."""
        assert self.process is not None
        async with asyncio.timeout(LIMIT_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Ran(self.process.returncode, out.decode(), err.decode())

    async def run(self, *words: str) -> Ran:
        """Run `overlay promote` to its end."""
        await self.start(*words)
        return await self.ended()

    @property
    def dist(self) -> list[str]:
        """What the shell makes of dist/*."""
        return sorted(str(path.relative_to(self.folder)) for path in (self.folder / "dist").iterdir())


_NO_KEYRING: Final = "keyring.backends.null.Keyring"


class Place(Protocol):
    """An overlay that runs."""

    @property
    def url(self) -> str: ...

    @property
    def store(self) -> Path:
        """Its folder, in the embedded form."""


@dataclass(frozen=True)
class Here:
    """An overlay in this process."""

    url: str
    store: Path


@dataclass(frozen=True)
class Listed:
    """A file on a page."""

    url: str
    sha256: str

    @property
    def is_staged(self) -> bool:
        """It is the overlay's own."""
        return self.url.startswith("../../files/")


@dataclass
class Stage:
    """An overlay in front of an upstream, with what is to be promoted."""

    served: Place
    upload_url: str
    folder: Path
    session: aiohttp.ClientSession
    jobs: list[Job] = field(default_factory=list)

    async def ready(self) -> None:
        """Wait until every part of the overlay answers."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                async with self.session.get(f"{self.served.url}/-/ready") as answer:
                    if answer.status == 200:
                        return
                await asyncio.sleep(0.05)

    async def put(self, *built: Built) -> None:
        """Stage files."""
        for one in built:
            async with self.session.post(f"{self.served.url}/legacy/", data=form(one), headers=basic(ADMIN)) as answer:
                assert answer.status == 200, await answer.text()

    def job(self, *built: Built, **environment: str) -> Job:
        """Describe a job that has these files in its dist/."""
        folder = self.folder / f"job-{len(self.jobs)}"
        (folder / "dist").mkdir(parents=True)
        for one in built:
            (folder / "dist" / one.filename).write_bytes(one.body)
        own = {"OVERLAY_URL": self.served.url, "OVERLAY_TOKEN": ADMIN, "TWINE_REPOSITORY_URL": self.upload_url}
        job = Job(folder, own | environment)
        self.jobs.append(job)
        return job

    async def promote(self, order: PromotionOrder, *, url: str = "") -> Result:
        """Promote in this process, without the command; `url` is where the overlay is reached, if not at its own."""
        environment = {"TWINE_PASSWORD": TOKEN, "TWINE_REPOSITORY_URL": self.upload_url}
        async with Connection(Server(URL(url or self.served.url), ADMIN)) as connection:
            client = PromotionClient(connection)
            async with outfit(client, Heard(), environment=environment, home=self.folder) as tools:
                return await promote(order, Options(), tools)

    async def promotions(self, release: str) -> tuple[PromotionView, ...]:
        """Ask for the promotions of a release."""
        url = f"{self.served.url}/api/v1/promotions"
        async with self.session.get(url, params={"release": release}) as answer:
            return msgspec.json.decode(await answer.read(), type=PromotionList).promotions

    async def page(self, project: str) -> Mapping[str, str]:
        """Return the digests on a project's page, by filename; what a reader sees now."""
        return {filename: file.sha256 for filename, file in (await self.listed(project)).items()}

    async def listed(self, project: str) -> Mapping[str, Listed]:
        """Return the files on a project's page, by filename; what a reader sees now."""
        headers = {"Accept": JSON}
        async with self.session.get(f"{self.served.url}/simple/{project}/", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            files = (await answer.json(content_type=None))["files"]
        return {file["filename"]: Listed(file["url"], file["hashes"]["sha256"]) for file in files}


@contextlib.asynccontextmanager
async def staged(
    folder: Path, simple_url: str, upload_url: str, built: Iterable[Built] = (), **changes: object
) -> AsyncIterator[Stage]:
    """Run an overlay of its own, with these files staged, until the block ends; jobs that still run are killed.

    `changes` replace tables of its configuration.
    """
    store = folder / "overlay"
    config = dataclasses.replace(in_front_of(simple_url, upload_url, store), **changes)  # type: ignore[arg-type]
    async with running(config) as overlay, at(Here(overlay.url, store), upload_url, folder) as stage:
        await stage.ready()
        await stage.put(*built)
        yield stage


def in_front_of(simple_url: str, upload_url: str, store: Path) -> Config:
    """Configure an overlay in front of an upstream that takes files; nothing takes it long."""
    return config_for(
        store,
        simple_url,
        upstream=UpstreamConfig(url=simple_url, upload_url=upload_url, fresh_s=FRESH_S),
        promote=PromoteConfig(lease_s=LEASE_S, absent_s=ABSENT_S),
    )


@contextlib.asynccontextmanager
async def at(served: Place, upload_url: str, folder: Path) -> AsyncIterator[Stage]:
    """Promote from an overlay that runs, until the block ends; jobs that still run are killed."""
    async with aiohttp.ClientSession() as session:
        stage = Stage(served, upload_url, folder, session)
        try:
            yield stage
        finally:
            for job in stage.jobs:
                if job.process is not None and job.process.returncode is None:
                    job.process.kill()
                    await job.process.wait()


@contextlib.asynccontextmanager
async def scripted(
    folder: Path, built: Iterable[Built], *orders: Order, **changes: object
) -> AsyncIterator[tuple[PypiProcess, Stage]]:
    """Run a scripted PyPI and an overlay in front of it, with these files staged; `changes` as in `staged`."""
    async with pypi(controlled=True) as index, aiohttp.ClientSession() as session:
        there = PypiProcess(index.url, session)
        await there.do(Token(text=TOKEN), *orders)
        async with staged(folder, there.simple_url, there.upload_url, built, **changes) as stage:
            yield there, stage


def demo(version: str = "1.1") -> list[Built]:
    """Build a release of a wheel and an sdist."""
    return [wheel("demo", version), sdist("demo", version)]
