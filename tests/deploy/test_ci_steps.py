"""deploy/ci: what the steps of its actions run does what they say."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.builders import sdist, wheel
from tests.deploy.ci_steps import act, begun, ended, runner, steps_of
from tests.e2e.promoting import staged
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, OpenGate, Publisher, Token
from tests.pypi.orders import Job as Identity
from tests.pypi.process import pypi_process
from tests.running import ADMIN


async def test_the_steps_promote_without_any_server(tmp_path: Path) -> None:
    """As the action runs them, one after the other: an overlay of the job's own, and its files go live.

    After the action that only serves one, too: what a step tells the next ones is no setting of an overlay.
    """
    built = [wheel("demo", "1.1"), sdist("demo", "1.1")]
    async with pypi_process() as pypi:
        await pypi.do(Token(text=TOKEN))
        made = runner(tmp_path, pypi, built)
        upstream = {"OVERLAY_UPSTREAM_URL": pypi.simple_url, "OVERLAY_UPSTREAM_UPLOAD_URL": pypi.upload_url}
        assert await made.run("install.sh") == (0, "")
        code, said = await made.run("start.sh", **upstream, AS_INDEX="yes")
        assert code == 0, said
        made.take_over()
        served = int(made.environment["STARTED_OVERLAY"])
        try:
            code, said = await made.run("start.sh", **upstream)
        finally:
            os.kill(served, signal.SIGTERM)
        assert code == 0, said
        made.take_over()
        assert made.environment["OVERLAY_TOKEN"] not in said
        assert len([*tmp_path.glob("overlay-log.*")]) == 2  # an address is read from the log of its own overlay
        code, said = await made.run("promote.sh")
        assert code == 0, said
        assert (await pypi.recording()).stored() == [one.filename for one in built]
        assert '"outcome": "live"' in (tmp_path / "outputs").read_text()
        assert "overlay promote: live" in (tmp_path / "summary").read_text()
    await made.ended()  # it was told to stop


@pytest.mark.parametrize("by", ["token", "identity"])
async def test_the_action_promotes_from_an_overlay_that_the_job_reaches(tmp_path: Path, by: str) -> None:
    """With its own credential, or by Trusted Publishing; no overlay is started."""
    built = [wheel("demo", "1.1"), sdist("demo", "1.1")]
    async with pypi_process() as pypi:
        await pypi.do(Token(text=TOKEN), Publisher(projects=("demo",), pending=True))
        made = runner(tmp_path, pypi, built)
        if by == "identity":
            del made.environment["TWINE_PASSWORD"]
            made.environment |= await pypi.job(Identity())
        async with staged(tmp_path, pypi.simple_url, pypi.upload_url, built) as stage:
            given = {"url": stage.served.url, "token": ADMIN}
            assert [name for name, _ in steps_of("promote", **given)] == ["install.sh", "promote.sh"]
            await act(made, "promote", **given)
            (promotion,) = await stage.promotions("demo==1.1")
        assert promotion.state == "live"
        recording = await pypi.recording()
        assert recording.stored() == [one.filename for one in built]
        assert len(recording.minted()) == (1 if by == "identity" else 0)
        assert not (tmp_path / "env").exists()
        assert '"outcome": "live"' in (tmp_path / "outputs").read_text()


async def test_the_action_promotes_without_an_overlay_to_reach(tmp_path: Path) -> None:
    """It starts one, in front of the index of its inputs, for the files of its inputs alone; arguments go along."""
    built = [wheel("demo", "1.1"), sdist("demo", "1.1")]
    async with pypi_process() as pypi:
        await pypi.do(Token(text=TOKEN))
        made = runner(tmp_path, pypi, built)
        where = {"upstream-url": pypi.simple_url, "upload-url": pypi.upload_url}
        assert [name for name, _ in steps_of("promote")] == ["install.sh", "start.sh", "promote.sh"]
        await act(made, "promote", files="dist/*.whl", arguments="--dry-run", **where)
        assert not (await pypi.recording()).posts()
        told = json.loads("\n".join((tmp_path / "outputs").read_text().split("report<<")[1].splitlines()[1:-1]))
        assert (told["outcome"], told["target"]) == ("planned", pypi.upload_url)
        assert [file["filename"] for file in told["files"]] == [built[0].filename]
    await made.ended()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_a_cancelled_job_publishes_no_further_file(tmp_path: Path, sent: signal.Signals) -> None:
    """A platform signals the step's shell alone; what that started ends in order before the shell does."""
    built = [wheel("demo", "1.1"), sdist("demo", "1.1")]
    async with pypi_process() as pypi:
        await pypi.do(Token(text=TOKEN), Fault(at=Point.ARRIVED, action=Hang(gate="upload")))
        made = runner(tmp_path, pypi, built)
        code, said = await made.run(
            "start.sh", OVERLAY_UPSTREAM_URL=pypi.simple_url, OVERLAY_UPSTREAM_UPLOAD_URL=pypi.upload_url
        )
        assert code == 0, said
        made.take_over()
        process = await begun("promote.sh", tmp_path, made.environment)
        try:
            async with asyncio.timeout(60):
                await pypi.reached("upload")
                process.send_signal(sent)
                out, _ = await process.communicate()
        finally:
            await pypi.do(OpenGate("upload"))
        assert process.returncode == 1, out.decode()
        await pypi.settled()
        assert built[1].filename not in (await pypi.recording()).stored()
    await made.ended()


async def test_a_cancelled_step_ends_with_the_exit_code_of_what_it_started(tmp_path: Path) -> None:
    """However soon after the signal that ends: here at once, which a shell may hear of before it waits again."""
    program = tmp_path / "overlay-ci" / "bin" / "overlay"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\ntrap 'exit 3' TERM\n: >ready\nfor _ in $(seq 500); do sleep 0.01; done\n")
    program.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "RUNNER_TEMP": str(tmp_path), "FILES": "dist/*"}
    codes = []
    async with asyncio.timeout(60):
        for _ in range(12):
            process = await begun("promote.sh", tmp_path, environment)
            while not (tmp_path / "ready").exists():
                await asyncio.sleep(0.01)
            (tmp_path / "ready").unlink()
            process.send_signal(signal.SIGTERM)
            code, _ = await ended(process)
            codes.append(code)
    assert set(codes) == {3}
