"""Runs the real server, `python -m overlay serve`, as a process of its own: to kill it, starve it, measure it."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import aiohttp
import psutil

from tests.builders import Built
from tests.running import ADMIN

LISTENS: Final = re.compile(r"overlay listens on (\S+)/ in front of ")
START_LIMIT_S: Final = 60.0  # a loaded machine; alone it takes one or two
STOP_LIMIT_S: Final = 40.0
QUEUED: Final = 40
ANSWERED: Final = b"HTTP/1.1 200 OK"


class NotStarted(AssertionError):
    """The server ended before it listened."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(f"the server exited {code}:\n{log}")
        self.code = code
        self.log = log


@dataclass
class Served:
    """One store, and the server process on it, started as often as the test likes."""

    store: Path
    upstream_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """More OVERLAY_* variables."""
    host: str = "127.0.0.1"
    port: int = 0
    program: Path = Path(__file__).parent.parent
    """The checkout that is run."""
    url: str = ""
    process: asyncio.subprocess.Process | None = None
    unready: str = ""
    """What `/-/ready` last complained of."""

    @property
    def log_path(self) -> Path:
        return self.store.with_name(self.store.name + ".log")

    @property
    def log(self) -> str:
        """All that the servers on this store have said."""
        return self.log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def used_s(self) -> float:
        """The processor time that its process has used: what other work on the machine takes is not in it."""
        used = psutil.Process(self.pid).cpu_times()
        return used.user + used.system

    async def start(self) -> float:
        """Start, and return the seconds until it is ready to answer."""
        began = time.monotonic()
        await self.launch()
        await self.ready()
        return time.monotonic() - began

    async def launch(self) -> None:
        """Start it, and wait until it listens."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("OVERLAY_")}
        environ |= {
            "OVERLAY_STORE_PATH": str(self.store),
            "OVERLAY_UPSTREAM_URL": self.upstream_url,
            "OVERLAY_ADMIN_TOKEN": ADMIN,
            **self.settings,
        }
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "overlay", "serve", "--host", self.host, "--port", str(self.port)),
                env=environ,
                cwd=self.program,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(START_LIMIT_S):
            line = (await self.process.stdout.readline()).decode()
        found = LISTENS.match(line)
        if found is None:
            raise NotStarted(await self.process.wait(), self.log)
        self.url = found[1]

    async def ready(self) -> None:
        """Wait until every part answers."""
        async with asyncio.timeout(START_LIMIT_S), aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{self.url}/-/ready") as answer:
                    if answer.status == 200:
                        return
                    self.unready = await answer.text()
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it as a power cut does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end and return its exit code."""
        assert self.process is not None
        async with asyncio.timeout(STOP_LIMIT_S):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.kill()

    def files(self, *folders: str) -> set[str]:
        """List what lies on the disk, relative to the store."""
        wanted = folders or ("blobs", "records", "spool")
        return {
            str(path.relative_to(self.store))
            for folder in wanted
            for path in (self.store / folder).rglob("*")
            if not path.is_dir()
        }


def form_bytes(built: Built) -> tuple[bytes, str]:
    """Form the body of an upload and its Content-Type."""
    name, version = built.filename.split("-")[:2]
    fields = {":action": "file_upload", "name": name, "version": version, "sha256_digest": built.sha256}
    parts = [
        f'--frontier\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    disposition = f'form-data; name="content"; filename="{built.filename}"'
    parts += [f"--frontier\r\nContent-Disposition: {disposition}\r\n\r\n".encode(), built.body]
    return b"".join([*parts, b"\r\n--frontier--\r\n"]), "multipart/form-data; boundary=frontier"


@contextlib.asynccontextmanager
async def connected(served: Served, request: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection and send bytes that may be anything."""
    host, _, port = served.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        await writer.drain()
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def queued(served: Served) -> AsyncIterator[list[bytes]]:
    """Make connections that no process of the server accepts before the block ends; answers are there after it."""
    first_lines: list[bytes] = []
    stopped = [psutil.Process(served.pid), *psutil.Process(served.pid).children()]
    async with contextlib.AsyncExitStack() as stack:
        for process in stopped:
            process.suspend()
            stack.callback(_resume, process)
        async with asyncio.timeout(START_LIMIT_S):
            while {process.status() for process in stopped} != {psutil.STATUS_STOPPED}:
                await asyncio.sleep(0.01)
        request = b"GET /-/health HTTP/1.1\r\nHost: x\r\n\r\n"
        made = [await stack.enter_async_context(connected(served, request)) for _ in range(QUEUED)]
        yield first_lines
        for process in stopped:
            _resume(process)
        async with asyncio.timeout(STOP_LIMIT_S):
            for reader, _ in made:
                try:
                    first_lines.append((await reader.readline()).strip())
                except ConnectionError as err:
                    first_lines.append(repr(err).encode())


def _resume(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
        process.resume()
