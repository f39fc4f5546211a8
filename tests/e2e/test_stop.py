"""SIGTERM: uploads under way are finished and kept, new ones are refused, and the exit code is 0."""

import asyncio
import hashlib
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.builders import metadata, wheel
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, basic
from tests.served import Served, connected, form_bytes

LIMIT_S: Final = 20.0


async def test_an_upload_under_way_is_finished_and_new_ones_are_refused(tmp_path: Path) -> None:
    """It gets its 200 and is there after a restart; a request on an open connection gets 503, a new one none at all."""
    plain = metadata("demo", "1.0", extra_lines=("Description-Content-Type: text/plain",))
    built = wheel("demo", "1.0", metadata_body=plain, files={"demo/noise": random.Random(1).randbytes(500_000)})
    half_sent, stopping = asyncio.Event(), asyncio.Event()

    async with (
        ScriptedIndex() as index,
        Served(tmp_path / "store", index.simple_url) as served,
        aiohttp.ClientSession(headers=basic(ADMIN)) as session,
        aiohttp.ClientSession(headers=basic(ADMIN)) as other,
    ):
        async with other.get(f"{served.url}/-/health") as response:
            assert response.status == 200
        body, content_type = form_bytes(built)

        async def in_halves() -> AsyncIterator[bytes]:
            yield body[: len(body) // 2]
            half_sent.set()
            await stopping.wait()
            yield body[len(body) // 2 :]

        async def upload() -> int:
            headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
            async with session.post(f"{served.url}/legacy/", data=in_halves(), headers=headers) as response:
                return response.status

        uploading = asyncio.ensure_future(upload())
        await half_sent.wait()
        async with asyncio.timeout(LIMIT_S):
            while not served.files("spool"):  # until the server has begun to write
                async with other.get(f"{served.url}/-/health") as response:
                    await response.read()
        assert served.process is not None
        served.process.send_signal(signal.SIGTERM)
        await _refused(other, served)
        stopping.set()
        async with asyncio.timeout(LIMIT_S):
            assert await uploading == 200
        assert await served.ended() == 0
        await served.start()
        async with session.get(f"{served.url}/api/v1/staged") as response:
            (file,) = (await response.json())["files"]
        async with session.get(file["url"]) as response:
            assert hashlib.sha256(await response.read()).hexdigest() == built.sha256
        assert served.files("spool") == set()
        assert "Traceback" not in served.log


async def _refused(session: aiohttp.ClientSession, served: Served) -> None:
    """Ask on an open connection until it is told to go, then on a new one."""
    async with asyncio.timeout(LIMIT_S):
        refusal: tuple[int, str, str] | None = None
        while refusal is None:
            async with session.post(f"{served.url}/legacy/", data=b"") as response:
                if response.status != 400:  # before the signal arrives, an empty upload is a bad one
                    refusal = response.status, response.headers["Retry-After"], await response.text()
    assert refusal[:2] == (503, "1")
    assert "stopping" in refusal[2]
    with pytest.raises(ConnectionRefusedError):
        async with connected(served, b""):
            pass


async def test_a_stop_without_work_is_prompt(tmp_path: Path) -> None:
    """Idle connections do not hold it up."""
    async with (
        ScriptedIndex() as index,
        Served(tmp_path / "store", index.simple_url) as served,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{served.url}/-/ready") as response:
            assert response.status == 200
        async with asyncio.timeout(5):
            assert await served.stop() == 0
