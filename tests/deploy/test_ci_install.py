"""deploy/ci/install.sh: a runner with nothing but Python gets a program that promotes, and all of it is pinned."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from overlay import __version__
from tests.clients import CLIENTS_BIN

ROOT: Final = Path(__file__).resolve().parents[2]
CI: Final = ROOT / "deploy" / "ci"
PROMOTE: Final = CI / "requirements-promote.txt"
ATTEST: Final = CI / "requirements-attest.txt"
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TIMEOUT_S: Final = 600
_PINNED: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^ ;\\]+)", re.MULTILINE)
# Which index pip is configured for, and whom this machine trusts.
_INHERITED: Final = ("PIP_", "UV_", "SSL_CERT_")


def run(*command: str | Path, folder: Path, code: int = 0, told: Mapping[str, str] | None = None) -> str:
    """Run a command as a runner would, with the machine's index, and return what it printed."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith(_INHERITED)}
    ran = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **inherited, **(told or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == code, f"{command} ended with {ran.returncode}:\n{ran.stdout}"
    return ran.stdout


def pins(path: Path) -> Mapping[str, str]:
    """Read the versions that a file pins."""
    found = _PINNED.finditer(path.read_text(encoding="utf-8"))
    return {canonicalize_name(one["name"]): one["version"] for one in found}


def written() -> list[Path]:
    """List what is in the checkout; but tests that run beside this one may write what is hidden there (.hypothesis)."""
    return sorted(path for path in ROOT.iterdir() if not path.name.startswith("."))


def test_what_signs_is_pinned_and_fits_the_rest() -> None:
    """To versions that the program accepts, and to the same ones where both files name a package: pip takes both."""
    attest, promote = pins(ATTEST), pins(PROMOTE)
    for line in PROJECT["optional-dependencies"]["attest"]:
        wanted = Requirement(line)
        assert attest[canonicalize_name(wanted.name)] in wanted.specifier
    assert {name: attest[name] for name in attest.keys() & promote.keys()} == {
        name: promote[name] for name in attest.keys() & promote.keys()
    }
    assert ATTEST.read_text(encoding="utf-8").count("--hash=sha256:") >= len(attest)


def test_an_interpreter_that_is_too_old_is_named(tmp_path: Path) -> None:
    """Before anything is installed."""
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n")  # what the question for its version ends with
    old.chmod(0o755)
    said = run("bash", CI / "install.sh", folder=tmp_path, code=1, told={"PYTHON": str(old)})
    assert f"overlay needs Python 3.11 or newer, and {old} is not" in said
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.live
@pytest.mark.slow
def test_a_runner_gets_a_program_that_promotes(tmp_path: Path) -> None:
    """Built from this checkout, with what the index has of the pins. A second step of the job finds it there.

    Attestations can be made once that is asked for, not before.
    """
    told = {"RUNNER_TEMP": str(tmp_path), "PYTHON": sys.executable}
    before = written()
    assert f"overlay {__version__}" in run("bash", CI / "install.sh", folder=tmp_path, told=told)
    program, python = tmp_path / "overlay-ci" / "bin" / "overlay", tmp_path / "overlay-ci" / "bin" / "python"
    assert run(program, "--version", folder=tmp_path).split() == ["overlay", __version__]
    assert "Push staged files to the live index" in run(program, "promote", "--help", folder=tmp_path)
    where = run(python, "-c", "import overlay; print(overlay.__file__)", folder=tmp_path).strip()
    assert Path(where).is_relative_to(tmp_path)
    run(python, "-m", "pip", "check", folder=tmp_path)
    assert written() == before
    signs = "from overlay.promote.signing import require_signing; require_signing()"
    assert "--attest needs" in run(python, "-c", signs, folder=tmp_path, code=1)
    told["ARGUMENTS"] = "--json --attest"
    assert f"overlay {__version__}" not in run("bash", CI / "install.sh", folder=tmp_path, told=told)
    run(python, "-c", signs, folder=tmp_path)
    run(python, "-m", "pypi_attestations", "--help", folder=tmp_path)
    run(python, "-m", "pip", "check", folder=tmp_path)


@pytest.mark.live
@pytest.mark.clients
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_the_pins_are_all_that_is_needed(version: str, tmp_path: Path) -> None:
    """On Linux, whichever interpreter a runner has: each a wheel that the index has, and nothing beside them."""
    if not (CLIENTS_BIN / "uv").exists():
        pytest.skip("uv is missing: `make test` installs it into .venv-clients")
    asked = ("--dry-run", "--require-hashes", "--no-build", "--target", tmp_path / "there", "--no-cache")
    place = ("--python", sys.executable, "--python-version", version, "--python-platform", "x86_64-manylinux_2_28")
    files = ("--requirement", PROMOTE, "--requirement", ATTEST)
    said = run(CLIENTS_BIN / "uv", "pip", "install", *asked, *place, *files, folder=tmp_path)
    assert "Would install" in said
