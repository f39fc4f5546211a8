"""Freezes in Redis while Redis or the network misbehaves. What they do: tests/conformance."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Final

import pytest

from overlay.domain.errors import LedgerUnavailable
from overlay.domain.events import EventKind
from overlay.domain.promotion import Freeze, PromotionId
from overlay.storage.ledger_redis import RedisLedger
from overlay.storage.redis_layout import Keys
from tests.ledgers import NOW_US, LedgerClock, answered, open_ledger, stage
from tests.redis_proxy import Proxy, proxied
from tests.redis_servers import RedisServer, replicated, running, valkey_binary
from tests.staged import GIVEN_UP, freeze_of, staged_file

PREFIX: Final = "freezes"
FILE: Final = staged_file()
LEASE_US: Final = 60_000_000
FREEZE: Final = freeze_of(FILE, since_us=NOW_US, until_us=NOW_US + LEASE_US)
Change = Callable[[RedisLedger], Awaitable[object]]
CHANGES: Final[list[Change]] = [
    lambda ledger: ledger.freeze(FREEZE),
    lambda ledger: ledger.renew(FREEZE.promotion, fence=1, until_us=NOW_US + LEASE_US, durable=True),
    lambda ledger: ledger.renew(FREEZE.promotion, fence=1, until_us=0),
    lambda ledger: ledger.thaw(FREEZE.promotion, GIVEN_UP, unless_durable=True),
    lambda ledger: ledger.overtake(FREEZE.promotion),
    lambda ledger: ledger.thaw(FREEZE.promotion, GIVEN_UP),
]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a server that only this test uses, and may harm."""
    with running(RedisServer(valkey_binary(), tmp_path)) as server:
        yield server


@pytest.fixture
async def proxy(valkey_server: RedisServer) -> AsyncIterator[Proxy]:
    async with proxied(valkey_server.port) as made:
        yield made


async def test_a_lost_answer_is_asked_for_again(proxy: Proxy) -> None:
    """To each change of a freeze; it happened once, and is answered as the first time."""
    durable = replace(FREEZE, durable=True)
    ended = replace(durable, until_us=0)
    expected: list[Freeze | bool] = [FREEZE, durable, ended, False, True, True]
    held = (FREEZE, durable, ended, ended, ended)
    async with open_ledger(proxy.url) as ledger:
        await ledger.load((FILE,), ())
        for change, answer, freeze in zip_longest(CHANGES, expected, held):
            proxy.lose = FREEZE.promotion.encode()
            assert await change(ledger) == answer
            assert proxy.lose == b""
            # An overtaking that is repeated may count twice.
            freezes = [replace(one, fence=1) for one in await ledger.freezes()]
            assert freezes == ([] if freeze is None else [freeze])
        kinds = [event.kind for event in (await ledger.events(0)).events]
        assert kinds == [EventKind.PROMOTING, EventKind.ABANDONED]


async def test_a_takeover_whose_answer_was_lost_counts_once(proxy: Proxy) -> None:
    """Else the run that got it would take itself for one that was overtaken."""
    clock = LedgerClock()
    async with open_ledger(proxy.url, now_us=clock) as ledger:
        await ledger.load((FILE,), (), [replace(FREEZE, durable=True)])
        clock.now_us += LEASE_US
        proxy.lose = FREEZE.promotion.encode()
        taken = await ledger.freeze(replace(FREEZE, holder="another", until_us=clock.now_us + LEASE_US))
        assert proxy.lose == b""
        assert (taken.holder, taken.fence) == ("another", 2)
        assert [event.kind for event in (await ledger.events(0)).events] == [EventKind.RESUMED]


async def test_a_change_waits_for_replicas_although_it_is_a_repeat(tmp_path: Path) -> None:
    """What one Redis alone knows may be lost: whoever is told that a release is frozen may begin to push."""
    with replicated(valkey_binary(), tmp_path) as servers:
        async with open_ledger(servers.url, prefix=PREFIX, wait_replicas=1) as ledger:
            await answered(lambda: ledger.load((FILE,), ()))
            for change in CHANGES:
                await answered(partial(change, ledger))
            servers.replica.pause()  # connected, and without news of what comes now
            for change in CHANGES:
                for _ in range(2):
                    await ledger._link.close()
                    with pytest.raises(LedgerUnavailable, match="repeating is safe"):
                        await change(ledger)


async def test_full_memory_refuses_a_freeze_whole(own_server: RedisServer) -> None:
    """Nothing is half frozen; a thaw, which frees memory, still works."""
    async with open_ledger(own_server.url, prefix=PREFIX) as ledger:
        await ledger.load((FILE,), ())
        own_server.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(LedgerUnavailable):
            await ledger.freeze(FREEZE)
        own_server.call("CONFIG", "SET", "maxmemory", "0")
        assert _held(own_server) == [0, 0]
        await ledger.freeze(FREEZE)
        own_server.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(LedgerUnavailable):
            await ledger.renew(FREEZE.promotion, fence=1, until_us=NOW_US + 2 * LEASE_US)
        await ledger.thaw(FREEZE.promotion, GIVEN_UP)
        assert _held(own_server) == [0, 0]


async def test_freezes_that_lapsed_leave_nothing_behind(own_server: RedisServer) -> None:
    """The next freeze of whatever release takes them away; so does an upload that meets one."""
    clock, other = LedgerClock(), staged_file(2, project="other", filename="other-1.0.tar.gz")
    async with open_ledger(own_server.url, prefix=PREFIX, now_us=clock) as ledger:
        await ledger.load((FILE, other), ())
        await ledger.freeze(FREEZE)
        clock.now_us += LEASE_US
        until_us = clock.now_us + LEASE_US
        await ledger.freeze(freeze_of(other, promotion=PromotionId("2" * 32), since_us=clock.now_us, until_us=until_us))
        assert _held(own_server) == [1, 1]
        clock.now_us += LEASE_US
        await stage(ledger, staged_file(3, project="other", filename="other-1.0.zip"))
        assert _held(own_server) == [0, 0]


def _held(server: RedisServer) -> list[object]:
    return [server.call("HLEN", Keys(PREFIX).key(name)) for name in ("freezes", "frozen")]
