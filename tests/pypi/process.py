"""The scripted PyPI as a process of its own: `async with pypi_process() as index`, with the methods of `Pypi`.

It goes on while a test's loop is blocked or its clients are killed, and is killed itself when the block ends.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from tests.pypi import control
from tests.pypi.orders import Job, Order
from tests.pypi.recording import Recording

SAYS: Final = "scripted PyPI at "
_START_S: Final = 60.0


class PypiProcess:
    """A Pypi that runs elsewhere."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    @property
    def upload_url(self) -> str:
        return f"{self.url}/legacy/"

    @property
    def simple_url(self) -> str:
        return f"{self.url}/simple/"

    async def do(self, *orders: Order) -> None:
        await self._ask("POST", control.ORDERS, msgspec.json.encode(orders))

    async def job(self, job: Job) -> dict[str, str]:
        return msgspec.json.decode(await self._ask("POST", control.JOBS, msgspec.json.encode(job)), type=dict[str, str])

    async def recording(self) -> Recording:
        return msgspec.json.decode(await self._ask("GET", control.RECORDING), type=Recording)

    async def settled(self) -> None:
        await self._ask("GET", control.SETTLED)

    async def reached(self, gate: str) -> None:
        await self._ask("GET", f"{control.REACHED}?gate={gate}")

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        async with self._session.request(method, self.url + path, data=body) as response:
            if response.status == 404:
                raise LookupError(await response.text())
            response.raise_for_status()
            return await response.read()


@contextlib.asynccontextmanager
async def pypi_process(port: int = 0) -> AsyncIterator[PypiProcess]:
    """Run it until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.pypi", "--port", str(port)),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_START_S):
            line = (await process.stdout.readline()).decode()
        assert line.startswith(SAYS), f"the scripted PyPI ended: {await process.wait()}"
        async with aiohttp.ClientSession() as session:
            yield PypiProcess(line.removeprefix(SAYS).strip(), session)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
