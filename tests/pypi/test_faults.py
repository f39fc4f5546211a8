"""The faults that tests order at the scripted PyPI happen there, at their point, for their file, as often as said."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.builders import sdist, wheel
from tests.pypi import orders
from tests.pypi.builders import MIB, large_sdist, large_wheel
from tests.pypi.faults import Answer, Close, Delay, Fault, Hang, Point, Slow
from tests.pypi.orders import OpenGate, Project, live
from tests.pypi.recording import Received
from tests.pypi.sending import Sending, page_files, send
from tests.pypi.server import ScriptedPypi, pypi

WHEEL = wheel("demo", "1.0")
SDIST = sdist("demo", "1.0")
BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
UPLOAD_POINTS = [Point.ARRIVED, Point.BODY, Point.RECEIVED, Point.STORED]


@pytest.fixture
async def index() -> AsyncIterator[ScriptedPypi]:
    async with pypi() as index:
        yield index


async def last(index: ScriptedPypi) -> Received:
    return (await index.recording()).requests[-1]


@pytest.mark.parametrize("at", UPLOAD_POINTS)
async def test_an_answer_comes_instead(index: ScriptedPypi, at: Point) -> None:
    """A scripted answer has its status, message and headers; only after storing is the file there."""
    await index.do(Fault(at, Answer(503, "Backend is away", {"Retry-After": "7"})))
    answered = await send(WHEEL, index.upload_url)
    assert (answered.status, answered.reason, answered.headers["Retry-After"]) == (503, "Backend is away", "7")
    stored = [WHEEL.filename] if at is Point.STORED else []
    assert (await index.recording()).stored() == stored
    assert (await last(index)).status == 503
    assert (await send(WHEEL, index.upload_url)).status == 200
    assert (await index.recording()).stored() == [WHEEL.filename]


@pytest.mark.parametrize("at", UPLOAD_POINTS)
async def test_the_connection_breaks(index: ScriptedPypi, at: Point) -> None:
    """A closed connection has no answer; a lost answer is one whose file is stored."""
    await index.do(Fault(at, Close()))
    with pytest.raises(BROKEN):
        await send(WHEEL, index.upload_url)
    received = await last(index)
    assert (received.status, received.outcome) == (None, "stored" if at is Point.STORED else "dropped")
    assert received.complete == (at in {Point.RECEIVED, Point.STORED})
    again = await send(WHEEL, index.upload_url)
    assert (again.status, (await last(index)).outcome) == (200, "identical" if at is Point.STORED else "stored")


async def test_a_body_breaks_at_its_byte(index: ScriptedPypi, tmp_path: Path) -> None:
    """After so many bytes of the file nothing more is read."""
    big = large_wheel(tmp_path, "demo", "1.0", 8 * MIB)
    await index.do(Fault(Point.BODY, Close(), subject=big.filename, after_bytes=3_000_001))
    with pytest.raises(BROKEN):
        await Sending.of(big.read()).to(index.upload_url)
    received = await last(index)
    assert (received.file_bytes, received.sha256, received.complete) == (3_000_001, "", False)


async def test_faults_are_counted_and_choose_their_file(index: ScriptedPypi) -> None:
    """A fault waits for its file and its number, happens as often as said, and ends with NoFaults."""
    away = Answer(500)
    await index.do(Fault(Point.RECEIVED, away, subject=SDIST.filename, first=2, times=2))
    sent = [await send(SDIST, index.upload_url) for _ in range(2)] + [await send(WHEEL, index.upload_url)]
    assert [answered.status for answered in sent] == [200, 500, 200]
    sent = [await send(SDIST, index.upload_url) for _ in range(2)]
    assert [answered.status for answered in sent] == [500, 200]
    await index.do(Fault(Point.ARRIVED, away, times=None))
    assert [(await send(SDIST, index.upload_url)).status for _ in range(3)] == [500] * 3
    await index.do(orders.NoFaults())
    assert (await send(SDIST, index.upload_url)).status == 200


@pytest.mark.parametrize(("status", "at"), [(202, Point.STORED), (409, Point.RECEIVED), (307, Point.ARRIVED)])
async def test_it_answers_as_other_indexes_do(index: ScriptedPypi, status: int, at: Point) -> None:
    """202 after storing, 409 for what is there, and redirects of a POST are answers like any other."""
    await index.do(Fault(at, Answer(status, headers={"Location": f"{index.url}/legacy/"})))
    assert (await send(WHEEL, index.upload_url)).status == status


@pytest.mark.parametrize("at", UPLOAD_POINTS)
async def test_an_upload_hangs_until_its_gate_opens(index: ScriptedPypi, at: Point) -> None:
    """A test knows when a request is at the point, can look or kill there, and lets it go on."""
    await index.do(Fault(at, Hang("here")))
    upload = asyncio.create_task(send(WHEEL, index.upload_url))
    await index.reached("here")
    assert (await index.recording()).stored() == ([WHEEL.filename] if at is Point.STORED else [])
    await index.do(OpenGate("here"))
    assert (await upload).status == 200
    assert (await index.recording()).stored() == [WHEEL.filename]


async def test_a_client_that_dies_in_mid_body_stores_nothing(index: ScriptedPypi, tmp_path: Path) -> None:
    """What a killed client did not send never becomes a file; its request is noted as incomplete."""
    big = large_wheel(tmp_path, "demo", "1.0", 20 * MIB)
    await index.do(
        Fault(Point.BODY, Hang("middle"), after_bytes=MIB), Fault(Point.BODY, Hang("end"), after_bytes=19 * MIB)
    )
    upload = asyncio.create_task(Sending.of(big.read()).to(index.upload_url))
    await index.reached("middle")
    upload.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await upload
    await index.do(OpenGate("middle"))
    await index.settled()
    received = await last(index)
    assert (received.outcome, received.status, received.complete) == ("incomplete", None, False)
    assert (await index.recording()).stored() == []


async def test_slow_reading_and_a_slow_answer_take_their_time(index: ScriptedPypi) -> None:
    """A body is read at so many bytes a second, an answer comes so much later."""
    await index.do(Fault(Point.BODY, Slow(len(WHEEL.body) * 2)), Fault(Point.STORED, Delay(0.5)))
    began = time.monotonic()
    assert (await send(WHEEL, index.upload_url)).status == 200
    assert time.monotonic() - began >= 0.9


async def test_a_page_lags(index: ScriptedPypi) -> None:
    """A stored file is on its page after so many requests of it, or when a test says so; what was there stays."""
    await index.do(live(sdist("demo", "0.9")), orders.Lag(2))
    assert (await send(WHEEL, index.upload_url)).status == 200
    seen = [list(await page_files(index, "demo") or ()) for _ in range(3)]
    assert seen == [["demo-0.9.tar.gz"]] * 2 + [["demo-0.9.tar.gz", WHEEL.filename]]
    await index.do(orders.Lag(None))
    assert (await send(SDIST, index.upload_url)).status == 200
    assert SDIST.filename not in (await page_files(index, "demo") or ())
    await index.do(orders.Show("demo"))
    assert SDIST.filename in (await page_files(index, "demo") or ())


async def test_a_new_project_lags_too(index: ScriptedPypi) -> None:
    """The page of a project whose first file is not shown yet is not there; that of an empty project is."""
    await index.do(orders.Lag(1), Project(name="empty"))
    assert await page_files(index, "empty") == {}
    assert (await send(WHEEL, index.upload_url)).status == 200
    assert await page_files(index, "demo") is None
    assert list(await page_files(index, "demo") or ()) == [WHEEL.filename]


async def test_a_page_says_what_a_test_wants(index: ScriptedPypi) -> None:
    """Another digest, a yank, an archived and a quarantined project, a 5xx and a 404 can be ordered for a page."""
    await index.do(live(WHEEL), orders.WrongDigest(WHEEL.filename, "0" * 64), orders.Yank("demo", "1.0", "broken"))
    page = await page_files(index, "demo")
    assert page is not None
    assert (page[WHEEL.filename]["hashes"], page[WHEEL.filename]["yanked"]) == ({"sha256": "0" * 64}, "broken")
    await index.do(orders.Status("demo", "quarantined"))
    assert await page_files(index, "demo") == {}
    await index.do(orders.Status("demo", "archived"), Fault(Point.PAGE, Answer(404), subject="demo"))
    assert await page_files(index, "demo") is None
    assert (await send(SDIST, index.upload_url)).status == 403
    await index.do(Fault(Point.PAGE, Answer(502), subject="other"), Fault(Point.PAGE, Answer(503), subject="demo"))
    with pytest.raises(aiohttp.ClientResponseError, match="503"):
        await page_files(index, "demo")


async def test_an_sdist_on_its_way_before_its_wheels_is_noticed(index: ScriptedPypi) -> None:
    """The recording tells an sdist that was sent too early from one that was not."""
    await send(WHEEL, index.upload_url)
    await send(SDIST, index.upload_url)
    assert (await index.recording()).early_sdists() == []
    await send(sdist("demo", "2.0"), index.upload_url)
    await send(wheel("demo", "2.0"), index.upload_url)
    assert (await index.recording()).early_sdists() == ["demo-2.0.tar.gz"]


async def test_large_files_are_valid(index: ScriptedPypi, tmp_path: Path) -> None:
    """Files that were built to the disk are stored like small ones, and come back the same."""
    for built in (large_wheel(tmp_path, "demo", "1.0", 5 * MIB + 1), large_sdist(tmp_path, "demo", "1.0", 5 * MIB + 1)):
        answered = await Sending.of(built.read()).to(index.upload_url)
        assert answered.status == 200, answered.reason
        page = await page_files(index, "demo")
        assert page is not None
        async with aiohttp.ClientSession() as session, session.get(page[built.filename]["url"]) as response:
            assert await response.read() == built.path.read_bytes()


def test_a_fault_that_cannot_happen_is_refused() -> None:
    """An order for a file where none is known, or slowness elsewhere, is a mistake of the test."""
    with pytest.raises(ValueError, match="No file"):
        Fault(Point.ARRIVED, Close(), subject="demo-1.0.tar.gz")
    with pytest.raises(ValueError, match="slowly"):
        Fault(Point.STORED, Slow(1))
