"""Runs the real clients (pip, uv, twine, flit, hatch, poetry, pdm) from .venv-clients, cut off from this machine.

The environment is written, not inherited: PIP_*, UV_*, SSL_* and the user's configuration cannot leak in. Each client
has its home, caches and configuration below one folder, asks no questions, and is killed with its children, failing
the test, when it takes too long. What each command line needs was found out with the versions in clients.txt; the
comments say so where it surprises.
"""

import asyncio
import importlib.metadata
import itertools
import os
import re
import signal
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders import Built

CLIENTS_BIN = Path(__file__).resolve().parent.parent / ".venv-clients" / "bin"
USER = "__token__"
TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Ran:
    """How a client ended: its exit code, and what it printed on both streams in order."""

    code: int
    output: str


@dataclass(frozen=True)
class Locked:
    """One package of a lock file; `hashes` maps file names to `sha256:…`."""

    version: str
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class Clients:
    """The clients, at home in `root`; tests that share a root share the clients' caches."""

    root: Path
    bin: Path = CLIENTS_BIN
    timeout_s: float = TIMEOUT_S
    _runs: "itertools.count[int]" = field(default_factory=itertools.count, repr=False, compare=False)

    def environment(self) -> dict[str, str]:
        """Return everything that a client finds in its environment."""
        home = self.root / "home"
        home.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": f"{self.bin}{os.pathsep}{os.defpath}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "COLUMNS": "1000",  # else rich breaks sentences that tests look for
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CONFIG_DIRS": str(home / "system-config"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_STATE_HOME": str(home / "state"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SOURCE_DATE_EPOCH": "1577836800",  # flit builds what it publishes: the same bytes every time
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_CACHE_DIR": str(home / "cache/pip"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "UV_NO_CONFIG": "1",
            "UV_CACHE_DIR": str(home / "cache/uv"),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "UV_KEYRING_PROVIDER": "disabled",
            "POETRY_CONFIG_DIR": str(home / "config/poetry"),
            "POETRY_CACHE_DIR": str(home / "cache/poetry"),
            "POETRY_DATA_DIR": str(home / "data/poetry"),
            "POETRY_VIRTUALENVS_IN_PROJECT": "true",
            "POETRY_KEYRING_ENABLED": "false",
            "PDM_CONFIG_FILE": str(home / "config/pdm.toml"),
            "PDM_CACHE_DIR": str(home / "cache/pdm"),
            "PDM_LOG_DIR": str(home / "state/pdm"),
            "PDM_CHECK_UPDATE": "false",
            "PDM_NON_INTERACTIVE": "1",
            "PDM_PYTHON": str(self.bin / "python"),  # else it makes a virtual environment, even to publish
            "PDM_USE_VENV": "false",
            "HATCH_DATA_DIR": str(home / "data/hatch"),
            "HATCH_CACHE_DIR": str(home / "cache/hatch"),
            "HATCH_INTERACTIVE": "0",
        }

    async def run(
        self, program: str, *arguments: str | Path, folder: Path | None = None, extra: Mapping[str, str] | None = None
    ) -> Ran:
        """Run a program of .venv-clients to its end; `extra` adds to the environment."""
        log = self.root / f"{program}-{next(self._runs)}.log"
        environment = self.environment() | dict(extra or {})
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                self.bin / program,
                *arguments,
                cwd=folder or self.root,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            code = await asyncio.wait_for(process.wait(), self.timeout_s)
        except TimeoutError:
            raise AssertionError(f"{program} hung for {self.timeout_s:g} s and said:\n{_text(log)}") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return Ran(code, _text(log))

    # Uploading

    async def twine_upload(self, url: str, token: str, *files: Path, options: Sequence[str] = ()) -> Ran:
        """Upload with twine; it posts wheels first, and repeats a file five times on a 5xx (about 30 s of waiting)."""
        where = ("--repository-url", url, "--username", USER, "--password", token)
        return await self.run(
            "twine", "upload", "--non-interactive", "--disable-progress-bar", *where, *options, *files
        )

    async def uv_publish(self, url: str, token: str, *files: Path, options: Sequence[str] = ()) -> Ran:
        """Upload with uv; without `--trusted-publishing never` it looks for an OIDC identity of its CI first."""
        where = ("--publish-url", url, "--token", token)
        return await self.run("uv", "publish", "--trusted-publishing", "never", *where, *options, *files)

    async def flit_publish(self, url: str, token: str, project_folder: Path) -> Ran:
        """Build the wheel and the sdist with flit, in its own environment, and upload them."""
        # Credentials come from the environment only; with FLIT_INDEX_URL set ~/.pypirc is not read.
        extra = {"FLIT_INDEX_URL": url, "FLIT_USERNAME": USER, "FLIT_PASSWORD": token}
        return await self.run("flit", "publish", folder=project_folder, extra=extra)

    async def hatch_publish(self, url: str, token: str, *files: Path) -> Ran:
        """Upload with hatch; it asks `<url>/%2Bsimple/<project>/` first and needs no project."""
        where = ("--repo", url, "--user", USER, "--auth", token)
        return await self.run("hatch", "publish", "--no-prompt", *where, *files)

    async def poetry_publish(self, url: str, token: str, project_folder: Path, *, options: Sequence[str] = ()) -> Ran:
        """Upload the project's files in dist/ with poetry, which takes those of the project's own name and version."""
        # The repository must have a name; POETRY_REPOSITORIES_<NAME>_URL gives it one without a configuration file.
        extra = {"POETRY_REPOSITORIES_OVERLAY_URL": url}
        where = ("--repository", "overlay", "--username", USER, "--password", token)
        return await self.run(
            "poetry", "publish", "--no-interaction", *where, *options, folder=project_folder, extra=extra
        )

    async def pdm_publish(self, url: str, token: str, project_folder: Path, *, options: Sequence[str] = ()) -> Ran:
        """Upload the project's files in dist/ with pdm."""
        where = ("--repository", url, "--username", USER, "--password", token)
        return await self.run("pdm", "publish", "--no-build", *where, *options, folder=project_folder)

    # Reading

    async def pip_install(self, index_url: str, requirement: str, target: Path, *options: str) -> Ran:
        """Install into a folder of its own; `installed` says what is there afterwards."""
        return await self.run(
            "pip", "install", "--index-url", index_url, "--target", target, "--no-compile", *options, requirement
        )

    async def pip_download(self, index_url: str, requirement: str, target: Path, *options: str) -> Ran:
        """Download the files of a requirement and of what it depends on."""
        return await self.run("pip", "download", "--index-url", index_url, "--dest", target, *options, requirement)

    async def uv_pip_install(self, index_url: str, requirement: str, target: Path, *options: str) -> Ran:
        """Install into a folder of its own, for the interpreter of .venv-clients."""
        where = ("--default-index", index_url, "--python", self.bin / "python", "--target", target)
        return await self.run("uv", "pip", "install", *where, *options, requirement)

    async def uv_pip_compile(self, index_url: str, requirement: str, *options: str) -> Ran:
        """Resolve a requirement; the output is a requirements file."""
        wanted = self.root / "requirements.in"
        wanted.write_text(requirement + "\n")
        where = ("--default-index", index_url, "--python", self.bin / "python")
        return await self.run("uv", "pip", "compile", "--no-header", *where, *options, wanted)

    async def poetry_lock(self, project_folder: Path, *options: str) -> Ran:
        """Write poetry.lock of a project made with `index_url`: poetry takes sources from pyproject.toml alone."""
        return await self.run("poetry", "lock", "--no-interaction", *options, folder=project_folder)

    async def pdm_lock(self, index_url: str, project_folder: Path, *options: str) -> Ran:
        """Write pdm.lock of a project; PDM_PYPI_URL takes the place of PyPI, as a mirror would."""
        return await self.run("pdm", "lock", *options, folder=project_folder, extra={"PDM_PYPI_URL": index_url})


def write_project(
    folder: Path,
    name: str,
    version: str,
    *,
    files: Sequence[Built] = (),
    requires: Sequence[str] = (),
    index_url: str = "",
) -> Path:
    """Write a project that flit can build, poetry and pdm can publish from (`files` go to dist/) and lock."""
    lines = [
        '[build-system]\nrequires = ["flit_core >=4,<5"]\nbuild-backend = "flit_core.buildapi"\n',
        f'[project]\nname = "{name}"\nversion = "{version}"\ndescription = "A distribution for tests"',
        f'requires-python = ">=3.11"\ndependencies = {list(requires)!r}\n',
    ]
    if index_url:
        lines.append(f'[[tool.poetry.source]]\nname = "overlay"\nurl = "{index_url}"\npriority = "primary"\n')
    (folder / "dist").mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text("\n".join(lines))
    (folder / f"{name.replace('-', '_')}.py").write_text(f'"""A module for tests."""\n\nVERSION = "{version}"\n')
    write_files(folder / "dist", *files)
    return folder


def write_files(folder: Path, *files: Built) -> tuple[Path, ...]:
    """Write distribution files for a client to upload; the paths come in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file.filename).write_bytes(file.body)
    return tuple(folder / file.filename for file in files)


def installed(target: Path) -> dict[str, str]:
    """Return the versions, by name, of what is installed in a target folder."""
    return {found.name: found.version for found in importlib.metadata.distributions(path=[str(target)])}


def locked(lock: Path) -> dict[str, Locked]:
    """Return the packages, by name, of a poetry.lock or pdm.lock."""
    packages = tomllib.loads(lock.read_text())["package"]
    return {
        package["name"]: Locked(package["version"], {file["file"]: file["hash"] for file in package["files"]})
        for package in packages
    }


def _text(log: Path) -> str:
    """Read what was printed, without the colours and padding that twine prints in spite of NO_COLOR."""
    text = re.sub("\x1b\\[[0-9;]*m", "", log.read_bytes().decode(errors="replace"))
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())
