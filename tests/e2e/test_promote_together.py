"""What happens to a release while it is promoted: uploads, withdrawals, another run, a lease that lapses, giving up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from overlay.config.tables import UpstreamConfig
from overlay.services.settling import LOOK_EVERY_S, NOTICE_EVERY_S
from tests.builders import wheel
from tests.clock import Clock
from tests.e2e.promoting import LEASE_S, Here, Job, Stage, at, demo, in_front_of, scripted
from tests.e2e.readings import history
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, OpenGate, Token
from tests.pypi.scripting import Pypi
from tests.pypi.server import pypi
from tests.running import ADMIN, Running, basic, form, running

BUILT = demo()
OTHER = wheel("demo", "1.1", files={"demo/other.py": b"other"})
NEW = wheel("demo", "1.1", tag="cp313-cp313-win_amd64")


async def run_to(pypi: Pypi, stage: Stage, point: Point) -> Job:
    """Start a run and wait until its first file is at a point."""
    await pypi.do(Fault(at=point, action=Hang("here"), subject=BUILT[0].filename))
    job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
    await job.start("--json", *job.dist)
    await pypi.reached("here")
    return job


@contextlib.asynccontextmanager
async def otherwise(folder: Path, clock: Clock) -> AsyncIterator[tuple[Pypi, Running, Stage]]:
    """Run an overlay by this clock, with the release staged; its regular work is the test's to do."""
    async with pypi() as index:
        await index.do(Token(text=TOKEN))
        config = in_front_of(index.simple_url, index.upload_url, folder / "overlay")
        async with (
            running(config, now_s=clock) as overlay,
            at(Here(overlay.url, folder / "overlay"), index.upload_url, folder) as stage,
        ):
            await stage.put(*BUILT)
            yield index, overlay, stage


async def upload_otherwise(index: Pypi, stage: Stage) -> None:
    """Upload the release to upstream, past the overlay."""
    login = {"Authorization": aiohttp.encode_basic_auth("__token__", TOKEN)}
    for built in BUILT:
        async with stage.session.post(index.upload_url, data=form(built), headers=login) as answer:
            assert answer.status == 200, await answer.text()


async def test_a_release_takes_no_other_file_while_it_is_promoted(tmp_path: Path) -> None:
    """Neither other bytes, nor new names, nor a withdrawal; the same bytes are fine. Then it goes on."""
    async with scripted(tmp_path, BUILT) as (pypi, stage):
        job = await run_to(pypi, stage, Point.RECEIVED)
        for built, said in ((OTHER, "File already exists"), (NEW, "Release demo==1.1 is being promoted by")):
            async with stage.session.post(
                f"{stage.served.url}/legacy/", data=form(built), headers=basic(ADMIN)
            ) as answer:
                assert answer.status == 400
                assert (answer.reason or "").startswith(said)
        await stage.put(BUILT[0])
        async with stage.session.delete(
            f"{stage.served.url}/api/v1/projects/demo/1.1", headers={"Authorization": f"Bearer {ADMIN}"}
        ) as answer:
            assert answer.status == 409
        assert set(await stage.page("demo")) == {one.filename for one in BUILT}
        await pypi.do(OpenGate("here"))
        ran = await job.ended()
        assert ran.code == 0, ran.report.problem
        await stage.put(NEW)


async def test_of_two_runs_at_once_one_promotes_and_the_other_finds_it_done_or_is_refused(tmp_path: Path) -> None:
    """Nothing is pushed twice."""
    async with scripted(tmp_path, BUILT) as (pypi, stage):
        jobs = [stage.job(*BUILT, TWINE_PASSWORD=TOKEN) for _ in range(2)]
        codes = [ran.code for ran in await asyncio.gather(*(job.run("--json", *job.dist) for job in jobs))]
        assert 0 in codes
        assert set(codes) <= {0, 3}
        recording = await pypi.recording()
        assert recording.stored() == [one.filename for one in BUILT]
        assert len(recording.posts()) == len(BUILT)


async def test_before_the_first_push_a_freeze_ends_with_its_lease(tmp_path: Path) -> None:
    """A job that vanished holds nobody up for longer."""
    clock = Clock()
    async with (
        otherwise(tmp_path, clock) as (_, _, stage),
        aiohttp.ClientSession(headers=basic(ADMIN)) as session,
    ):
        order = {
            "releases": ["demo==1.1"],
            "pledges": [{"filename": one.filename, "sha256": one.sha256} for one in BUILT],
            "holder": "a" * 32,
        }
        async with session.post(f"{stage.served.url}/api/v1/promotions", json=order) as answer:
            assert answer.status == 201, await answer.text()
        async with session.post(f"{stage.served.url}/legacy/", data=form(OTHER)) as answer:
            assert answer.status == 400
        clock.now_s += LEASE_S + 1
        async with session.post(f"{stage.served.url}/legacy/", data=form(OTHER)) as answer:
            assert answer.status == 200, await answer.text()


async def test_after_the_first_push_only_giving_up_ends_the_freeze(tmp_path: Path) -> None:
    """However long ago the job vanished. What is out stays out, and is said."""
    clock = Clock()
    async with otherwise(tmp_path, clock) as (pypi, _, stage):
        job = await run_to(pypi, stage, Point.RECEIVED)
        assert job.process is not None
        job.process.kill()
        await job.process.wait()
        clock.now_s += LEASE_S + 1
        async with stage.session.post(f"{stage.served.url}/legacy/", data=form(NEW), headers=basic(ADMIN)) as answer:
            assert answer.status == 400
        (waiting,) = await stage.promotions("demo==1.1")
        assert waiting.state == "waiting"
        given_up = await stage.job(TWINE_PASSWORD=TOKEN).run("--abandon", "demo==1.1")
        assert given_up.code == 0, given_up.err
        assert BUILT[0].filename in given_up.out
        assert [one.state for one in await stage.promotions("demo==1.1")] == ["abandoned"]
        await stage.put(NEW)
        again = await stage.job().run("--abandon", "demo==1.1")
        assert again.code == 1
        await pypi.do(OpenGate("here"))


async def test_a_run_that_is_stopped_lets_its_lease_go(tmp_path: Path) -> None:
    """A cancelled job is sent SIGTERM; the next one need not wait."""
    async with scripted(tmp_path, BUILT) as (pypi, stage):
        job = await run_to(pypi, stage, Point.RECEIVED)
        assert job.process is not None
        job.process.terminate()
        ran = await job.ended()
        assert ran.code == 1
        assert ran.report.problem == "Stopped."
        await pypi.do(OpenGate("here"))
        await pypi.settled()
        (waiting,) = await stage.promotions("demo==1.1")
        assert waiting.state == "waiting"
        assert (await stage.job(*BUILT, TWINE_PASSWORD=TOKEN).run("dist/" + BUILT[0].filename, "--partial")).code == 3
        last = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        assert (await last.run(*last.dist)).code == 0
        assert (await pypi.recording()).stored() == [one.filename for one in BUILT]


async def test_what_became_live_otherwise_ends_the_promotion(tmp_path: Path) -> None:
    """A plain upload to upstream finishes what a killed run began. Every half minute the overlay looks for that."""
    clock = Clock()
    async with otherwise(tmp_path, clock) as (index, overlay, stage):
        job = await run_to(index, stage, Point.RECEIVED)
        assert job.process is not None
        job.process.kill()
        await job.process.wait()
        await index.do(OpenGate("here"))
        await index.settled()
        await upload_otherwise(index, stage)
        clock.now_s += LEASE_S + LOOK_EVERY_S
        await overlay.wired.services.settling.settle()
        (receipt,) = await stage.promotions("demo==1.1")
        assert receipt.state == "live"
        assert {file.state for file in receipt.files} == {"live"}
        await stage.put(NEW)


async def test_what_became_live_otherwise_is_recorded(tmp_path: Path) -> None:
    """Nobody promotes. Every hour it is looked for; once no old page needs the copy, it ends and leads to the file."""
    clock = Clock()
    async with otherwise(tmp_path, clock) as (index, overlay, stage):
        urls = {name: file.url for name, file in (await stage.listed("demo")).items()}
        await upload_otherwise(index, stage)
        clock.now_s += NOTICE_EVERY_S + 1
        await overlay.wired.services.settling.notice()
        assert await history(overlay, "demo") == []
        clock.now_s += UpstreamConfig().stale_s
        await overlay.wired.services.settling.notice()
        assert sorted(await history(overlay, "demo")) == sorted((one.filename, one.sha256, "live") for one in BUILT)
        page = await stage.listed("demo")
        for filename, url in urls.items():
            async with overlay.get(url.removeprefix("../..")) as answer:
                assert (answer.status, answer.headers["Location"]) == (302, page[filename].url)
