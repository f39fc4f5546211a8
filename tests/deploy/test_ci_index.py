"""deploy/ci: the jobs that test a release install it, and whatever else, through an overlay."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders import sdist, wheel
from tests.clients import installed
from tests.deploy.ci_steps import CI, GITLAB, Runner, act, read, runner
from tests.e2e.promoting import staged
from tests.pypi.orders import live
from tests.pypi.process import PypiProcess, pypi_process

STAGED = [wheel("demo", "1.1", requires=["lib"]), sdist("demo", "1.1", requires=["lib"])]
LIVE = [wheel("demo", "1.0"), wheel("lib", "2.0"), wheel("pytest", "9.0")]


def step_of(file: str) -> tuple[str, dict[str, str]]:
    """Return the lines with which a workflow's job tests the release, and the environment that it gives them."""
    if file == GITLAB.name:
        return "\n".join(read(GITLAB)["test"]["script"]), {}
    (step,) = (step for step in read(CI / file)["jobs"]["test"]["steps"] if "pip install" in step.get("run", ""))
    return step["run"], step.get("env", {})


@contextlib.asynccontextmanager
async def index(file: str, folder: Path, pypi: PypiProcess, made: Runner) -> AsyncIterator[str]:
    """Run the overlay that a workflow's job has; return its URL, where the job is told that."""
    if file == "github-release-without-server.yml":
        await act(made, "overlay", **{"upstream-url": pypi.simple_url})
        try:
            yield ""
        finally:
            os.kill(int(made.environment["STARTED_OVERLAY"]), signal.SIGTERM)
            await made.ended()
    else:
        async with staged(folder, pypi.simple_url, pypi.upload_url, STAGED) as stage:
            yield stage.served.url


def prepare(made: Runner) -> None:
    """Let pip install into a folder, and let a pytest that only says so stand for the project's tests."""
    program = made.folder / "bin" / "pytest"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho all passed\n")
    program.chmod(0o755)
    made.environment["PATH"] = os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), os.defpath])
    made.environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_TARGET": str(made.folder / "site")}


@pytest.mark.parametrize("file", ["github-release.yml", "github-release-without-server.yml", GITLAB.name])
async def test_the_tests_get_the_staged_release_and_the_rest_from_upstream(tmp_path: Path, file: str) -> None:
    """By pip, as the file's own step calls it; nothing is live of the release."""
    lines, given = step_of(file)
    async with pypi_process() as pypi:
        await pypi.do(*map(live, LIVE))
        made = runner(tmp_path, pypi, STAGED)
        prepare(made)
        async with index(file, tmp_path, pypi, made) as url:
            told = {name: text.replace("${{ vars.OVERLAY_URL }}", url) for name, text in given.items()}
            assert not re.search(r"\$\{\{", "".join(told.values()))
            tag = {"CI_COMMIT_TAG": "v1.1", "OVERLAY_URL": url} if file == GITLAB.name else {"GITHUB_REF_NAME": "v1.1"}
            code, said = await made.step(lines, **(tag | told))
        assert code == 0, said
        assert said.endswith("all passed\n")
        assert installed(tmp_path / "site") == {"demo": "1.1", "lib": "2.0", "pytest": "9.0"}
