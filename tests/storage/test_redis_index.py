"""The index in Redis is read in pieces, so that nobody waits for all of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest

from overlay.domain.errors import LedgerUnavailable
from overlay.storage.ledger_redis import RedisLedger
from overlay.storage.redis_index import AT_ONCE
from overlay.storage.redis_layout import Keys, stored
from tests.ledgers import open_ledger
from tests.redis_proxy import Proxy
from tests.redis_servers import RedisServer
from tests.seeding import seeded_files

COUNT: Final = 1_500
PREFIX: Final = "pieces"
FILES: Final = list(seeded_files(COUNT))


@pytest.fixture
async def ledger(proxy: Proxy) -> AsyncIterator[RedisLedger]:
    """Open a ledger with many files behind the proxy, which knows the scripts already."""
    async with open_ledger(proxy.url, prefix=PREFIX) as made:
        await made.load(FILES, ())
        await made.index()
        await made.latest(1)
        proxy.answered_bytes.clear()
        yield made


async def test_no_answer_has_more_than_some_hundred_files(ledger: RedisLedger, proxy: Proxy) -> None:
    """Whoever lists everything: Redis answers the pages of others after each piece."""
    most = 500 * max(map(len, map(stored, FILES)))
    assert len((await ledger.index()).files) == COUNT
    assert len(proxy.answered_bytes) == COUNT // AT_ONCE + 1
    assert max(proxy.answered_bytes) < most
    assert len(await ledger.latest(COUNT)) == len({file.project for file in FILES})
    assert max(proxy.answered_bytes) < most


async def test_the_latest_projects_cost_few_answers(ledger: RedisLedger, proxy: Proxy) -> None:
    """What is older is not looked at."""
    assert await ledger.latest(1) == (FILES[-1].project,)
    assert len(proxy.answered_bytes) == 1


@pytest.mark.parametrize("loaded_again", [True, False])
async def test_an_index_of_two_lives_is_no_answer(
    ledger: RedisLedger, proxy: Proxy, valkey_server: RedisServer, *, loaded_again: bool
) -> None:
    """Lost between two pieces, and loaded again or not: the rest may lack what the first ones had."""
    proxy.hold = FILES[AT_ONCE - 1].upload_id.encode()
    reading = asyncio.ensure_future(ledger.index())
    await proxy.held.wait()
    valkey_server.call("DEL", Keys(PREFIX).ready)
    if loaded_again:
        async with open_ledger(valkey_server.url, prefix=PREFIX) as other:
            await other.load(FILES, ())
    proxy.released.set()
    with pytest.raises(LedgerUnavailable):
        await reading
