"""What `overlay promote --json` prints, against the schema that scripts are given (deploy/ci/promote.schema.json)."""

import json
import signal
from pathlib import Path
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.builders import Built, wheel
from tests.e2e.promoting import Ran, demo, scripted
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, Lag

SCHEMA: Final = Path(__file__).parents[2] / "deploy" / "ci" / "promote.schema.json"
BUILT: Final = demo()
NAMES: Final = [one.filename for one in BUILT]
AGAIN: Final = Built(NAMES[0], wheel("demo", "1.1", files={"demo/other.py": b"other"}).body)
NO_TOKEN: Final = TOKEN.replace("pypi-", "pypi-A")


def checked(ran: Ran, code: int, outcome: str) -> dict[str, Any]:
    """Read what a script would; it is one JSON document and nothing else."""
    told: dict[str, Any] = json.loads(ran.out)
    jsonschema.validate(told, json.loads(SCHEMA.read_bytes()))
    assert (ran.code, told["exit_code"], told["outcome"]) == (code, code, outcome), ran.out
    return told


def states(told: dict[str, Any]) -> dict[str, str]:
    return {file["filename"]: file["state"] for file in told["files"]}


@pytest.mark.parametrize(
    ("words", "outcome", "state"),
    [((), "live", "live"), (("--no-wait",), "accepted", "pushed"), (("--dry-run",), "planned", "planned")],
)
async def test_what_went_well(tmp_path: Path, words: tuple[str, ...], outcome: str, state: str) -> None:
    """Live, accepted and not seen yet, or only planned: 0."""
    async with scripted(tmp_path, BUILT, *([Lag(None)] if outcome == "accepted" else ())) as (_, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        told = checked(await job.run("--json", *words, *job.dist), 0, outcome)
        assert states(told) == dict.fromkeys(NAMES, state)
        assert told["problem"] == ""


async def test_what_was_refused(tmp_path: Path) -> None:
    """By the overlay, with its reasons, or by the command: 3."""
    async with scripted(tmp_path, BUILT) as (_, stage):
        job = stage.job(AGAIN, BUILT[1], TWINE_PASSWORD=TOKEN)
        told = checked(await job.run("--json", *job.dist), 3, "refused")
        assert [(one["rule"], one["filename"]) for one in told["refusals"]] == [("pledge-differs", NAMES[0])]
        job = stage.job(*BUILT)
        told = checked(await job.run("--json", *job.dist), 3, "refused")
        assert told["refusals"] == []
        assert told["problem"]


async def test_what_failed(tmp_path: Path) -> None:
    """Upstream did not take it: 1."""
    async with scripted(tmp_path, BUILT) as (_, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=NO_TOKEN)
        told = checked(await job.run("--json", *job.dist), 1, "failed")
        assert states(told) == dict.fromkeys(NAMES, "planned")
        assert told["files"][0]["status"] == 403


async def test_what_was_stopped(tmp_path: Path) -> None:
    """By Ctrl-C in mid-upload: 1, and the file may be out."""
    async with scripted(tmp_path, BUILT) as (pypi, stage):
        await pypi.do(Fault(at=Point.RECEIVED, action=Hang("here")))
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        process = await job.start("--json", *job.dist)
        await pypi.reached("here")
        process.send_signal(signal.SIGINT)
        told = checked(await job.ended(), 1, "failed")
        assert states(told) == {NAMES[0]: "pushing", NAMES[1]: "planned"}
