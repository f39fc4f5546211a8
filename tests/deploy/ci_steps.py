"""deploy/ci as its platforms run it: what stands in its files, and the scripts of its steps, with stand-ins."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from tests.builders import Built
from tests.distributed import lives
from tests.pypi.orders import TOKEN
from tests.pypi.process import PypiProcess

CI: Final = Path(__file__).resolve().parents[2] / "deploy" / "ci"
WORKFLOWS: Final = sorted(CI.glob("github-*.yml"))
ACTIONS: Final = sorted(CI.glob("*/action.yml"))
GITLAB: Final = CI / "gitlab-ci.yml"


def read(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


async def begun(name: str, folder: Path, environment: dict[str, str]) -> Process:
    """Start one of the scripts."""
    return await started(str(CI / name), folder=folder, environment=environment)


async def started(*words: str, folder: Path, environment: dict[str, str]) -> Process:
    """Start bash with these words."""
    return await asyncio.create_subprocess_exec(
        *("bash", *words),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def ended(process: Process) -> tuple[int, str]:
    """Wait for its end; return its exit code and what it said."""
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


@dataclass
class Runner:
    """What a platform gives the steps of a job: a folder with dist/, a place for the program, and files to tell."""

    folder: Path
    environment: dict[str, str]

    async def run(self, name: str, **more: str) -> tuple[int, str]:
        """Run a script to its end."""
        return await ended(await begun(name, self.folder, self.environment | more))

    async def step(self, lines: str, **more: str) -> tuple[int, str]:
        """Run what a job's file has as a step, to its end; a line that fails ends it."""
        process = await started("-ec", lines, folder=self.folder, environment=self.environment | more)
        return await ended(process)

    def take_over(self) -> None:
        """Give the next steps what the last ones told them."""
        told = self.folder / "env"
        self.environment |= dict(line.split("=", 1) for line in told.read_text().splitlines())

    async def ended(self) -> None:
        """Wait until the overlay of this job is gone."""
        async with asyncio.timeout(60):
            while _runs(int(self.environment["STARTED_OVERLAY"])):
                await asyncio.sleep(0.1)


def _runs(pid: int) -> bool:
    """Say whether a process has not ended; whether somebody has asked how it did depends on the machine."""
    try:
        return lives(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def runner(folder: Path, pypi: PypiProcess, built: Sequence[Built]) -> Runner:
    (folder / "dist").mkdir()
    for one in built:
        (folder / "dist" / one.filename).write_bytes(one.body)
    (folder / "dist" / ".gitignore").write_text("*")
    program = folder / "overlay-ci" / "bin" / "overlay"  # what install.sh leaves as it is
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m overlay "$@"\n')
    program.chmod(0o755)
    return Runner(
        folder,
        {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "RUNNER_TEMP": str(folder),
            "GITHUB_ENV": str(folder / "env"),
            "GITHUB_OUTPUT": str(folder / "outputs"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "FILES": "dist/*",
            "TWINE_PASSWORD": TOKEN,
            "TWINE_REPOSITORY_URL": pypi.upload_url,
        },
    )


def steps_of(action: str, **given: str) -> list[tuple[str, dict[str, str]]]:
    """List the scripts that an action runs with these inputs, with the environment that each gets from it."""
    document = read(CI / action / "action.yml")
    inputs = {name: said.get("default", "") for name, said in document["inputs"].items()} | given
    assert inputs.keys() == document["inputs"].keys()
    found = []
    for step in document["runs"]["steps"]:
        if "if" in step:
            name, word = re.fullmatch(r"inputs\.([a-z-]+) == '([a-z]*)'", step["if"]).groups()  # type: ignore[union-attr]
            if inputs[name] != word:
                continue
        environment = {
            key: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda match: inputs[match[1]], text)
            for key, text in step.get("env", {}).items()
        }
        assert not [text for text in environment.values() if "${{" in text]
        script = re.fullmatch(r'exec bash "\$GITHUB_ACTION_PATH/\.\./([a-z]+\.sh)"', step["run"])
        assert script is not None
        found.append((script[1], environment))
    return found


async def act(made: Runner, action: str, **given: str) -> None:
    """Run an action's steps, as its file says."""
    for name, environment in steps_of(action, **given):
        code, said = await made.run(name, **environment)
        assert code == 0, said
        if name == "start.sh":
            made.take_over()
