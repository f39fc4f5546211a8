"""One POST, over real connections: to the scripted PyPI, and to servers that misbehave."""

import asyncio
import contextlib
import hashlib
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from overlay.promote import errors, hosts
from overlay.promote.answers import Accepted, Answer, NotSent, Refused, Taken, Unknown
from overlay.promote.credentials import basic
from overlay.promote.http import session_to
from overlay.promote.push import HttpPush, Package
from tests.builders import Built, sdist, wheel
from tests.promote.packages import package
from tests.pypi import faults, orders
from tests.pypi.faults import Fault, Point
from tests.pypi.server import ScriptedPypi, pypi

TOKEN = basic("__token__", orders.TOKEN)
WHEEL, SDIST = wheel("demo", "1.1"), sdist("demo", "1.1")
ATTEMPTS = 5  # a loaded machine may stand still for three seconds, but not each time


@pytest.fixture
async def index() -> AsyncIterator[ScriptedPypi]:
    async with pypi() as serving:
        await serving.do(orders.Token(text=orders.TOKEN))
        yield serving


async def pushed(
    url: str, one: Package, authorization: str = TOKEN, *, silent_s: float = 30.0
) -> tuple[Answer, list[int]]:
    """Push once; return the answer and what was told of the progress."""
    told: list[int] = []
    to = hosts.target(url)
    async with session_to(to) as session:
        answer = await HttpPush(session, to, silent_s=silent_s)(one, authorization, told.append)
    return answer, told


@contextlib.asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Answer every request so."""
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/legacy/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("built", [WHEEL, SDIST], ids=["wheel", "sdist"])
async def test_pypi_takes_what_is_pushed(index: ScriptedPypi, tmp_path: Path, built: Built) -> None:
    """The strict index stores the file; it got a Content-Length, a User-Agent of ours, and the bytes."""
    answer, told = await pushed(index.upload_url, package(built, tmp_path))
    assert answer == Accepted(200, "")
    (post,) = (await index.recording()).posts()
    assert (post.filename, post.sha256, post.credential) == (built.filename, built.sha256, "token")
    assert post.content_length == post.body_bytes
    assert post.user_agent.startswith("overlay-index/")
    assert told[0] == 0
    assert told[-1] == len(built.body)
    assert told == sorted(told)


async def test_equal_bytes_are_accepted_again_and_others_are_taken(index: ScriptedPypi, tmp_path: Path) -> None:
    """PyPI answers 200 to a repetition, and refuses other bytes under the name, which is to be looked at."""
    assert isinstance((await pushed(index.upload_url, package(WHEEL, tmp_path)))[0], Accepted)
    assert isinstance((await pushed(index.upload_url, package(WHEEL, tmp_path)))[0], Accepted)
    other = package(wheel("demo", "1.1", payload=b"other"), tmp_path)
    answer, _ = await pushed(index.upload_url, other)
    assert isinstance(answer, Taken)
    assert "File already exists" in answer.said


async def test_a_wrong_token_is_refused_in_pypis_words(index: ScriptedPypi, tmp_path: Path) -> None:
    """The refusal carries what PyPI says."""
    answer, _ = await pushed(index.upload_url, package(WHEEL, tmp_path), basic("__token__", "pypi-wrong"))
    assert isinstance(answer, Refused)
    assert answer.status == 403
    assert "Invalid or non-existent authentication" in answer.said


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_an_error_of_the_server_says_nothing_certain(index: ScriptedPypi, tmp_path: Path, status: int) -> None:
    """A 5xx after all of it was read is unknown, and nothing is repeated here."""
    await index.do(Fault(at=Point.STORED, action=faults.Answer(status, "down")))
    answer, _ = await pushed(index.upload_url, package(WHEEL, tmp_path))
    assert answer == Unknown(status, "down")
    assert len((await index.recording()).posts()) == 1


@pytest.mark.parametrize("point", [Point.RECEIVED, Point.STORED])
async def test_a_lost_answer_says_nothing_certain(index: ScriptedPypi, tmp_path: Path, point: Point) -> None:
    """A connection that breaks after the last byte is unknown, whether the file was stored or not."""
    await index.do(Fault(at=point, action=faults.Close()))
    answer, _ = await pushed(index.upload_url, package(WHEEL, tmp_path))
    assert isinstance(answer, Unknown)
    assert answer.status is None
    assert len((await index.recording()).posts()) == 1


async def test_a_connection_that_breaks_in_the_file_says_nothing_certain(index: ScriptedPypi, tmp_path: Path) -> None:
    """Half of a large file may have arrived: unknown."""
    large = wheel("demo", "1.1", files={"blob.bin": _noise(3 << 20)})
    await index.do(Fault(at=Point.BODY, action=faults.Close(), after_bytes=1 << 20))
    answer, _ = await pushed(index.upload_url, package(large, tmp_path))
    assert isinstance(answer, Unknown)


async def test_a_silent_server_is_given_up(index: ScriptedPypi, tmp_path: Path) -> None:
    """An answer that does not come within the time is unknown."""
    await index.do(Fault(at=Point.STORED, action=faults.Hang("never")))
    answer, _ = await pushed(index.upload_url, package(WHEEL, tmp_path), silent_s=0.5)
    assert isinstance(answer, Unknown)


async def test_a_slow_upload_is_not_given_up(index: ScriptedPypi, tmp_path: Path) -> None:
    """Only silence ends a POST: one that takes longer than the time, piece by piece, gets its answer."""
    await index.do(Fault(at=Point.BODY, action=faults.Slow(8 << 20), times=None))
    slow = padded(package(WHEEL, tmp_path), 40 << 20)
    answers: list[Answer] = []
    while not answers or (isinstance(answers[-1], Unknown) and len(answers) < ATTEMPTS):
        answers.append((await pushed(index.upload_url, slow, silent_s=3.0))[0])
    assert isinstance(answers[-1], Refused)  # for its digest, after all of it was read


async def test_nobody_there_means_nothing_was_sent(tmp_path: Path) -> None:
    """A refused connection is certain: upstream got nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer, _ = await pushed(f"http://127.0.0.1:{port}/legacy/", package(WHEEL, tmp_path))
    assert isinstance(answer, NotSent)


async def test_a_file_that_vanished_from_the_disk_is_not_sent(index: ScriptedPypi, tmp_path: Path) -> None:
    """Something cleared TMPDIR: nothing of the file went out, and what is to be done is said."""
    one = package(WHEEL, tmp_path)
    one.path.unlink()
    with pytest.raises(errors.Refused, match="TMPDIR") as caught:
        await pushed(index.upload_url, one)
    assert f"{WHEEL.filename} was fetched to {tmp_path} and cannot be read" in str(caught.value)
    assert (await index.recording()).posts() == []


@pytest.mark.parametrize(
    ("status", "meaning"), [(301, Taken), (302, Taken), (303, Taken), (307, Refused), (308, Refused)]
)
async def test_redirects_are_not_followed(tmp_path: Path, status: int, meaning: type) -> None:
    """Neither the credential nor the file goes where a redirect leads."""
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization", ""))
        return web.Response()

    async def redirecting(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, headers={"Location": there})

    async with serving(elsewhere) as there, serving(redirecting) as here:
        answer, _ = await pushed(here, package(WHEEL, tmp_path))
    assert isinstance(answer, meaning)
    assert there in answer.said
    assert seen == []


async def test_an_early_refusal_is_heard(tmp_path: Path) -> None:
    """A server that refuses by the headers and reads nothing of a large file is understood all the same."""

    async def early(_: web.Request) -> web.StreamResponse:
        return web.Response(status=403, reason="not yours")

    async with serving(early) as url:
        answer, _ = await pushed(url, padded(package(WHEEL, tmp_path), 64 << 20))
    assert answer == Refused(403, "not yours")


async def test_a_long_answer_is_not_read_to_its_end(tmp_path: Path) -> None:
    """An answer without end is cut, not collected."""

    async def endless(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(status=400, headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"no " * 10_000)
        return response

    async with serving(endless) as url, asyncio.timeout(30):
        answer, _ = await pushed(url, package(WHEEL, tmp_path))
    assert isinstance(answer, Refused)
    assert len(answer.said) <= 500


async def test_no_cookie_and_no_netrc_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the given credential is sent: ~/.netrc and a cookie of an earlier answer stay out."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login eve password wrong\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    headers: list[tuple[str | None, str | None]] = []

    async def noting(request: web.Request) -> web.StreamResponse:
        await request.read()
        headers.append((request.headers.get("Authorization"), request.headers.get("Cookie")))
        return web.Response(headers={"Set-Cookie": "a=b"})

    async with serving(noting) as url:
        # By name: a cookie of a bare address is not kept by anybody.
        to, one = hosts.target(url.replace("127.0.0.1", "localhost")), package(WHEEL, tmp_path)
        async with session_to(to) as session:
            for _ in range(2):
                await HttpPush(session, to)(one, TOKEN, lambda _: None)
    assert headers == [(TOKEN, None)] * 2


async def test_memory_stays_small(index: ScriptedPypi, tmp_path: Path) -> None:
    """A file of 96 MiB is streamed: of what is made while it is pushed, little is held at once."""
    one = padded(package(WHEEL, tmp_path), 96 << 20)
    tracemalloc.start()  # what the kernel counts of this process is of all tests before
    try:
        answer, _ = await pushed(index.upload_url, one)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(answer, Refused)  # for its digest, after all of it was read
    assert peak_bytes < 16 << 20


def padded(one: Package, length: int) -> Package:
    """Make a file longer by so many zeros; its digest is wrong then."""
    with one.path.open("ab") as handle:
        handle.truncate(one.path.stat().st_size + length)
    file = msgspec.structs.replace(one.file, size_bytes=one.path.stat().st_size)
    return Package(file=file, path=one.path, fields=one.fields)


def _noise(length: int) -> bytes:
    """Bytes that do not compress."""
    return hashlib.shake_128(b"noise").digest(length)
