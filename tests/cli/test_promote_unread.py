"""`overlay promote` whose words nobody reads: it ends as it ends, and the exit code says so."""

import asyncio
import contextlib
import io
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from overlay.cli.outlet import Outlet
from overlay.cli.promote_progress import shown
from tests.cli.test_promote_output import SDIST, WHEEL, plan
from tests.e2e.promoting import LIMIT_S, Job, demo, scripted
from tests.promote.test_push import serving
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, OpenGate

BUILT = demo()
OWN = ("PATH", "PYTHONPATH")


class Pipe:
    """The end of a pipe that a process writes to, and ours."""

    def __init__(self) -> None:
        self._ours, self.its_own = os.pipe()

    def hang_up(self) -> None:
        """Read no more."""
        os.close(self._ours)


@contextlib.contextmanager
def pipe() -> Iterator[Pipe]:
    """Make a pipe; the block hangs up."""
    made = Pipe()
    try:
        yield made
    finally:
        os.close(made.its_own)


async def start(job: Job, *words: str, out: int, err: int) -> asyncio.subprocess.Process:
    """Start a command with these standard streams."""
    own = {name: os.environ[name] for name in OWN if name in os.environ}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "overlay", *words),
        cwd=job.folder,
        env=own
        | {"HOME": str(job.folder), "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
        | job.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=out,
        stderr=err,
    )


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(LIMIT_S):
        return await process.wait()


async def code(job: Job, *words: str, unread: str) -> int:
    """Run `overlay promote`, whose standard output, error, or both nobody reads; return its exit code."""
    with pipe() as gone:
        gone.hang_up()
        process = await start(
            job,
            "promote",
            *words,
            out=gone.its_own if unread in {"out", "both"} else asyncio.subprocess.DEVNULL,
            err=gone.its_own if unread in {"err", "both"} else asyncio.subprocess.DEVNULL,
        )
        return await ended(process)


@pytest.mark.parametrize("unread", ["out", "err", "both"])
async def test_what_is_no_overlay_is_no_success(tmp_path: Path, unread: str) -> None:
    """Nothing was promoted, whoever reads that."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=404)

    (tmp_path / ".gitignore").write_text("*")
    (tmp_path / BUILT[0].filename).write_bytes(BUILT[0].body)
    async with serving(answer) as url:
        job = Job(tmp_path, {"OVERLAY_URL": url})
        assert await code(job, ".gitignore", BUILT[0].filename, unread=unread) == 1


@pytest.mark.parametrize("words", [["--json"], [], ["--json", "demo==1.1"], ["--timeout", "soon"], ["--abandon"]])
async def test_wrong_usage_stays_wrong_usage(tmp_path: Path, words: list[str]) -> None:
    """As JSON, in words, and where the words are argparse's."""
    job = Job(tmp_path, {"OVERLAY_URL": "http://127.0.0.1:1"})
    assert await code(job, *words, unread="both") == 2


@pytest.mark.parametrize("form", [[], ["--json"]])
async def test_a_release_goes_live_though_nobody_reads_of_it(tmp_path: Path, form: list[str]) -> None:
    """All of it, and 0 says so."""
    async with scripted(tmp_path, BUILT) as (pypi, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        assert await code(job, *form, *job.dist, unread="both") == 0
        assert (await pypi.recording()).stored() == [one.filename for one in BUILT]
        (promotion,) = await stage.promotions("demo==1.1")
        assert promotion.state == "live"


async def test_a_reader_who_leaves_in_mid_file_stops_no_push(tmp_path: Path) -> None:
    """Each file is pushed once and goes live; the lease is let go."""
    held = Fault(at=Point.RECEIVED, action=Hang("here"), subject=BUILT[0].filename)
    async with scripted(tmp_path, BUILT, held) as (pypi, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        with pipe() as heard:
            process = await start(job, "promote", *job.dist, out=heard.its_own, err=heard.its_own)
            await pypi.reached("here")
            heard.hang_up()
            await pypi.do(OpenGate("here"))
            assert await ended(process) == 0
        assert len((await pypi.recording()).posts()) == len(BUILT)
        (promotion,) = await stage.promotions("demo==1.1")
        assert promotion.state == "live"


async def test_what_is_given_up_is_given_up(tmp_path: Path) -> None:
    """Abandoning ends as it ends, too."""
    held = Fault(at=Point.RECEIVED, action=Hang("here"), subject=BUILT[0].filename)
    async with scripted(tmp_path, BUILT, held) as (pypi, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        process = await job.start(*job.dist)
        await pypi.reached("here")
        process.kill()
        await process.wait()
        words = ("promote", "--abandon", "demo==1.1")
        with Path("/dev/full").open("w") as full:
            giving_up = await start(stage.job(), *words, out=full.fileno(), err=full.fileno())
            assert await ended(giving_up) == 0
        await pypi.do(OpenGate("here"))
        (promotion,) = await stage.promotions("demo==1.1")
        assert promotion.state == "abandoned"


@pytest.mark.parametrize("words", [["list"], ["--help"], ["promote", "--help"]])
async def test_who_has_read_enough_hears_no_complaint(tmp_path: Path, words: list[str]) -> None:
    """`overlay list | head` is a habit, and no failure."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"files": []})

    async with serving(answer) as url:
        with pipe() as gone:
            gone.hang_up()
            job = Job(tmp_path, {"OVERLAY_URL": url})
            process = await start(job, *words, out=gone.its_own, err=asyncio.subprocess.PIPE)
            _, complaint = await process.communicate()
    assert (process.returncode, complaint) == (0, b"")


async def test_an_output_that_is_full_is_named(tmp_path: Path) -> None:
    """With what the system says of it."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"files": []})

    async with serving(answer) as url:
        job = Job(tmp_path, {"OVERLAY_URL": url})
        with Path("/dev/full").open("w") as full:
            process = await start(job, "list", out=full.fileno(), err=asyncio.subprocess.PIPE)
            _, complaint = await process.communicate()
    said = b"overlay: the output cannot be written: No space left on device\n"
    assert (process.returncode, complaint) == (1, said)


async def test_what_else_fails_is_not_said_of_the_output(tmp_path: Path) -> None:
    """Such as a process that may open no further file: the event loop needs three."""
    job = Job(tmp_path, {"OVERLAY_URL": "http://127.0.0.1:1"})
    limited = f"ulimit -n 5; exec {shlex.quote(sys.executable)} -W ignore -m overlay list"
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", limited),
        env={name: os.environ[name] for name in OWN if name in os.environ} | job.environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    assert process.returncode == 1
    assert b"overlay: [Errno 24] Too many open files\n" in complaint
    assert b"output" not in complaint


class Broken(io.StringIO):
    """A stream that takes so many writes."""

    def __init__(self, takes: int, *, is_terminal: bool) -> None:
        super().__init__()
        self.writes = 0
        self._takes = takes
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        self.writes += 1
        if self.writes > self._takes:
            raise BrokenPipeError
        return super().write(text)


@pytest.mark.parametrize("is_terminal", [False, True], ids=["lines", "bars"])
@pytest.mark.parametrize("takes", [0, 2])
def test_what_a_run_shows_never_ends_it(takes: int, *, is_terminal: bool) -> None:
    """The first write that fails is the last one."""
    out = Broken(takes, is_terminal=is_terminal)
    with shown(Outlet(out), {"TERM": "xterm"}) as progress:
        progress.planned(plan("planned", "planned"))
        progress.fetched(WHEEL, 0)
        progress.pushing(WHEEL, 0)
        progress.pushed(WHEEL)
        progress.waiting([SDIST], "soon")
        progress.waiting([], "soon")
        progress.warned("careful")
        progress.live(WHEEL, None)
        progress.mask("secret")
    assert out.writes == takes + 1
