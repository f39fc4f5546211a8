"""The index in Redis is read in pieces, so that nobody waits for all of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import groupby
from typing import Final

import pytest

from overlay.domain.errors import LedgerUnavailable
from overlay.domain.ledger_port import Ending
from overlay.domain.names import MAIN, Serial
from overlay.domain.stage import Reason
from overlay.storage.ledger_redis import RedisLedger
from overlay.storage.redis_index import AT_ONCE
from overlay.storage.redis_layout import Keys, stored
from tests.ledgers import NOW_US, open_ledger, stage
from tests.redis_proxy import Proxy
from tests.redis_servers import RedisServer
from tests.seeding import FILES_OF_A_PROJECT, seeded_files
from tests.staged import digest, upload_of

COUNT: Final = 1_500
PREFIX: Final = "pieces"
FILES: Final = list(seeded_files(COUNT))


@pytest.fixture
async def ledger(proxy: Proxy) -> AsyncIterator[RedisLedger]:
    """Open a ledger with many files behind the proxy, which knows the scripts already."""
    async with open_ledger(proxy.url, prefix=PREFIX) as made:
        await made.load(FILES, ())
        await made.index()
        await made.latest(MAIN, most_projects=1, most_files=1)
        proxy.answered_bytes.clear()
        yield made


async def test_no_answer_has_more_than_some_hundred_files(ledger: RedisLedger, proxy: Proxy) -> None:
    """Whoever lists everything: Redis answers the pages of others after each piece."""
    most = 500 * max(map(len, map(stored, FILES)))
    assert len((await ledger.index()).files) == COUNT
    assert len(proxy.answered_bytes) == COUNT // AT_ONCE + 3  # the events before and after
    assert max(proxy.answered_bytes) < most
    proxy.answered_bytes.clear()
    latest = await ledger.latest(MAIN, most_projects=COUNT, most_files=FILES_OF_A_PROJECT)
    assert sum(len(one.files) for one in latest.projects) == COUNT
    assert len(proxy.answered_bytes) == COUNT // AT_ONCE + 2
    assert max(proxy.answered_bytes) < most


@pytest.mark.parametrize(("projects", "files"), [(1, FILES_OF_A_PROJECT), (COUNT, 1), (5, FILES_OF_A_PROJECT)])
async def test_the_latest_projects_cost_few_answers(
    ledger: RedisLedger, proxy: Proxy, projects: int, files: int
) -> None:
    """What is older is not looked at, and what has too many files is only counted."""
    latest = await ledger.latest(MAIN, most_projects=projects, most_files=files)
    assert latest.projects[0].project == FILES[-1].project
    assert len(proxy.answered_bytes) == 2


async def test_a_file_is_in_the_index_that_replaces_another_one_and_is_older(
    ledger: RedisLedger, proxy: Proxy, valkey_server: RedisServer
) -> None:
    """Its time is behind what was read already, as is a record's that a reconcile stages."""
    held = FILES[-1]
    new = replace(held, upload_id=upload_of(COUNT + 1), serial=Serial(COUNT + 1), staged_at_us=1, sha256=digest("new"))
    proxy.hold = FILES[AT_ONCE - 1].upload_id.encode()
    reading = asyncio.ensure_future(ledger.index())
    await proxy.held.wait()
    async with open_ledger(valkey_server.url, prefix=PREFIX) as other:
        await stage(other, new)
    proxy.released.set()
    files = (await reading).files
    assert new in files
    assert held not in files


async def test_an_index_begins_again_where_more_changes_than_is_told(
    ledger: RedisLedger, proxy: Proxy, valkey_server: RedisServer
) -> None:
    """The feed of events is cut."""
    proxy.hold = FILES[AT_ONCE - 1].upload_id.encode()
    reading = asyncio.ensure_future(ledger.index())
    await proxy.held.wait()
    leaving = FILES[:1100]
    async with open_ledger(valkey_server.url, prefix=PREFIX) as other:
        for project, files in groupby(leaving, key=lambda file: file.project):
            await other.forget(project, [file.upload_id for file in files], Ending(Reason.WITHDRAWN, NOW_US, "bob"))
    proxy.released.set()
    assert set((await reading).files) == set(FILES[1100:])


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
