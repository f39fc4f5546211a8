"""Redis emptied in mid-promotion, behind two hosts on S3: every promotion ends as one clean run would have.

Losing Redis costs readers and uploads some seconds; what was pushed, and by whom, stands in the documents. Each test
has promotions at several moments when Redis is emptied, once for all of them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import pytest_asyncio

from tests.builders import Built, sdist, wheel
from tests.distributed import Backing, backing_in, hosts
from tests.e2e.gate_proxy import GateProxy, When, gate_proxy
from tests.e2e.promoting import ABSENT_S, FRESH_S, Job, Ran, Stage, at
from tests.fakes.index import JSON
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, OpenGate
from tests.pypi.orders import Token as UploadToken
from tests.pypi.process import PypiProcess, pypi_process
from tests.running import ADMIN, basic, form
from tests.served import Served

pytestmark = [pytest.mark.hosts, pytest.mark.asyncio(loop_scope="module")]

LIMIT_S: Final = 60.0
LEASE_S: Final = 6  # a run that waits at its moment for the others to come to theirs need not be lost
LOOK_EVERY_S: Final = 0.2
VERSION: Final = "1.1"
LATER: Final = "py3-none-win_amd64"


class Moment(StrEnum):
    """How far a promotion has come when Redis is emptied."""

    PLANNED = "planned"
    """Frozen for a lease; the run has not heard of it yet."""
    BEGUN = "begun"
    """The journal says that a file may be on its way; none is."""
    PUSHING = "pushing"
    """Upstream has read all of the second file and not stored it yet."""
    BETWEEN = "between"
    """The first wave is out, the second has not begun."""
    OUT = "out"
    """All is out, and nobody has looked."""


# The calls of a run, from 0: plan, pushing and pushed for each of three files, then looks.
CALLS: Final = {
    Moment.PLANNED: (0, When.AFTER),
    Moment.BEGUN: (1, When.AFTER),
    Moment.BETWEEN: (3, When.BEFORE),
    Moment.OUT: (7, When.BEFORE),
}


class Loss(StrEnum):
    """How Redis loses everything."""

    FLUSHED = "flushed"
    RESTARTED = "restarted"


@dataclass(frozen=True)
class Hosts:
    """Two hosts in front of one scripted PyPI."""

    backing: Backing
    pypi: PypiProcess
    pair: list[Served]

    def lose(self, loss: Loss) -> None:
        match loss:
            case Loss.FLUSHED:
                self.backing.redis.call("FLUSHALL")
            case Loss.RESTARTED:
                self.backing.redis.restart()


@pytest.fixture(scope="module")
def backing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backing]:
    """One S3 server and one Redis for this module."""
    with backing_in(tmp_path_factory.mktemp("backing")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(backing: Backing) -> AsyncIterator[Hosts]:
    async with pypi_process() as pypi:
        await pypi.do(UploadToken(text=TOKEN))
        settings = {
            "OVERLAY_UPSTREAM_UPLOAD_URL": pypi.upload_url,
            "OVERLAY_UPSTREAM_FRESH_S": str(FRESH_S),
            "OVERLAY_PROMOTE_LEASE_S": str(LEASE_S),
            "OVERLAY_PROMOTE_ABSENT_S": str(ABSENT_S),
        }
        async with hosts(backing, pypi.simple_url, "a", "b", workers=1, **settings) as pair:
            yield Hosts(backing, pypi, pair)


@dataclass
class Held:
    """A promotion, and the run that stands at its moment."""

    moment: Moment
    project: str
    job: Job
    gate: GateProxy | None
    """None where upstream holds it."""

    @property
    def built(self) -> list[Built]:
        return files(self.project)

    @property
    def release(self) -> str:
        return f"{self.project}=={VERSION}"

    @property
    def digests(self) -> dict[str, str]:
        return {one.filename: one.sha256 for one in self.built}

    async def go_on(self, pypi: PypiProcess) -> None:
        if self.gate is None:
            await pypi.do(OpenGate(self.project))
        else:
            self.gate.opened.set()

    async def kill(self) -> None:
        assert self.job.process is not None
        self.job.process.kill()
        await self.job.process.wait()


def files(project: str) -> list[Built]:
    """A release of three waves."""
    return [wheel(project, VERSION), wheel(project, VERSION, tag=LATER), sdist(project, VERSION)]


@contextlib.asynccontextmanager
async def all_held(made: Hosts, stage: Stage, name: str, moments: Sequence[Moment]) -> AsyncIterator[list[Held]]:
    """Bring a run to each moment, from the first host; the furthest one first, for it takes the longest."""
    async with AsyncExitStack() as stack:
        held = [
            await stack.enter_async_context(one_held(made.pypi, stage, f"{name}-{moment}", moment))
            for moment in sorted(moments, key=list(Moment).index, reverse=True)
        ]
        async with asyncio.timeout(LIMIT_S):
            for one in held:
                if one.gate is None:
                    await made.pypi.reached(one.project)
                else:
                    await one.gate.reached.wait()
        yield held


@contextlib.asynccontextmanager
async def one_held(pypi: PypiProcess, stage: Stage, project: str, moment: Moment) -> AsyncIterator[Held]:
    built = files(project)
    await stage.put(*built)
    if moment is Moment.PUSHING:
        await pypi.do(Fault(at=Point.RECEIVED, action=Hang(project), subject=built[1].filename))
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        await job.start(*job.dist)
        yield Held(moment, project, job, None)
    else:
        async with gate_proxy(stage.served.url, *CALLS[moment], cut=False) as gate:
            job = stage.job(*built, TWINE_PASSWORD=TOKEN, OVERLAY_URL=gate.url)
            await job.start(*job.dist)
            yield Held(moment, project, job, gate)


@contextlib.asynccontextmanager
async def watched(made: Hosts, held: Iterable[Held]) -> AsyncIterator[None]:
    """Read the pages from both hosts until the block ends: each shows the whole release, or says that it cannot."""
    enough = asyncio.Event()

    async def read(host: Served) -> int:
        whole = 0
        async with aiohttp.ClientSession(headers={"Accept": JSON}) as session:
            while not enough.is_set():
                for one in held:
                    async with session.get(f"{host.url}/simple/{one.project}/") as answer:
                        assert answer.status in {200, 503}, await answer.text()
                        if answer.status == 200:
                            listed = {file["filename"]: file["hashes"] for file in (await answer.json())["files"]}
                            assert listed == {name: {"sha256": sha256} for name, sha256 in one.digests.items()}
                            whole += 1
                await asyncio.sleep(LOOK_EVERY_S)
        return whole

    readers = [asyncio.ensure_future(read(host)) for host in made.pair]
    try:
        yield
    finally:
        enough.set()
        read_whole = await asyncio.gather(*readers)
    assert all(read_whole)


async def somebody(stage: Stage, projects: list[str]) -> dict[str, str]:
    """Mint a token that may stage for these projects; return its headers."""
    order = {"label": "somebody", "rights": ["stage"], "projects": projects}
    url = f"{stage.served.url}/api/v1/tokens"
    async with stage.session.post(url, json=order, headers={"Authorization": f"Bearer {ADMIN}"}) as answer:
        assert answer.status == 201, await answer.text()
        return basic((await answer.json())["text"])


async def answered(stage: Stage, built: Built, headers: dict[str, str]) -> tuple[int, str]:
    """Upload, again while the ledger is not ready; return the first answer that is one."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            async with stage.session.post(f"{stage.served.url}/legacy/", data=form(built), headers=headers) as answer:
                if answer.status != 503:
                    return answer.status, answer.reason or ""
            await asyncio.sleep(LOOK_EVERY_S)


async def check_refused(stage: Stage, one: Held, headers: dict[str, str]) -> None:
    """The release takes no file, whether of a new name or of other bytes."""
    status, reason = await answered(stage, new(one.project), headers)
    assert (status, reason.startswith(f"Release {one.release} is being promoted by")) == (400, True), reason
    other = wheel(one.project, VERSION, payload=b"other")
    status, reason = await answered(stage, other, headers)
    assert (status, reason.startswith("File already exists")) == (400, True), reason


def new(project: str) -> Built:
    return wheel(project, VERSION, tag="cp313-cp313-win_amd64")


async def check_end(made: Hosts, stages: list[Stage], one: Held, headers: dict[str, str]) -> None:
    """Out once each, wheels first; one receipt, on both hosts; live on both; nothing is frozen any more."""
    recording = await made.pypi.recording()
    assert [name for name in recording.stored() if name in one.digests] == list(one.digests)
    assert not set(recording.early_sdists()) & set(one.digests)
    assert not [post for name in one.digests for post in recording.posts(name) if post.outcome == "identical"]
    for stage in stages:
        (promotion,) = await stage.promotions(one.release)
        assert (promotion.state, {file.state for file in promotion.files}) == ("live", {"live"})
        await until_tidy(made.backing, promotion.id)
        assert await stage.page(one.project) == one.digests
        await until_live(stage, one, made.pypi.url)
    assert (await answered(stages[0], new(one.project), headers))[0] == 200


async def until_waiting(stage: Stage, one: Held) -> None:
    """Wait until the lease of a run that died has lapsed."""
    async with asyncio.timeout(LIMIT_S):
        while [promotion.state for promotion in await stage.promotions(one.release)] != ["waiting"]:
            await asyncio.sleep(LOOK_EVERY_S)


async def until_live(stage: Stage, one: Held, url: str) -> None:
    """Wait until a host's page links upstream's files; it may show what it has in hand for some seconds."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            page = f"{stage.served.url}/simple/{one.project}/"
            async with stage.session.get(page, headers={"Accept": JSON}) as answer:
                if all(file["url"].startswith(url) for file in (await answer.json())["files"]):
                    return
            await asyncio.sleep(LOOK_EVERY_S)


async def until_tidy(backing: Backing, promotion: str) -> None:
    """Wait until nothing is left of a promotion that was under way: whichever host ended it deletes that afterwards."""
    async with asyncio.timeout(LIMIT_S):
        while await asyncio.to_thread(papers, backing, promotion):
            await asyncio.sleep(LOOK_EVERY_S)


def papers(backing: Backing, promotion: str) -> list[str]:
    """List what is left of a promotion that was under way."""
    bucket = backing.s3.session.resource("s3", endpoint_url=backing.s3.endpoint_url).Bucket(backing.s3.bucket)
    return [found.key for found in bucket.objects.filter(Prefix=f"{backing.prefix}/state/promotions/{promotion}/")]


async def run_again(stage: Stage, one: Held) -> None:
    """Repeat the command, in another job."""
    job = stage.job(*one.built, TWINE_PASSWORD=TOKEN)
    ran = await job.run(*job.dist)
    assert ran.code == 0, f"{one.moment}: {ran.out}{ran.err}"


@contextlib.asynccontextmanager
async def two(made: Hosts, folder: Path) -> AsyncIterator[list[Stage]]:
    """Both hosts, each with jobs of its own."""
    upload_url = made.pypi.upload_url
    async with at(made.pair[0], upload_url, folder / "a") as first, at(made.pair[1], upload_url, folder / "b") as other:
        yield [first, other]


def said_how_it_stands(ran: Ran) -> bool:
    words = ("The same command goes on where this one stopped.", "This run pushed nothing", "Nothing was pushed.")
    return ran.code == 1 and any(sentence in ran.out for sentence in words)


@pytest.mark.parametrize(
    ("loss", "moments"),
    [
        (Loss.FLUSHED, (Moment.PLANNED, Moment.PUSHING, Moment.OUT)),
        pytest.param(Loss.RESTARTED, (Moment.BEGUN, Moment.BETWEEN, Moment.OUT), marks=pytest.mark.slow),
    ],
)
async def test_a_run_goes_on_when_redis_lost_everything(
    made: Hosts, tmp_path: Path, loss: Loss, moments: Sequence[Moment]
) -> None:
    """Or says how to: where its lease ran out meanwhile, the same command ends it. Nobody stages anything meanwhile."""
    async with two(made, tmp_path) as stages, all_held(made, stages[0], f"goes-on-{loss}", moments) as held:
        headers = await somebody(stages[0], [one.project for one in held])
        async with watched(made, held):
            made.lose(loss)
            for one in reversed(held):  # what is only planned first: it is frozen no longer than its lease
                await check_refused(stages[1], one, headers)
            for one in held:
                await one.go_on(made.pypi)
            for one in held:
                ran = await one.job.ended()
                if ran.code != 0:
                    assert said_how_it_stands(ran), f"{one.moment}: {ran.out}{ran.err}"
                    await run_again(stages[1], one)
        await asyncio.gather(*(check_end(made, stages, one, headers) for one in held))


@pytest.mark.parametrize(
    ("loss", "moments"),
    [
        (Loss.RESTARTED, (Moment.BEGUN, Moment.BETWEEN)),
        pytest.param(Loss.FLUSHED, (Moment.PLANNED, Moment.PUSHING, Moment.OUT), marks=pytest.mark.slow),
    ],
)
async def test_a_run_that_died_with_redis_is_taken_up_on_another_host(
    made: Hosts, tmp_path: Path, loss: Loss, moments: Sequence[Moment]
) -> None:
    """What is half out stays frozen until then, however long that takes."""
    async with two(made, tmp_path) as stages, all_held(made, stages[0], f"died-{loss}", moments) as held:
        headers = await somebody(stages[0], [one.project for one in held])
        # What was only planned is given up with its lease; what is all live is ended by whichever host looks first.
        begun = [one for one in held if one.moment not in {Moment.PLANNED, Moment.OUT}]
        async with watched(made, held):
            for one in held:
                await one.kill()
            made.lose(loss)
            for one in begun:
                await check_refused(stages[1], one, headers)
            await made.pypi.do(*(OpenGate(one.project) for one in held if one.gate is None))
            await made.pypi.settled()
            for one in begun:
                await until_waiting(stages[1], one)
                await check_refused(stages[0], one, headers)
            await asyncio.gather(*(run_again(stages[1], one) for one in held))
        await asyncio.gather(*(check_end(made, stages, one, headers) for one in held))
