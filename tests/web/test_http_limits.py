"""Bodies that come too slowly: given up after the idle time, which tests make short."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from overlay.config.tables import Config
from tests.builders import wheel
from tests.running import ADMIN, basic, running
from tests.served import form_bytes

IDLE_S = 0.3
SLOWLY_S = 1.5  # the idle time where nothing may be given up: longer than the machine stalls
ARRIVALS = 22
GOOD = wheel("demo", "1.0", payload=b"x" * 1000)


@pytest.fixture
async def url(config: Config) -> AsyncIterator[str]:
    async with running(config, upload_idle_s=IDLE_S) as overlay:
        yield overlay.legacy


@pytest.mark.parametrize("sent", [0, 10, 300, 800, -1])
async def test_an_upload_that_stops_arriving_is_given_up(url: str, tmp_path: Path, sent: int) -> None:
    """408 wherever it stopped, and nothing of it is left."""
    body, content_type = form_bytes(GOOD)
    told = asyncio.Event()

    async def some_of_it() -> AsyncIterator[bytes]:
        yield body[:sent]
        await told.wait()

    headers = {"Content-Type": content_type, "Content-Length": str(len(body)), **basic(ADMIN)}
    async with (
        asyncio.timeout(10),
        aiohttp.ClientSession() as session,
        session.post(url, data=some_of_it(), headers=headers) as response,
    ):
        assert response.status == 408
        assert "Nothing of the body arrived" in await response.text()
        told.set()
    store = tmp_path / "store"
    left = [path for folder in ("spool", "blobs", "records") for path in (store / folder).rglob("*") if path.is_file()]
    assert left == []


async def test_an_upload_that_goes_on_slowly_is_not_given_up(config: Config) -> None:
    """The idle time is between two arrivals, not for the whole: twice as long in all is fine."""
    body, content_type = form_bytes(GOOD)
    loop = asyncio.get_running_loop()
    step = len(body) // ARRIVALS + 1

    async def slowly() -> AsyncIterator[bytes]:
        for at in range(0, len(body), step):
            yield body[at : at + step]
            later = loop.create_future()
            loop.call_later(SLOWLY_S / 10, later.set_result, None)
            await later

    headers = {"Content-Type": content_type, "Content-Length": str(len(body)), **basic(ADMIN)}
    async with running(config, upload_idle_s=SLOWLY_S) as overlay:
        began = loop.time()
        async with overlay.session.post(overlay.legacy, data=slowly(), headers=headers) as response:
            assert response.status == 200, await response.text()
        assert loop.time() - began > 2 * SLOWLY_S
