"""A Redis that must not hold the index ends the process, also one that comes later."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Final

import pytest

from overlay.config.tables import LedgerConfig, StoreConfig
from overlay.domain.errors import InvalidConfig
from overlay.storage.redis_watch import CHECKED_EVERY, watch_server
from overlay.wiring.wired import wired
from tests.fakes.index import ScriptedIndex
from tests.ledgers import open_ledger
from tests.redis_servers import RedisServer, valkey_binary
from tests.running import config_for

PATIENCE_S: Final = 30.0  # a look that fails for a stall is not counted
SHORT_S: Final = 0.3
LIMIT_S: Final = 60.0
EVICTING: Final = "maxmemory-policy allkeys-lru"


class Enough(Exception):
    """The test has seen enough looks."""


async def looks(server: RedisServer, *happens: str, patience_s: float = PATIENCE_S) -> None:
    """Watch the server; after each look something happens to it."""
    left = iter(happens)

    async def wait(_seconds: float) -> None:
        what = next(left, None)
        if what is None:
            raise Enough
        if what == "restart":
            server.restart()
        elif what:
            server.call("CONFIG", "SET", "maxmemory-policy", what)

    async with open_ledger(server.url, patience_s=patience_s) as ledger:
        await watch_server(ledger, wait=wait)


async def test_one_that_is_fit_may_stay(own_redis: RedisServer) -> None:
    """Also when it is another one, or does not answer."""
    with pytest.raises(Enough):
        await looks(own_redis, "", "restart", "", "")
    own_redis.pause()
    with pytest.raises(Enough):
        await looks(own_redis, "", "", patience_s=SHORT_S)


async def test_one_that_evicts_is_refused_when_it_takes_over(tmp_path: Path) -> None:
    """It is the run id that tells."""
    server = RedisServer(valkey_binary(), tmp_path, config="maxmemory-policy allkeys-lru\n")
    server.start()
    try:
        server.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        with pytest.raises(InvalidConfig, match=EVICTING):
            await looks(server, "", "restart", *[""] * 20)
    finally:
        server.stop()


async def test_one_that_is_told_to_evict_is_refused_within_a_minute(own_redis: RedisServer) -> None:
    """It is the same server; what it was told while nobody looked is asked again."""
    with pytest.raises(Enough):
        await looks(own_redis, "allkeys-lru", *[""] * (CHECKED_EVERY - 2))
    own_redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    with pytest.raises(InvalidConfig, match=EVICTING):
        await looks(own_redis, "allkeys-lru", *[""] * (CHECKED_EVERY - 1))


async def test_one_that_evicts_and_comes_after_the_start_ends_the_process(
    s3_store: StoreConfig, tmp_path: Path
) -> None:
    """With the sentence that would have ended the start."""
    server = RedisServer(valkey_binary(), tmp_path, config="maxmemory-policy allkeys-lru\n")
    ledger = LedgerConfig(kind="redis", url=server.url, prefix=tmp_path.name)
    async with ScriptedIndex() as index:
        config = dataclasses.replace(config_for(tmp_path, index.simple_url), store=s3_store, ledger=ledger)
        async with wired(config) as made:
            assert not any(task.done() for task in made.watched)
            await asyncio.to_thread(server.start)
            try:
                done, _ = await asyncio.wait(made.watched, timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                server.stop()
            (ended,) = done
            assert isinstance(ended.exception(), InvalidConfig)
            assert EVICTING in str(ended.exception())
