"""SIGTERM: uploads under way are finished and kept, new ones are refused, and the exit code is 0."""

import asyncio
import hashlib
import os
import pty
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from aiohttp import web

from overlay.cli.worker import drain
from overlay.web.context import Lifecycle
from tests.attempts import best_s
from tests.builders import metadata, wheel
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, basic, config_for, running
from tests.served import ANSWERED, QUEUED, START_LIMIT_S, STOP_LIMIT_S, Served, connected, form_bytes, queued

LIMIT_S: Final = 20.0
PROMPT_S: Final = 15.0  # it takes two seconds alone, and 25 with something under way
DRAINED_S: Final = 7.5  # five at most; eight and more if each wait had a deadline of its own
KILLED_S: Final = 29.0  # a second before Kubernetes kills it
# In a new session this takes the terminal for its own, so that the kernel tells it when that is closed. pty.fork would
# do both, and warns in a process that has threads.
ON_TERMINAL: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "overlay", "serve", "--port", "0"])
"""


async def test_an_upload_under_way_is_finished_and_new_ones_are_refused(tmp_path: Path) -> None:
    """It gets its 200 and is there after a restart; new connections are refused, open ones closed with an answer."""
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


async def test_the_stop_writes_the_lines_of_all_requests(tmp_path: Path) -> None:
    """The log lags behind the answers; SIGTERM right after one loses no line and changes no order."""
    async with (
        ScriptedIndex() as index,
        Served(tmp_path / "store", index.simple_url) as served,
        aiohttp.ClientSession() as session,
    ):
        ids = []
        for number in range(101):
            async with session.get(f"{served.url}/simple/none-{number}/") as response:
                ids.append(response.headers["X-Request-Id"])
        assert served.process is not None
        served.process.send_signal(signal.SIGTERM)
        assert await served.ended() == 0
        lines = [line for line in served.log.splitlines() if "INFO overlay.access: " in line and "/none-" in line]
        assert [line.split()[-1] for line in lines] == ids


async def _refused(session: aiohttp.ClientSession, served: Served) -> None:
    """Ask on an open connection until that is closed with its answer; a new one is refused then."""
    async with asyncio.timeout(LIMIT_S):
        last = False
        while not last:
            async with session.post(f"{served.url}/legacy/", data=b"") as response:
                assert response.status == 400  # an empty upload is a bad one; it was answered all the same
                last = response.headers.get("Connection") == "close"
    with pytest.raises(ConnectionRefusedError):
        async with connected(served, b""):
            pass


@pytest.mark.parametrize("path", ["/simple/demo/", "/-/health"])
async def test_who_leaves_closes_connections_with_an_answer(tmp_path: Path, path: str) -> None:
    """By both ways through the server, so that a proxy sends nothing more over them."""
    async with ScriptedIndex() as index, running(config_for(tmp_path / "store", index.simple_url)) as overlay:
        async with overlay.get(path) as response:
            assert "Connection" not in response.headers
        overlay.lifecycle.leaving = True
        async with overlay.get(path) as response:
            assert response.headers["Connection"] == "close"


async def test_connections_that_were_made_before_the_stop_are_answered(tmp_path: Path) -> None:
    """Those that nobody has accepted yet, too: the kernel has told their clients that they are there."""
    async with ScriptedIndex() as index, Served(tmp_path / "store", index.simple_url) as served:
        assert served.process is not None
        async with queued(served) as answers:
            served.process.send_signal(signal.SIGTERM)
        assert answers == [ANSWERED] * QUEUED
        assert await served.ended() == 0


async def test_a_stop_without_work_is_prompt(tmp_path: Path) -> None:
    """Idle connections do not hold it up."""
    async with (
        ScriptedIndex() as index,
        Served(tmp_path / "store", index.simple_url) as served,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{served.url}/-/ready") as response:
            assert response.status == 200
        async with asyncio.timeout(PROMPT_S):
            assert await served.stop() == 0


async def _for_ever() -> AsyncIterator[bytes]:
    while True:
        yield b"x"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("path", ["/upload", "/download"])
async def test_one_deadline_holds_for_all_that_is_under_way(path: str) -> None:
    """An upload that trickles on, or an answer that has no end, is broken off at the deadline, not later."""
    assert await best_s(partial(_drained_s, path), limit_s=DRAINED_S) < DRAINED_S


async def _drained_s(path: str) -> float:
    """Let a server stop within four seconds that has an endless request under way; it uses three for that at least."""
    lifecycle, begun, ended = Lifecycle(), asyncio.Event(), asyncio.Event()

    async def upload(request: web.Request) -> web.Response:
        with lifecycle.upload():
            begun.set()
            try:
                await request.content.read()
            finally:
                ended.set()
        return web.Response()

    async def download(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        begun.set()
        try:
            async for chunk in _for_ever():
                await response.write(chunk)
        finally:
            ended.set()
        return response

    app = web.Application()
    app.add_routes([web.post("/upload", upload), web.post("/download", download)])
    served = web.AppRunner(app, shutdown_timeout=1)
    await served.setup()
    site = web.TCPSite(served, "127.0.0.1", 0)
    await site.start()

    async def ask() -> None:
        url = f"http://127.0.0.1:{served.addresses[0][1]}{path}"
        data = _for_ever() if path == "/upload" else b""
        async with aiohttp.ClientSession() as session, session.post(url, data=data) as response:
            await response.read()

    asking = asyncio.create_task(ask())
    await begun.wait()
    began = time.monotonic()
    await drain(served, (), lifecycle, within_s=4)
    await served.cleanup()
    took_s = time.monotonic() - began
    async with asyncio.timeout(LIMIT_S):
        await ended.wait()
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await asking
    assert took_s > 2.9
    return took_s


@pytest.mark.slow
async def test_a_trickling_upload_does_not_keep_the_server(tmp_path: Path, *, full: bool) -> None:
    """SIGTERM ends the process before Kubernetes would kill it, and nothing half is left."""
    if not full:
        pytest.skip("takes 25 s: FULL=1 runs it")
    stores = (tmp_path / f"store-{number}" for number in count())

    async def stopped_s() -> float:
        return await _stopped_s(next(stores))

    assert await best_s(stopped_s, limit_s=KILLED_S) < KILLED_S


async def _stopped_s(store: Path) -> float:
    """Stop a server that has an upload under way which never ends."""
    body, content_type = form_bytes(wheel("demo", "1.0"))
    head = (
        f"POST /legacy/ HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body) + 10_000}\r\n"
    )
    head += f"Authorization: {basic(ADMIN)['Authorization']}\r\n\r\n"
    async with (
        ScriptedIndex() as index,
        Served(store, index.simple_url) as served,
        connected(served, head.encode() + body[:-200]) as (_, writer),
    ):
        async with asyncio.timeout(LIMIT_S):
            while not served.files("spool"):
                await asyncio.sleep(0.05)

        async def trickle() -> None:
            async for chunk in _for_ever():
                writer.write(chunk)

        trickling = asyncio.create_task(trickle())
        began = time.monotonic()
        assert await served.stop() == 0
        took_s = time.monotonic() - began
        trickling.cancel()
        assert served.files("spool", "records") == set()
        assert "Traceback" not in served.log
        return took_s


def test_when_its_terminal_is_closed_it_stops(tmp_path: Path) -> None:
    """As every program that was started in a terminal; without one SIGHUP does not end it (test_workers)."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OVERLAY_")}
    environ |= {"OVERLAY_STORE_PATH": str(tmp_path / "store"), "OVERLAY_UPSTREAM_URL": "http://127.0.0.1:1/simple/"}
    terminal, its_own = pty.openpty()
    server = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL],
        stdin=its_own,
        stdout=its_own,
        stderr=its_own,
        env=environ,
        start_new_session=True,
    )
    try:
        os.close(its_own)
        said = b""
        while not (b"dist/*" in said and said.endswith(b"\n")):  # all of its last line
            assert select.select([terminal], [], [], START_LIMIT_S)[0], said
            said += os.read(terminal, 4096)
        os.close(terminal)
        assert server.wait(STOP_LIMIT_S) == 0
    finally:
        server.kill()
        server.wait()
