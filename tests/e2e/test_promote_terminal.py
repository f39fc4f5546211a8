"""`overlay promote` on a real terminal: it asks what is meant, shows bars, and closes with where everything is."""

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.promoting import LIMIT_S, Job, demo, scripted
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, OpenGate

BUILT = demo()
WHEEL, SDIST = BUILT
_ROWS_AND_COLUMNS: Final = struct.pack("HHHH", 40, 200, 0, 0)
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_QUESTION: Final = "Promote exactly these bytes? [y/N] "


class Terminal:
    """The screen of a process, as text, and its keyboard."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = bytearray()
        self._more = asyncio.Event()
        self._ended = False

    @property
    def text(self) -> str:
        """All that was shown, in order; what a bar wrote over, too."""
        return _CONTROL.sub("", self._shown.decode())

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    async def shows(self, words: str) -> None:
        """Wait until the words were shown."""
        async with asyncio.timeout(LIMIT_S):
            while words not in self.text:
                assert not self._ended, self.text
                self._more.clear()
                await self._more.wait()

    async def goes_dark(self) -> None:
        """Wait until no process shows anything any more."""
        async with asyncio.timeout(LIMIT_S):
            while not self._ended:
                self._more.clear()
                await self._more.wait()

    def read(self) -> None:
        """Take in what is shown."""
        try:
            piece = os.read(self._descriptor, 1 << 16)
        except OSError:  # EIO: nobody has the other end open
            piece = b""
        self._shown += piece
        self._ended = not piece
        if self._ended:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._more.set()


@contextlib.asynccontextmanager
async def on_terminal(job: Job, *words: str) -> AsyncIterator[Terminal]:
    """Run `overlay promote` on a terminal of its own, until the block ends."""
    ours, its_own = pty.openpty()
    fcntl.ioctl(its_own, termios.TIOCSWINSZ, _ROWS_AND_COLUMNS)
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment |= {"HOME": str(job.folder), "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", "TERM": "xterm"}
    terminal, loop = Terminal(ours), asyncio.get_running_loop()
    loop.add_reader(ours, terminal.read)
    try:
        job.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _OWN_TERMINAL, *words),
            cwd=job.folder,
            env=environment | job.environment,
            stdin=its_own,
            stdout=its_own,
            stderr=its_own,
            start_new_session=True,
        )
        os.close(its_own)
        yield terminal
    finally:
        loop.remove_reader(ours)
        os.close(ours)


# Its keys Ctrl-C and Ctrl-D are for the session that the terminal controls.
_OWN_TERMINAL: Final = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from overlay.cli.main import main
sys.exit(main(["promote", *sys.argv[1:]]))
"""


async def code_of(job: Job, terminal: Terminal) -> int:
    assert job.process is not None
    await terminal.goes_dark()
    async with asyncio.timeout(LIMIT_S):
        return await job.process.wait()


@pytest.mark.parametrize(
    ("keys", "code"),
    [("n\n", 3), ("\n", 3), ("yea\n", 3), ("\x04", 3), ("\x03", 1)],
    ids=["no", "nothing", "not quite yes", "Ctrl-D", "Ctrl-C"],
)
async def test_who_does_not_say_yes_promotes_nothing(tmp_path: Path, keys: str, code: int) -> None:
    """What is meant was shown, with digests as `sha256sum` writes them; nothing was frozen for the question."""
    async with scripted(tmp_path, BUILT) as (pypi, stage):
        job = stage.job(TWINE_PASSWORD=TOKEN)
        async with on_terminal(job, "demo==1.1") as terminal:
            await terminal.shows(_QUESTION)
            assert f"{WHEEL.sha256}  {WHEEL.filename}" in terminal.text
            assert f"{SDIST.sha256}  {SDIST.filename}" in terminal.text
            assert await stage.promotions("demo==1.1") == ()
            terminal.type(keys)
            assert await code_of(job, terminal) == code
            assert ("Nothing was promoted." if code == 3 else "overlay: Stopped.") in terminal.text
        assert not (await pypi.recording()).posts()


async def test_who_says_yes_sees_everything_go_live(tmp_path: Path) -> None:
    """The plan, a bar for each file that is fetched and pushed, and at the end a table with the addresses."""
    holds = [Fault(at=Point.RECEIVED, action=Hang(built.filename), subject=built.filename) for built in BUILT]
    async with scripted(tmp_path, BUILT, *holds) as (pypi, stage):
        job = stage.job(TWINE_PASSWORD=TOKEN)
        async with on_terminal(job, "demo==1.1") as terminal:
            await terminal.shows(_QUESTION)
            terminal.type("y\n")
            for built in BUILT:
                await terminal.shows(f"pushing {built.filename} ")
                await pypi.do(OpenGate(built.filename))
            assert await code_of(job, terminal) == 0, terminal.text
            shown = terminal.text
        assert "Promoting demo==1.1 (2 files) to " in shown
        assert [line.split()[:2] for line in shown.splitlines() if "SHA256 (16 OF 64)" in line] == [["FILE", "SIZE"]]
        for built in BUILT:
            for doing in ("fetching", "pushing"):
                assert re.search(rf"{doing} {re.escape(built.filename)} +━", shown), shown
        assert (await pypi.recording()).stored() == [one.filename for one in BUILT]
        _, _, closing = shown.rpartition("FILE ")
        lines = closing.splitlines()
        for row, built in zip(lines[1:3], BUILT, strict=True):
            filename, state, url = row.split()
            assert (filename, state) == (built.filename, "live")
            async with stage.session.get(url) as answer:
                assert await answer.read() == built.body
        assert lines[3].startswith("Promotion ")
        assert "All files are live." in lines[4]


async def test_a_log_in_ci_has_no_bars_though_it_is_a_terminal(tmp_path: Path) -> None:
    """Plain lines, and no question: nobody would answer it there."""
    async with scripted(tmp_path, BUILT) as (_, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN, CI="true")
        async with on_terminal(job, *job.dist) as terminal:
            assert await code_of(job, terminal) == 0, terminal.text
            assert "━" not in terminal.text
            assert f"accepted {WHEEL.filename}" in terminal.text.splitlines()
