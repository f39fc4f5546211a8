"""The scripted PyPI as a process of its own is told and asked like one in the test's loop."""

import asyncio
import contextlib

import aiohttp
import pytest

from tests.builders import wheel
from tests.pypi.faults import Answer, Close, Fault, Hang, Point
from tests.pypi.orders import Delete, Job, OpenGate, Project, Publisher, live
from tests.pypi.process import pypi_process
from tests.pypi.sending import minted, page_files, send
from tests.pypi.server import pypi

WHEEL = wheel("demo", "1.0")


async def test_a_process_takes_orders_and_is_recorded() -> None:
    """Orders, faults, jobs, gates and the recording go over HTTP, and are not recorded themselves."""
    async with pypi_process() as index:
        await index.do(Project(name="demo"), Publisher(projects=("demo",)), live(wheel("demo", "0.9")))
        await index.do(Fault(Point.RECEIVED, Answer(503, "away")), Fault(Point.STORED, Hang("stored")))
        token = await minted(index, Job())
        assert (await send(WHEEL, index.upload_url, token=token)).status == 503
        upload = asyncio.create_task(send(WHEEL, index.upload_url, token=token))
        await index.reached("stored")
        assert set(await page_files(index, "demo") or ()) == {"demo-0.9-py3-none-any.whl", WHEEL.filename}
        upload.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await upload
        await index.do(OpenGate("stored"))
        await index.settled()
        recording = await index.recording()
        assert [(post.outcome, post.status) for post in recording.posts()] == [("scripted", 503), ("stored", None)]
        assert recording.stored() == [WHEEL.filename]
        assert {request.path for request in recording.requests}.isdisjoint({"/control/orders", "/control/recording"})
        with pytest.raises(LookupError):
            await index.do(Delete("nothing-1.0.tar.gz"))


async def test_both_kinds_record_the_same() -> None:
    """What a process recorded equals what an index in the loop recorded, but for ports."""
    recordings = []
    for kind in (pypi, pypi_process):
        async with kind() as index:
            await index.do(Fault(Point.STORED, Close()))
            with contextlib.suppress(aiohttp.ClientError):
                await send(WHEEL, index.upload_url)
            await send(WHEEL, index.upload_url)
            await page_files(index, "demo")
            await index.settled()
            recordings.append(await index.recording())
    assert recordings[0] == recordings[1]
    assert [request.outcome for request in recordings[0].requests] == ["stored", "identical", ""]


async def test_an_index_in_the_loop_takes_no_orders_by_http() -> None:
    """Only a process has /control/."""
    async with pypi() as index:
        answered = await send(WHEEL, f"{index.url}/control/orders")
        assert answered.status == 404
