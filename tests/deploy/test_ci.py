"""deploy/ci: its files are what GitHub and GitLab read, and what its steps run does what they say."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.builders import Built, sdist, wheel
from tests.e2e.promoting import staged
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, OpenGate, Publisher, Token
from tests.pypi.orders import Job as Identity
from tests.pypi.process import PypiProcess, pypi_process
from tests.running import ADMIN

CI: Final = Path(__file__).resolve().parents[2] / "deploy" / "ci"
ROOT: Final = CI.parents[1]
WORKFLOWS: Final = sorted(CI.glob("github-*.yml"))
ACTIONS: Final = sorted(CI.glob("*/action.yml"))
_HASHED: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^ ;\\]+)", re.MULTILINE)

_BY_COMMIT: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)+@[0-9a-f]{40}")


def read(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def checked(schema: str, *files: Path, transform: str = "") -> str:
    """Check files against the schema that their platform publishes; return what is wrong, "" if nothing."""
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    words += ["--data-transform", transform] if transform else []
    done = subprocess.run([*words, *map(str, files)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_files_are_what_the_platforms_read(tmp_path: Path) -> None:
    """By the schemas of GitHub's workflows and actions and of GitLab's pipelines; a wrong one is found."""
    assert checked("github-workflows", *WORKFLOWS) == ""
    assert checked("github-actions", *ACTIONS) == ""
    assert checked("gitlab-ci", CI / "gitlab-ci.yml", transform="gitlab-ci") == ""
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    assert "run-on" in checked("github-workflows", broken)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_only_the_job_that_promotes_has_an_identity(workflow: Path) -> None:
    """What is built and tested runs the project's code, and whoever has the identity can publish."""
    document = read(workflow)
    assert document["permissions"] == {"contents": "read"}
    identified = [name for name, job in document["jobs"].items() if "id-token" in job.get("permissions", {})]
    assert identified == ["promote"]
    promote = document["jobs"]["promote"]
    assert promote["environment"] == "pypi"
    assert not any("run" in step or "checkout" in step.get("uses", "") for step in promote["steps"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_what_runs_beside_an_identity_is_named_by_commit(workflow: Path) -> None:
    """Whoever can move a tag could publish; REF stands for a commit that whoever copies the file fills in."""
    jobs = [job for job in read(workflow)["jobs"].values() if "id-token" in job.get("permissions", {})]
    used = [step["uses"] for job in jobs for step in job["steps"] if "uses" in step]
    assert len(used) > 1
    ours = re.compile(r"OWNER/overlay/[a-z/]+@REF")
    assert not [named for named in used if not (_BY_COMMIT.fullmatch(named) or ours.fullmatch(named))]


def test_no_script_is_made_of_inputs() -> None:
    """An input is a value of the environment: within a script it would be code."""
    for path in [*WORKFLOWS, *ACTIONS]:
        document = read(path)
        jobs = document.get("jobs", {"": document.get("runs", {})})
        scripts = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
        assert scripts
        assert not [script for script in scripts if "${{" in script]


def test_what_is_installed_to_promote_is_pinned() -> None:
    """Each requirement of the program, to a version that it accepts, by hash."""
    text = (CI / "requirements-promote.txt").read_text(encoding="utf-8")
    pinned = {canonicalize_name(found["name"]): found["version"] for found in _HASHED.finditer(text)}
    assert text.count("--hash=sha256:") >= len(pinned)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert listed is not None
    for line in listed[1].splitlines():
        if quoted := re.search(r'"([^"]+)"', line):
            wanted = Requirement(quoted[1])
            assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, wanted


def test_the_files_that_the_readme_names_are_there() -> None:
    """And none that it does not name."""
    named = set(re.findall(r"\]\(([^)/]+/?[^)]*)\)", (CI / "README.md").read_text(encoding="utf-8")))
    there = {str(path.relative_to(CI)) for path in CI.rglob("*") if path.is_file()} - {"README.md"}
    assert named == there


async def begun(name: str, folder: Path, environment: dict[str, str]) -> Process:
    return await asyncio.create_subprocess_exec(
        *("bash", str(CI / name)),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def script(name: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    process = await begun(name, folder, environment)
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
        return await script(name, self.folder, self.environment | more)

    def take_over(self) -> None:
        """Give the next steps what the last ones told them."""
        told = self.folder / "env"
        self.environment |= dict(line.split("=", 1) for line in told.read_text().splitlines())

    async def ended(self) -> None:
        """Wait until the overlay of this job is gone."""
        async with asyncio.timeout(60):
            while psutil.pid_exists(int(self.environment["STARTED_OVERLAY"])):
                await asyncio.sleep(0.1)


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
        code, said = await made.run("promote.sh")
        assert code == 0, said
        assert (await pypi.recording()).stored() == [one.filename for one in built]
        assert '"outcome": "live"' in (tmp_path / "outputs").read_text()
        assert "overlay promote: live" in (tmp_path / "summary").read_text()
    await made.ended()  # it was told to stop


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


async def act(made: Runner, **given: str) -> None:
    """Run the action that promotes, as its file says."""
    for name, environment in steps_of("promote", **given):
        code, said = await made.run(name, **environment)
        assert code == 0, said
        if name == "start.sh":
            made.take_over()


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
            await act(made, **given)
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
        await act(made, files="dist/*.whl", arguments="--dry-run", **where)
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


def test_gitlab_fetches_a_commit_by_its_id(tmp_path: Path) -> None:
    """The job's own lines, with a repository of this machine: REF is a full commit id, which no clone takes."""
    lines = read(CI / "gitlab-ci.yml")["promote"]["script"]
    repository, job = tmp_path / "repository", tmp_path / "job"
    job.mkdir()
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    (repository / "there").touch()
    author = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
    for words in (("add", "."), (*author, "commit", "-qm", "one")):
        subprocess.run(["git", "-C", str(repository), *words], check=True)
    commit = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    fetching = [line for line in lines if line.startswith("git ")]
    text = "\n".join(fetching).replace("https://example.com/OWNER/overlay.git", repository.as_uri())
    subprocess.run(["bash", "-ec", text.replace("REF", commit)], cwd=job, check=True)
    assert (job / "overlay-source" / "there").exists()
