"""How `overlay promote` ends where it is used wrongly, stopped, or cannot say how it ended."""

import asyncio
import resource
import signal
from pathlib import Path

import msgspec
import pytest

from overlay.cli.promote_report import PromoteReport
from overlay.domain.wire_promotions import PromotionList, PromotionView
from tests.cli.conftest import Command
from tests.e2e.gate_proxy import When, gate_proxy
from tests.e2e.promoting import demo, scripted
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, OpenGate

BUILT = demo()
WHEEL, SDIST = BUILT


@pytest.mark.parametrize(
    "words",
    [
        ["--dry-run"],
        ["--expect", f"{WHEEL.filename}=sha256:{WHEEL.sha256}"],
        ["--partial"],
        ["--ignore-rule", "local-version"],
        ["--no-wait"],
        ["--timeout", "600"],
        ["--attest"],
        ["--no-attestations"],
    ],
    ids=lambda words: words[0],
)
async def test_nothing_else_is_ordered_with_abandon(command: Command, words: list[str]) -> None:
    """A dry run of it would give the promotion up all the same."""
    ran = await command("promote", "--abandon", *words, "demo==1.1")
    assert ran.code == 2
    assert f"leave out {words[0]}" in ran.err


async def test_what_is_wrong_commands_nothing_to_githubs_runner(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever said it: it obeys `##[` anywhere."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ran = await command("promote", "--abandon", "##[add-mask]x")
    assert ran.code == 2
    assert "add-mask" in ran.err
    assert "##[" not in ran.err


async def test_json_is_printed_for_wrong_usage_too(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads it need not read the sentence on standard error."""
    monkeypatch.delenv("OVERLAY_URL")
    ran = await command("promote", "--json", "demo==1.1")
    told = msgspec.json.decode(ran.out, type=PromoteReport)
    assert (ran.code, told.exit_code, told.outcome) == (2, 2, "failed")
    assert "OVERLAY_URL" in told.problem
    assert "OVERLAY_URL" in ran.err


async def test_a_summary_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    """A job in a container has no such file; all is live, and the report says so."""
    async with scripted(tmp_path, BUILT) as (_, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN, GITHUB_STEP_SUMMARY=str(tmp_path / "none" / "summary"))
        ran = await job.run("--json", *job.dist)
    assert ran.code == 0, ran.err
    assert ran.report.outcome == "live"
    assert "warning: the step summary cannot be written: No such file" in ran.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_run_that_is_stopped_says_how_far_it_came(tmp_path: Path, number: signal.Signals) -> None:
    """As JSON and in the summary: whoever cancelled the job wants to know what is out."""
    summary = tmp_path / "summary"
    held = Fault(at=Point.RECEIVED, action=Hang("here"), subject=WHEEL.filename)
    async with scripted(tmp_path, BUILT, held) as (pypi, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN, GITHUB_STEP_SUMMARY=str(summary))
        process = await job.start("--json", *job.dist)
        await pypi.reached("here")
        process.send_signal(number)
        ran = await job.ended()
        await pypi.do(OpenGate("here"))
        assert ran.code == 1
        assert ran.report.problem == "Stopped."
        assert [file.state for file in ran.report.files] == ["pushing", "planned"]
        assert "The same command goes on" in summary.read_text()
        (waiting,) = await stage.promotions("demo==1.1")
        assert waiting.state == "waiting"
        given_up = await stage.job().run("--abandon", "--json", "demo==1.1", "other==1.0")
        (view,) = msgspec.json.decode(given_up.out, type=PromotionList).promotions
        assert (view.id, view.state) == (waiting.id, "abandoned")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_run_that_is_stopped_while_it_plans_leaves_nothing_frozen(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Though the overlay had planned it, and only the answer was on its way."""
    async with (
        scripted(tmp_path, BUILT) as (pypi, stage),
        gate_proxy(stage.served.url, 0, When.AFTER, cut=False) as gate,
    ):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN, OVERLAY_URL=gate.url)
        process = await job.start("--json", *job.dist)
        async with asyncio.timeout(60):
            await gate.reached.wait()
        (planned,) = await stage.promotions("demo==1.1")
        assert planned.state == "running"
        process.send_signal(number)
        gate.opened.set()
        ran = await job.ended()
        assert (ran.code, ran.report.outcome) == (1, "failed")
        assert await stage.promotions("demo==1.1") == ()
        assert not (await pypi.recording()).posts()


async def test_a_refusal_of_the_plan_names_its_rules_as_json(tmp_path: Path) -> None:
    """A script decides by the rule, not by the sentence."""
    async with scripted(tmp_path, BUILT) as (_, stage):
        job = stage.job(WHEEL, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
    assert ran.code == 3
    assert ran.report.refusals
    assert all(refusal.sentence in ran.report.problem for refusal in ran.report.refusals)


async def test_a_refusal_of_the_plan_does_not_speak_for_earlier_runs(tmp_path: Path) -> None:
    """Nobody told this run what is out: it says what it did, and what shows the rest."""
    async with scripted(tmp_path, ()) as (_, stage):
        job = stage.job(WHEEL, TWINE_PASSWORD=TOKEN)
        ran = await job.run(*job.dist)
    assert ran.code == 3
    assert ran.out.endswith("This run pushed nothing; `overlay show demo==1.1` says how far an earlier one came.\n")


async def test_the_receipt_is_where_the_report_says(tmp_path: Path) -> None:
    """Once all is live."""
    async with scripted(tmp_path, BUILT) as (_, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
        assert ran.report.receipt is not None
        async with stage.session.get(ran.report.receipt) as answer:
            receipt = msgspec.json.decode(await answer.read(), type=PromotionView)
        assert (receipt.id, receipt.state) == (ran.report.promotion, "live")


async def test_a_run_that_does_not_wait_has_no_receipt_yet(tmp_path: Path) -> None:
    """There is one when the overlay has seen all of it live."""
    async with scripted(tmp_path, BUILT) as (_, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", "--no-wait", *job.dist)
    assert (ran.code, ran.report.outcome, ran.report.receipt) == (0, "accepted", None)
    assert ran.report.promotion is not None


async def test_a_full_disk_is_not_taken_for_the_output(tmp_path: Path) -> None:
    """A limit on the size of files stands for it: nothing was pushed, and TMPDIR helps."""
    async with scripted(tmp_path, BUILT) as (pypi, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        process = await job.start("--json", *job.dist)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
        ran = await job.ended()
        assert not (await pypi.recording()).posts()
    assert ran.code == 3, ran.err
    assert "TMPDIR" in ran.report.problem
