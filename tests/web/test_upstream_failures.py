"""When upstream fails: what readers and uploads get, each kind of failure, also after a restart (design §8)."""

import asyncio
import dataclasses
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from overlay.config.tables import Config
from tests.attempts import best_s
from tests.builders import wheel
from tests.clock import Clock
from tests.fakes.index import Answer, ScriptedIndex
from tests.running import Running, config_for, running

JSON = "application/vnd.pypi.simple.v1+json"
DAY_S = 86_400
TIMEOUT_S = 2
GIVEN_UP_S = 5


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def index() -> AsyncIterator[ScriptedIndex]:
    async with ScriptedIndex() as made:
        made.add(wheel("demo", "0.9"), wheel("warm", "1.0"))
        yield made


@pytest.fixture
def config(index: ScriptedIndex, tmp_path: Path) -> Config:
    return config_for(tmp_path / "store", index.simple_url)


@pytest.fixture
async def overlay(config: Config, clock: Clock) -> AsyncIterator[Running]:
    async with running(config, now_s=clock) as made:
        yield made


async def fetched(overlay: Running, project: str, view: str = "") -> tuple[int, bytes]:
    async with overlay.get(f"{view}/simple/{project}/", Accept=JSON) as response:
        return response.status, await response.read()


def page(**changes: object) -> bytes:
    whole: dict[str, object] = {"meta": {"api-version": "1.4"}, "name": "demo", "files": [], "versions": []}
    return json.dumps({**whole, **changes}).encode()


def html(body: bytes) -> Answer:
    return Answer(body, headers={"Content-Type": "text/html; charset=utf-8"})


# Each is an answer that is no page; the second element makes the connection's own kind of failure possible.
BROKEN: dict[str, Callable[[], Answer]] = {
    "500": lambda: Answer(b"oh no", status=500),
    "503 with the right type": lambda: Answer(page(), status=503),
    "429": lambda: Answer(b"slow down", status=429),
    "401": lambda: Answer(b"who are you", status=401),
    "403": lambda: Answer(b"no", status=403),
    "cut in the body": lambda: Answer(page(), cut_after=20),
    "HTML that is no index": lambda: html(b"<html><body><h1>Please log in</h1><a href='/login'>here</a></body></html>"),
    "empty HTML": lambda: html(b""),
    "cut HTML": lambda: html(b'<!DOCTYPE html><html><body><a href="demo-1.0.tar.gz">demo-1.0.tar.gz</a>'),
    "application/json": lambda: Answer(page(), headers={"Content-Type": "application/json"}),
    "text/plain": lambda: Answer(page(), headers={"Content-Type": "text/plain"}),
    "[]": lambda: Answer(b"[]"),
    "{}": lambda: Answer(b"{}"),
    "null": lambda: Answer(b"null"),
    "no JSON": lambda: Answer(b"{files:"),
    "empty": lambda: Answer(b""),
    "files is no list": lambda: Answer(page(files={})),
    "a file without url": lambda: Answer(page(files=[{"filename": "demo-1.0.tar.gz", "hashes": {}}])),
    "version 2.0": lambda: Answer(page(meta={"api-version": "2.0"})),
    "over-long": lambda: Answer(
        gzip.compress(b'{"meta":{"api-version":"1.4"},"name":"demo","files":[],"x":"' + b" " * (65 << 20) + b'"}', 1),
        headers={"Content-Type": JSON, "Content-Encoding": "gzip"},
    ),
    "broken gzip": lambda: Answer(b"\x1f\x8b\x08nonsense", headers={"Content-Type": JSON, "Content-Encoding": "gzip"}),
    "truncated gzip": lambda: Answer(
        gzip.compress(page())[:-9], headers={"Content-Type": JSON, "Content-Encoding": "gzip"}
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_page_that_was_never_seen_is_502(overlay: Running, index: ScriptedIndex, kind: str) -> None:
    """Never a 404, never an empty page, never only the staged half; uploads that must ask get a 503."""
    await overlay.upload(wheel("demo", "1.0"))
    index.script("new", BROKEN[kind]())
    status, body = await fetched(overlay, "new")
    assert status == 502, body
    assert b"files" not in body or b"demo-1.0" not in body
    refused = await overlay.upload(wheel("new", "1.0"))
    assert refused.status == 503
    assert (await fetched(overlay, "new", "/staged"))[0] == 404


@pytest.mark.parametrize("kind", BROKEN)
async def test_the_last_good_page_stands_in_for_a_day(
    overlay: Running, index: ScriptedIndex, clock: Clock, kind: str
) -> None:
    """With what is staged on top; after `stale_s` it is a 502."""
    await overlay.upload(wheel("demo", "1.0"))
    _, good = await fetched(overlay, "demo")
    index.script("demo", BROKEN[kind]())
    for after_s in (61, 3600, DAY_S - 4000):
        clock.now_s += after_s
        assert await fetched(overlay, "demo") == (200, good)
    clock.now_s += DAY_S
    assert (await fetched(overlay, "demo"))[0] == 502


@pytest.mark.parametrize("kind", ["500", "cut in the body", "{}", "text/plain"])
async def test_the_last_good_page_survives_a_restart(
    config: Config, index: ScriptedIndex, clock: Clock, kind: str
) -> None:
    """From local disk; a decision still needs upstream's answer."""
    async with running(config, now_s=clock) as overlay:
        await overlay.upload(wheel("demo", "1.0"))
        _, good = await fetched(overlay, "demo")
        async with overlay.get("/simple/", Accept=JSON) as response:
            names = await response.read()
    index.script("demo", BROKEN[kind]())
    index.script("", BROKEN[kind]())
    clock.now_s += 3600
    async with running(config, now_s=clock) as overlay:
        assert await fetched(overlay, "demo") == (200, good)
        async with overlay.get("/simple/", Accept=JSON) as response:
            assert (response.status, await response.read()) == (200, names)
        assert (await overlay.upload(wheel("demo", "1.1"))).status == 503
        clock.now_s += DAY_S
        assert (await fetched(overlay, "demo"))[0] == 502


async def test_an_upstream_that_hangs_is_given_up_in_time(config: Config, index: ScriptedIndex) -> None:
    """502 within the timeout and below the clients' own."""
    gate = asyncio.Event()
    index.script("slow", Answer(page(), gate=gate))
    impatient = dataclasses.replace(config, upstream=dataclasses.replace(config.upstream, timeout_s=TIMEOUT_S))
    async with running(impatient) as hurried:

        async def given_up_s() -> float:
            began_s, asked = time.monotonic(), index.count("slow")
            assert (await fetched(hurried, "slow"))[0] == 502
            assert index.count("slow") > asked
            return time.monotonic() - began_s

        try:
            assert await best_s(given_up_s, limit_s=GIVEN_UP_S) < GIVEN_UP_S
        finally:
            gate.set()


async def test_an_upstream_that_hangs_holds_up_no_other_project(overlay: Running, index: ScriptedIndex) -> None:
    """The others have flights of their own."""
    gate = asyncio.Event()
    index.script("slow", Answer(page(), gate=gate))
    slow = asyncio.create_task(fetched(overlay, "slow"))
    try:
        while index.count("slow") == 0:
            await asyncio.sleep(0)
        assert (await fetched(overlay, "warm"))[0] == 200
        assert not slow.done()
    finally:
        gate.set()
    assert (await slow)[0] == 200


async def test_nobody_listens_upstream(overlay: Running, index: ScriptedIndex, clock: Clock) -> None:
    """Connection refused is as any failure: the warm page goes on, the cold one is a 502."""
    _, good = await fetched(overlay, "warm")
    await index.stop()
    clock.now_s += 3600
    assert await fetched(overlay, "warm") == (200, good)
    assert (await fetched(overlay, "cold"))[0] == 502
    assert (await overlay.upload(wheel("cold", "1.0"))).status == 503


async def test_an_empty_page_is_a_page(overlay: Running, index: ScriptedIndex) -> None:
    """`files: []` is upstream's word; 404 and 410 are too, and cached."""
    index.script("demo", Answer(page()))
    assert await fetched(overlay, "demo") == (200, page())
    index.script("gone", Answer(b"gone", status=410))
    assert (await fetched(overlay, "gone"))[0] == 404
    assert (await fetched(overlay, "gone"))[0] == 404
    assert index.count("gone") == 1


async def test_upstream_that_comes_back_is_believed(overlay: Running, index: ScriptedIndex, clock: Clock) -> None:
    """The next reader after the page has aged gets the new one."""
    await fetched(overlay, "demo")
    index.down = True
    clock.now_s += 3600
    assert (await fetched(overlay, "demo"))[0] == 200
    index.down = False
    index.add(wheel("demo", "2.0"))
    clock.now_s += 3600
    status, body = await fetched(overlay, "demo")
    assert status == 200
    assert b"demo-2.0-py3-none-any.whl" in body


async def test_the_staged_view_and_uploads_of_known_projects_go_on(
    overlay: Running, index: ScriptedIndex, clock: Clock
) -> None:
    """An upload whose project was asked for less than `fresh_s` ago needs no new answer."""
    await overlay.upload(wheel("demo", "1.0"))
    index.down = True
    assert (await overlay.upload(wheel("demo", "1.1"))).status == 200
    clock.now_s += 61
    assert (await overlay.upload(wheel("demo", "1.2"))).status == 503
    assert (await fetched(overlay, "demo", "/staged"))[0] == 200


async def test_a_hundred_readers_ask_upstream_once(overlay: Running, index: ScriptedIndex) -> None:
    """One flight per project, whoever begins it."""
    gate = asyncio.Event()
    index.script("demo", Answer(page(), gate=gate))
    readers = [asyncio.create_task(fetched(overlay, "demo")) for _ in range(100)]
    while index.count("demo") == 0:
        await asyncio.sleep(0)
    gate.set()
    assert {status for status, _ in await asyncio.gather(*readers)} == {200}
    assert index.count("demo") == 1
