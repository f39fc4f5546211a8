"""deploy/ci: its files are what GitHub and GitLab read, and nobody but the promoting job can publish."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.ci_steps import ACTIONS, CI, GITLAB, WORKFLOWS, read

ROOT: Final = CI.parents[1]
_HASHED: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^ ;\\]+)", re.MULTILINE)
_BY_COMMIT: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)+@[0-9a-f]{40}")


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


def test_gitlabs_identity_is_beside_an_image_that_is_named_by_digest() -> None:
    """And beside a commit of ours; DIGEST and REF stand for what whoever copies the file fills in."""
    jobs = {name: job for name, job in read(GITLAB).items() if isinstance(job, dict) and "id_tokens" in job}
    assert list(jobs) == ["promote"]
    job = jobs["promote"]
    assert job["environment"] == "pypi"
    assert re.fullmatch(r"[\w./-]+(?::[\w.-]+)?@sha256:(?:DIGEST|[0-9a-f]{64})", job["image"])
    fetched = [line for line in job["script"] if " fetch " in line]
    assert [line.split()[-1] for line in fetched] == ["REF"]
    assert not [line for line in job["script"] if re.search(r"\b(pip|curl|wget|apt|apt-get)\b", line)]


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
