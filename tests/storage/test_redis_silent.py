"""What is asked over HTTP fails within a second also when Redis falls silent between two of its questions."""

import asyncio
import dataclasses
import hashlib
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from overlay.config.tables import LedgerConfig, ReadConfig, StoreConfig
from overlay.domain.names import MAIN
from overlay.storage.redis_layout import Keys
from tests.attempts import best_s
from tests.builders import wheel
from tests.fakes.index import ScriptedIndex
from tests.ledgers import answered
from tests.redis_proxy import Proxy, proxied
from tests.redis_servers import RedisServer
from tests.running import Running, basic, config_for, running
from tests.staged import DEMO

SILENT_S: Final = 1.0  # design §8
FIRST_S: Final = 0.5  # a slow answer, but one: the next question alone would be waited for 0.7 s
READY_S: Final = 60.0
NEW: Final = wheel("demo", "1.0")
HTML: Final = {"Accept": "text/html"}
JSON: Final = {"Accept": "application/vnd.pypi.simple.v1+json"}


async def status(overlay: Running, path: str, headers: Mapping[str, str]) -> int:
    async with overlay.session.get(overlay.url + path, headers=headers) as response:
        await response.read()
        return response.status


async def refused_in_s(
    overlay: Running, path: str, headers: Mapping[str, str], proxy: Proxy, server: RedisServer, first: bytes
) -> float:
    """Ask; the answer to the first question, which has these bytes in it, comes late, and none after that."""
    proxy.held.clear()
    proxy.released.clear()
    proxy.hold = first
    began_s = time.monotonic()
    asking = asyncio.ensure_future(status(overlay, path, headers))
    async with asyncio.timeout(READY_S):
        await proxy.held.wait()
    server.pause()
    asyncio.get_running_loop().call_later(FIRST_S, proxy.released.set)
    assert await asking == 503
    return time.monotonic() - began_s


@pytest.mark.parametrize(
    ("what", "is_open"), [("page", True), ("page", False), ("file", False)], ids=["page", "closed-page", "closed-file"]
)
async def test_a_redis_that_is_slow_and_then_silent_is_waited_for_once(
    own_redis: RedisServer,
    s3_store: StoreConfig,
    tmp_path: Path,
    what: str,
    *,
    is_open: bool,
) -> None:
    """A page asks for the revisions before it asks for the files; where reading is closed, for the token before."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(own_redis.port))
        index = await stack.enter_async_context(ScriptedIndex())
        index.add(wheel("demo", "0.9"))
        config = config_for(tmp_path, index.simple_url)
        ledger = LedgerConfig(kind="redis", url=proxy.url, prefix="silent")
        config = dataclasses.replace(config, store=s3_store, ledger=ledger, read=ReadConfig(open=is_open))
        overlay = await stack.enter_async_context(running(config))
        await overlay.probed(200)
        async with asyncio.timeout(READY_S):
            while (await overlay.upload(NEW)).status != 200:
                await asyncio.sleep(0.05)
        token = await answered(lambda: overlay.token("read"))
        known = {} if is_open else basic(token)
        (upload,) = (file.upload_id for file in (await answered(overlay.wired.services.ledger.index)).files)
        path = "/simple/demo/" if what == "page" else f"/files/demo/{upload}/{NEW.filename}"
        revision = Keys("silent").revision(MAIN, DEMO).encode()
        first = revision if is_open else hashlib.sha256(token.encode()).hexdigest().encode()

        async def attempt() -> float:
            async with asyncio.timeout(READY_S):
                while await status(overlay, "/simple/demo/", {**known, **JSON}) != 200:
                    await asyncio.sleep(0.05)
            took_s = await refused_in_s(overlay, path, {**known, **HTML}, proxy, own_redis, first)
            own_redis.resume()
            return took_s

        assert await best_s(attempt, limit_s=SILENT_S) < SILENT_S
