"""The primary is found again when it, or whoever knows it, vanishes without a word."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import pytest

from overlay.domain.errors import InvalidConfig, LedgerUnavailable
from overlay.storage.redis_layout import Keys
from tests.ledgers import open_ledger
from tests.redis_servers import HOST, RedisServer, cluster, cluster_url, replicated, valkey_binary
from tests.staged import staged_file, token

PREFIX: Final = "found"
PATIENCE_S: Final = 1.0
LIMIT_S: Final = 60.0
Answer = TypeVar("Answer")


async def answered(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask until it is answered, as those do whose requests fail."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            with contextlib.suppress(LedgerUnavailable):
                return await ask()
            await asyncio.sleep(0.05)


async def test_a_primary_that_hangs_is_left_for_its_successor(tmp_path: Path) -> None:
    """Its connections stay open, so silence is all there is to notice: a host that lost power is like that."""
    with replicated(valkey_binary(), tmp_path) as servers:
        async with open_ledger(servers.url, prefix=PREFIX, patience_s=PATIENCE_S) as ledger:
            await answered(lambda: ledger.load((staged_file(),), ()))
            servers.wait_for_offset()
            servers.primary.pause()
            servers.wait_for_promotion()
            assert (await answered(ledger.index)).files == (staged_file(),)
            await answered(lambda: ledger.put_token(token()))  # the new one is the primary
            servers.primary.kill()
            assert await answered(ledger.tokens) == (token(),)


async def test_a_node_of_a_cluster_that_hangs_leads_nowhere(tmp_path: Path) -> None:
    """Neither at the start, where the kernel accepts its connections, nor once it had the index."""
    with cluster(valkey_binary(), tmp_path) as servers:
        async with open_ledger(cluster_url(servers), prefix=PREFIX) as ledger:
            await ledger.load((), ())
        holder = next(server for server in servers if server.call("KEYS", "*"))
        first, second = (server for server in servers if server is not holder)
        for server in servers:  # one that hangs for long takes only its own slots with it
            server.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
        first.pause()
        async with open_ledger(cluster_url([first, holder, second]), prefix=PREFIX, patience_s=PATIENCE_S) as ledger:
            assert await answered(ledger.tokens) == ()
            first.resume()
            holder.pause()
            _take_over(first, second, slot_of=Keys(PREFIX).ready)
            assert (await answered(ledger.state)).epoch == ""


def _take_over(heir: RedisServer, other: RedisServer, *, slot_of: str) -> None:
    """Give a slot to another node, without what its present one has."""
    slot, heirs_id = heir.call("CLUSTER", "KEYSLOT", slot_of), heir.call("CLUSTER", "MYID")
    assert isinstance(heirs_id, bytes)
    for server in (heir, other):
        server.call("CLUSTER", "SETSLOT", str(slot), "NODE", heirs_id.decode())


async def test_keys_are_listed_by_the_node_that_has_them(valkey_cluster: list[RedisServer]) -> None:
    """Whichever is asked first: SCAN itself names no key, and any other node would answer that there are none."""
    async with open_ledger(cluster_url(valkey_cluster), prefix=PREFIX) as ledger:
        await ledger.load((staged_file(),), ())
    for server in valkey_cluster:
        async with open_ledger(cluster_url([server]), prefix=PREFIX) as ledger:
            assert Keys(PREFIX).ready in await ledger._link.keys(Keys(PREFIX).key("*"))


async def test_behind_sentinels_the_right_to_ask_for_the_role_is_needed(tmp_path: Path) -> None:
    """A replica would answer what was true a while ago; so the refusal is said, and nothing is asked."""
    with replicated(valkey_binary(), tmp_path) as servers:
        servers.primary.call("ACL", "SETUSER", "ann", "on", ">pw", "~*", "+@all", "-role")
        url = servers.url.replace("://", "://ann:pw@")
        async with open_ledger(url, prefix=PREFIX) as ledger:
            with pytest.raises(LedgerUnavailable) as caught:
                await ledger.load((), ())
            assert f"deploy/README.md lists (last found at {HOST}:{servers.primary.port})" in caught.value.why
            with pytest.raises(InvalidConfig, match=r"deploy/README\.md lists"):
                await ledger.check_server()
            servers.primary.call("ACL", "SETUSER", "ann", "+role")
            await ledger.check_server()
            await ledger.load((), ())
