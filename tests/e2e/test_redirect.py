"""`downloads = "redirect"`: clients fetch files from a real S3 server themselves, after the overlay's decision."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from overlay.config.tables import LedgerConfig, StoreConfig
from tests.builders import sdist, wheel
from tests.clients import Clients
from tests.e2e.readings import fetch, listed, path_of, withdraw
from tests.fakes.index import ScriptedIndex
from tests.redis_servers import RedisServer
from tests.running import Running, config_for, running
from tests.s3_server import S3Server

READY_S = 60
WHEEL = wheel("demo", "1.0+cpu", payload=bytes(range(256)) * 400)
SDIST = sdist("demo", "1.0+cpu")


@pytest.fixture
async def overlay(s3_store: StoreConfig, valkey_server: RedisServer, tmp_path: Path) -> AsyncIterator[Running]:
    """An overlay in the distributed form, with both files staged."""
    store = replace(s3_store, downloads="redirect")
    ledger = LedgerConfig(kind="redis", url=valkey_server.url, prefix=tmp_path.name)
    async with ScriptedIndex() as index:
        config = replace(config_for(tmp_path, index.simple_url), store=store, ledger=ledger)
        async with running(config) as made:
            await ready(made)
            for built in (WHEEL, SDIST):
                assert (await made.upload(built)).status == 200
            yield made


async def ready(overlay: Running) -> None:
    async with asyncio.timeout(READY_S):
        while (await fetch(overlay, "/-/ready"))[0] != 200:
            await asyncio.sleep(0.05)


async def wheel_path(overlay: Running) -> str:
    return path_of((await listed(overlay, "demo"))[WHEEL.filename])


async def test_a_file_is_fetched_from_the_store_itself(overlay: Running, s3_server: S3Server) -> None:
    """302 to a URL that anybody can fetch for a while and no cache may keep; the page names the overlay's own."""
    path = await wheel_path(overlay)
    assert path.startswith("/files/demo/")
    async with overlay.get(path) as response:
        assert response.status == 302
        assert response.headers["Cache-Control"] == "no-store"
        location = response.headers["Location"]
    assert location.startswith(s3_server.endpoint_url)
    assert "X-Amz-Expires=300" in location
    async with overlay.session.get(location) as response:
        assert (response.status, await response.read()) == (200, WHEEL.body)


async def test_a_client_repeats_its_range_there(overlay: Running) -> None:
    """What uv and a resuming pip do."""
    path = await wheel_path(overlay)
    async with overlay.session.get(overlay.url + path, headers={"Range": "bytes=1000-1999"}) as response:
        assert (response.status, await response.read()) == (206, WHEEL.body[1000:2000])
        assert response.history


async def test_head_and_sidecar_and_a_known_tag_are_answered_here(overlay: Running) -> None:
    """A signed URL answers no HEAD; a sidecar is not worth a second request; nothing need be sent again."""
    path = await wheel_path(overlay)
    async with overlay.session.head(overlay.url + path, allow_redirects=False) as response:
        assert response.status == 200
        assert response.headers["Accept-Ranges"] == "bytes"
        assert response.headers["Content-Length"] == str(len(WHEEL.body))
    status, sidecar = await fetch(overlay, path + ".metadata")
    assert status == 200
    assert b"Name: demo" in sidecar
    assert (await fetch(overlay, path, If_None_Match=f'"{WHEEL.sha256}"'))[0] == 304


async def test_what_may_not_be_served_is_not_signed(overlay: Running) -> None:
    """The ledger decides before anything is signed."""
    path = await wheel_path(overlay)
    assert await withdraw(overlay, "demo", "1.0+cpu") == 200
    assert (await fetch(overlay, path))[0] == 404
    assert (await fetch(overlay, path.replace("demo-", "other-")))[0] == 404


async def test_pip_and_uv_get_the_very_bytes(overlay: Running, clients: Clients, tmp_path: Path) -> None:
    """Wheel and sdist, as the page's digests say."""
    only = "--no-binary", ":all:", "--no-build-isolation"
    runs = await asyncio.gather(
        clients.pip_download(overlay.simple, "demo==1.0+cpu", tmp_path / "pip", "--no-deps"),
        clients.pip_download(overlay.simple, "demo==1.0+cpu", tmp_path / "pip", "--no-deps", *only),
        clients.uv_pip_install(overlay.simple, "demo==1.0+cpu", tmp_path / "uv"),
    )
    for ran in runs:
        assert ran.code == 0, ran.output
    for built in (WHEEL, SDIST):
        assert (tmp_path / "pip" / built.filename).read_bytes() == built.body
    assert repr(bytes(range(256))).encode()[2:-1] in (tmp_path / "uv" / "demo.py").read_bytes()
