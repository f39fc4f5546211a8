"""The package as people get it: built, installed as a wheel and as `pip install -e`, and run from any folder."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from overlay import __version__

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120


def run(*command: str | Path, folder: Path) -> str:
    """Run a command with next to nothing in its environment and return what it printed; a failure shows it."""
    environment = {"PATH": os.defpath, "HOME": str(folder), "PIP_CONFIG_FILE": os.devnull, "LANG": "C.UTF-8"}
    ran = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, f"{command} ended with {ran.returncode}:\n{ran.stdout}"
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel out of the sdist, with the hatchling that is installed: no network."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT, folder=folder)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Make an environment that has our dependencies but not us.

    A `.pth` file lends it the site-packages of this one; the `.pth` files in there, of our editable install too, are
    not followed.
    """
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    variables = {"base": str(folder), "platbase": str(folder)}
    own = Path(sysconfig.get_path("purelib", scheme="venv", vars=variables))
    (own / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return folder


def install(environment: Path, *what: str | Path) -> None:
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin/python", "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-index", "--no-build-isolation", *what, folder=environment)


def check_that_it_runs(environment: Path, elsewhere: Path) -> None:
    assert __version__ in run(environment / "bin/overlay", "--version", folder=elsewhere)
    assert __version__ in run(environment / "bin/python", "-m", "overlay", "--version", folder=elsewhere)
    assert "public_url" in run(environment / "bin/overlay", "config", folder=elsewhere)
    assert list(elsewhere.iterdir()) == []


def packed_place(environment: Path, name: str, folder: Path) -> Path:
    script = f"from overlay.packed import packed; print(packed({name!r}))"
    return Path(run(environment / "bin/python", "-c", script, folder=folder).strip())


def test_the_wheel_carries_the_templates_and_the_configuration(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"overlay/config.toml", "overlay/py.typed"} <= set(names)
    packed = {name.removeprefix("overlay/") for name in names if name.startswith("overlay/templates/")}
    assert packed == {
        file.relative_to(CHECKOUT).as_posix() for file in (CHECKOUT / "templates").rglob("*") if file.is_file()
    }
    assert not [name for name in names if name.startswith("tests/")]


def test_the_sdist_carries_what_the_wheel_is_built_from_and_the_words(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"config.toml", "README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md", "overlay/packed.py"} <= names


def test_the_wheel_runs_from_any_folder(built: Path, environment: Path, elsewhere: Path) -> None:
    (wheel,) = built.glob("*.whl")
    install(environment, wheel)
    check_that_it_runs(environment, elsewhere)
    for name in ("config.toml", "templates"):
        assert packed_place(environment, name, elsewhere).is_relative_to(environment.resolve())


def test_an_editable_install_runs_from_any_folder_with_the_checkout_s_files(environment: Path, elsewhere: Path) -> None:
    install(environment, "--editable", CHECKOUT)
    check_that_it_runs(environment, elsewhere)
    for name in ("config.toml", "templates"):
        assert packed_place(environment, name, elsewhere) == CHECKOUT / name
