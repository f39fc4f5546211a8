"""deploy/ci: its files are what GitHub and GitLab read, and what its steps run does what they say."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.builders import sdist, wheel
from tests.pypi.orders import TOKEN, Token
from tests.pypi.process import pypi_process

CI: Final = Path(__file__).resolve().parents[2] / "deploy" / "ci"
ROOT: Final = CI.parents[1]
WORKFLOWS: Final = sorted(CI.glob("github-*.yml"))
ACTIONS: Final = sorted(CI.glob("*/action.yml"))
_HASHED: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^ ;\\]+)", re.MULTILINE)


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


async def script(name: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *("bash", str(CI / name)),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_the_steps_promote_without_any_server(tmp_path: Path) -> None:
    """As the action runs them, one after the other: an overlay of the job's own, and its files go live."""
    built = [wheel("demo", "1.1"), sdist("demo", "1.1")]
    (tmp_path / "dist").mkdir()
    for one in built:
        (tmp_path / "dist" / one.filename).write_bytes(one.body)
    (tmp_path / "dist" / ".gitignore").write_text("*")
    program = tmp_path / "overlay-ci" / "bin" / "overlay"  # what install.sh leaves as it is
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m overlay "$@"\n')
    program.chmod(0o755)
    told, outputs, summary = tmp_path / "env", tmp_path / "outputs", tmp_path / "summary"
    async with pypi_process() as pypi:
        await pypi.do(Token(text=TOKEN))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_ENV": str(told),
            "GITHUB_OUTPUT": str(outputs),
            "GITHUB_STEP_SUMMARY": str(summary),
            "FILES": "dist/*",
            "OVERLAY_UPSTREAM_URL": pypi.simple_url,
            "OVERLAY_UPSTREAM_UPLOAD_URL": pypi.upload_url,
        }
        assert await script("install.sh", tmp_path, environment) == (0, "")
        code, said = await script("start.sh", tmp_path, environment)
        assert code == 0, said
        for name in ("OVERLAY_UPSTREAM_URL", "OVERLAY_UPSTREAM_UPLOAD_URL"):
            del environment[name]
        environment |= dict(line.split("=", 1) for line in told.read_text().splitlines())
        assert environment["OVERLAY_TOKEN"] not in said
        code, said = await script("promote.sh", tmp_path, environment | {"TWINE_PASSWORD": TOKEN})
        assert code == 0, said
        assert (await pypi.recording()).stored() == [one.filename for one in built]
        assert '"outcome": "live"' in outputs.read_text()
        assert "overlay promote: live" in summary.read_text()
    async with asyncio.timeout(60):
        while psutil.pid_exists(int(environment["OVERLAY_PID"])):  # it was told to stop
            await asyncio.sleep(0.1)
