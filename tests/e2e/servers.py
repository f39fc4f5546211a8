"""Runs other people's index servers on loopback, as upstreams whose pages have relative links."""

import asyncio
import base64
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import aiohttp

from tests.builders import Built
from tests.clients import Clients, write_files

START_S = 60
_SAYS = b"Serving on http://"
# devpi derives its keys with argon2; by default that takes ten seconds of a processor at every start.
_CHEAP_SECRETS = ("--argon2-time-cost", "1", "--argon2-memory-cost", "8", "--argon2-parallelism", "1")


@dataclass(frozen=True)
class IndexServer:
    """A running server: where to read and where to upload."""

    simple_url: str
    upload_url: str
    clients: Clients
    username: str = "root"
    password: str = "secret"

    async def upload(self, *files: Built) -> None:
        """Upload with twine."""
        paths = write_files(self.clients.root / "upload", *files)
        where = ("--repository-url", self.upload_url, "--username", self.username, "--password", self.password)
        ran = await self.clients.run("twine", "upload", "--non-interactive", "--disable-progress-bar", *where, *paths)
        assert ran.code == 0, ran.output


@asynccontextmanager
async def devpi(clients: Clients) -> AsyncIterator[IndexServer]:
    """Run devpi-server with one index that has no bases: nothing is asked of PyPI. JSON and HTML, `../../+f/…`.

    A file that is there can be uploaded again, to no effect (200); other bytes under its name are refused with 409.
    """
    folder = clients.root / "devpi"
    made = await clients.run("devpi-init", "--serverdir", folder, "--no-root-pypi", "--root-passwd", "secret")
    assert made.code == 0, made.output
    options = ("--serverdir", str(folder), "--offline-mode", "--threads", "4", *_CHEAP_SECRETS)
    async with _serving(clients, "devpi-server", *options, "--host", "127.0.0.1", "--port", "0") as url:
        index = {"type": "stage", "bases": [], "volatile": False}
        login = {"Authorization": aiohttp.encode_basic_auth("root", "secret")}
        async with (
            aiohttp.ClientSession(headers=login) as session,
            session.put(f"{url}/root/live", json=index) as response,
        ):
            assert response.status == 200, await response.text()
        yield IndexServer(f"{url}/root/live/+simple/", f"{url}/root/live/", clients)


@asynccontextmanager
async def pypiserver(clients: Clients) -> AsyncIterator[IndexServer]:
    """Run pypiserver, which asks uploads for a password and passes nobody on to PyPI. HTML alone, `/packages/…`.

    A file that is there cannot be uploaded again: 409, whatever its bytes.
    """
    folder = clients.root / "packages"
    folder.mkdir()
    passwords = clients.root / "htpasswd"
    passwords.write_text(f"root:{{SHA}}{base64.b64encode(hashlib.sha1(b'secret').digest()).decode()}\n")
    options = ["run", "--interface", "127.0.0.1", "--port", "0", "--disable-fallback", "-v"]
    options += ["--authenticate", "update", "--passwords", str(passwords)]
    async with _serving(clients, "pypi-server", *options, str(folder)) as url:
        yield IndexServer(f"{url}/simple/", f"{url}/", clients)


SERVERS: dict[str, Callable[[Clients], AbstractAsyncContextManager[IndexServer]]] = {
    "devpi": devpi,
    "pypiserver": pypiserver,
}


@asynccontextmanager
async def _serving(clients: Clients, program: str, *arguments: str) -> AsyncIterator[str]:
    """Run a server until the block ends; both say, through waitress, which port they got."""
    process = await asyncio.create_subprocess_exec(
        clients.bin / program,
        *arguments,
        cwd=clients.root,
        env=clients.environment() | {"PYTHONUNBUFFERED": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    drain: asyncio.Task[bytes] | None = None
    try:
        url = await asyncio.wait_for(_url(process.stdout), START_S)
        drain = asyncio.create_task(process.stdout.read())  # a full pipe would stop the server
        yield url
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if drain is not None:
            await drain


async def _url(output: asyncio.StreamReader) -> str:
    said = b""
    async for line in output:
        said += line
        if _SAYS in line:
            return "http://" + line.partition(_SAYS)[2].decode().strip()
    raise AssertionError(f"the server ended and said:\n{said.decode(errors='replace')}")
