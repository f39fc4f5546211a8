"""`/-/ready` names the part that is down, in time for a probe that does not wait long."""

import asyncio
import contextlib
import dataclasses
import json

import aiohttp
import pytest
from aiohttp import web

from overlay.caching.threads import uninterrupted
from overlay.config.tables import Config
from overlay.domain.errors import DocumentNotFound, LedgerUnavailable, OverlayError, RecordCorrupt, StoreUnavailable
from overlay.web.app import application
from overlay.web.context import Lifecycle
from overlay.web.probes import PART_S, Probes
from overlay.web.server import runner
from overlay.wiring.wired import wired
from tests.running import Running


class Frozen:
    """Answers when it is thawed, and cannot be interrupted before that: as a call of boto3 in its thread."""

    def __init__(self) -> None:
        self.thawed = asyncio.Event()
        self.asked = 0

    async def answer(self) -> None:
        self.asked += 1
        await uninterrupted(self.thawed.wait())

    async def get(self, key: str) -> bytes:
        """Documents, as far as a probe reads them."""
        await self.answer()
        return key.encode()


async def states_of(probes: Probes, frozen: Frozen) -> dict[str, str]:
    """Probe, while the part says nothing."""
    asked = asyncio.ensure_future(probes.states())
    done, _ = await asyncio.wait({asked}, timeout=30)
    if not done:
        frozen.thawed.set()  # else nothing would end
        raise AssertionError("the probe waited for the part that hangs")
    return asked.result()


async def well() -> None:
    """Answer at once."""


async def test_all_is_well() -> None:
    """Every part is "ok"."""
    assert await Probes({"ledger": well, "store": well}).states() == {"ledger": "ok", "store": "ok"}


async def test_a_frozen_part_is_named_and_the_others_are_not() -> None:
    """The probe has its answer while the part still says nothing."""
    store = Frozen()
    probes = Probes({"ledger": well, "store": store.answer})
    states = await states_of(probes, store)
    assert states == {"ledger": "ok", "store": f"The store did not answer within {PART_S:g} s."}
    store.thawed.set()
    await probes.close()


async def test_the_parts_are_asked_side_by_side() -> None:
    """Each answers only when the other was asked: one after the other would name the first."""
    both = asyncio.Barrier(2)
    assert await Probes({"ledger": both.wait, "store": both.wait}).states() == {"ledger": "ok", "store": "ok"}


async def test_probes_of_a_frozen_part_wait_for_one_question() -> None:
    """Else every probe would leave a thread behind; the first after the thaw finds all well."""
    store = Frozen()
    probes = Probes({"store": store.answer})
    for _ in range(2):
        assert (await states_of(probes, store))["store"] != "ok"
    assert store.asked == 1
    store.thawed.set()
    assert await probes.states() == {"store": "ok"}
    assert await probes.states() == {"store": "ok"}
    assert store.asked == 2
    await probes.close()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (StoreUnavailable("S3 cannot be reached."), "S3 cannot be reached."),
        (LedgerUnavailable("What is staged is not loaded yet."), "What is staged is not loaded yet."),
        (
            DocumentNotFound("state/store.json"),
            "The part answers, but was emptied or is another one. No document is stored under 'state/store.json'.",
        ),
        (RecordCorrupt("state/store.json", "it is empty"), "state/store.json"),
    ],
)
async def test_what_a_part_says_is_what_the_probe_says(error: OverlayError, sentence: str) -> None:
    """In its own words: what is down, and what to look at."""

    async def fails() -> None:
        raise error

    states = await Probes({"part": fails, "other": well}).states()
    assert sentence in states["part"]
    assert states["other"] == "ok"


async def test_a_server_on_a_frozen_store_says_so_and_serves_on(config: Config) -> None:
    """503 for whoever sends requests here; health is another question."""
    store = Frozen()
    async with wired(config) as made, contextlib.AsyncExitStack() as stack:
        services = dataclasses.replace(made.services, documents=store)  # type: ignore[arg-type]
        served = runner(application(services, made.web, Lifecycle(), now_s=made.now_s), shutdown_timeout_s=1)
        await served.setup()
        stack.push_async_callback(served.cleanup)
        await web.TCPSite(served, "127.0.0.1", 0).start()
        stack.callback(store.thawed.set)
        url = f"http://127.0.0.1:{served.addresses[0][1]}"
        overlay = Running(url, made, aiohttp.ClientSession(), Lifecycle())
        stack.push_async_callback(overlay.session.close)
        async with overlay.get("/-/ready") as response:
            assert response.status == 503
            parts = json.loads(await response.read())
        assert [part for part, state in parts.items() if state != "ok"] == ["store"]
        async with overlay.get("/-/health") as response:
            assert response.status == 200
