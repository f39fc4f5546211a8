"""The primary is found again when it, or whoever knows it, vanishes without a word."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from redis.exceptions import MovedError

from overlay.domain.errors import InvalidConfig, LedgerUnavailable
from overlay.domain.names import MAIN
from overlay.storage.redis_connections import RedisConnections
from overlay.storage.redis_layout import Keys
from overlay.storage.redis_sockets import Reply
from tests.ledgers import answered, open_ledger
from tests.ports import HOST, free_port
from tests.redis_servers import SERVICE, RedisServer, cluster, cluster_url, replicated, running, valkey_binary
from tests.staged import DEMO, staged_file, token

PREFIX: Final = "found"
PATIENCE_S: Final = 1.0
# Where the first failure must not be one of the machine: each who is asked for the primary has a third of it.
LONGER_S: Final = 3.0
LONG_S: Final = 30
CONNECTIONS: Final = 32


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


async def test_a_node_that_is_alone_is_not_asked_for_ever(valkey_cluster: list[RedisServer], tmp_path: Path) -> None:
    """It answers, but has no slots and knows nobody who has: the others are asked after one failure."""
    alone = RedisServer(valkey_binary(), tmp_path, ["--cluster-enabled", "yes", "--cluster-port", str(free_port())])
    with running(alone):
        async with open_ledger(cluster_url([alone, *valkey_cluster]), prefix="alone") as ledger:
            with pytest.raises(LedgerUnavailable) as caught:
                await ledger.state()
            assert "it answered CLUSTERDOWN" in caught.value.why
            await ledger.load((), ())


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_a_node_that_names_a_dead_one_is_not_asked_for_ever(
    valkey_cluster: list[RedisServer], tmp_path: Path, fault: str
) -> None:
    """Parted from the majority it knows of no successor, and goes on answering."""
    with cluster(valkey_binary(), tmp_path, nodes=2) as servers:
        (holder,) = (server for server in servers if _has(server, Keys(PREFIX).ready))
        (parted,) = (server for server in servers if server is not holder)
        (holder.kill if fault == "kill" else holder.pause)()
        url = cluster_url([parted, *valkey_cluster])
        async with open_ledger(url, prefix=PREFIX, patience_s=LONGER_S) as ledger:
            with pytest.raises(LedgerUnavailable):
                await ledger.state()
            await ledger.state()  # one failure is enough, also after it was sent elsewhere
            await answered(lambda: ledger.load((), ()))


def _has(server: RedisServer, key: str) -> bool:
    try:
        server.call("EXISTS", key)
    except MovedError:
        return False
    return True


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_a_sentinel_that_names_a_dead_primary_is_not_asked_for_ever(
    own_redis: RedisServer, tmp_path: Path, fault: str
) -> None:
    """Parted from the others it answers first and changes nothing; what it names refuses, or is silent."""
    with contextlib.ExitStack() as stack:
        dead = stack.enter_context(running(RedisServer(valkey_binary(), tmp_path)))
        sentinels = []
        for primary in (dead, own_redis):  # two would have to agree
            config = f"sentinel monitor {SERVICE} {HOST} {primary.port} 2\n"
            server = RedisServer(valkey_binary(), tmp_path, ["--sentinel"], config=config)
            sentinels.append(stack.enter_context(running(server)))
        (dead.kill if fault == "kill" else dead.pause)()
        url = f"redis+sentinel://{','.join(f'{HOST}:{server.port}' for server in sentinels)}/{SERVICE}"
        async with open_ledger(url, prefix=PREFIX, patience_s=LONGER_S) as ledger:
            with pytest.raises(LedgerUnavailable) as caught:
                await ledger.state()
            assert f"last found at {HOST}:{dead.port}" in caught.value.why
            await answered(lambda: ledger.load((), ()))


async def test_nodes_that_do_not_tell_their_host_are_found(valkey_cluster: list[RedisServer]) -> None:
    """They name the port only; the host is the one that was asked."""
    for server in valkey_cluster:
        server.call("CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint")
    try:
        for server in valkey_cluster:
            async with open_ledger(cluster_url([server]), prefix=PREFIX) as ledger:
                await ledger.load((), ())
    finally:
        for server in valkey_cluster:
            server.call("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


@contextlib.asynccontextmanager
async def _silent(number: int) -> AsyncIterator[str]:
    """Run servers that accept connections and answer nothing; the URL has them as nodes of a cluster."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(await asyncio.start_server(serve, HOST, 0)) for _ in range(number)]
        yield f"redis+cluster://{','.join(f'{HOST}:{one.sockets[0].getsockname()[1]}' for one in servers)}"


async def test_a_look_that_nobody_waits_for_ends_without_a_word() -> None:
    """Its caller was told already that it took too long; a traceback in the log tells nothing more."""
    said: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    async with _silent(4) as url, open_ledger(url, patience_s=0.2) as ledger:  # one more than fits the patience
        with pytest.raises(LedgerUnavailable) as caught:
            await ledger.state()
        assert "it did not answer in time" in caught.value.why
        search = ledger._link._connections._search
        assert search._looking is not None
        await asyncio.wait({search._looking})
        search._looking = None  # as the next look would
        del caught
        gc.collect()
    assert said == []


async def test_closing_ends_a_look() -> None:
    """Nothing of it is left when the caller goes on, and who waits for it is told what everybody is told."""
    async with _silent(1) as url, open_ledger(url) as ledger:
        asking = asyncio.ensure_future(ledger.state())
        search = ledger._link._connections._search
        while search._looking is None:
            await asyncio.sleep(0)
        await ledger._link.close()
        assert search._looking.done()
        with pytest.raises(LedgerUnavailable):
            await asking


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


async def test_who_waits_for_a_free_connection_does_not_cost_the_others_theirs(own_redis: RedisServer) -> None:
    """All are in use, and healthy: a Redis that is slow for many needs no storm of new ones."""
    async with open_ledger(own_redis.url, prefix=PREFIX) as ledger:
        connections = ledger._link._connections
        using = await _all_in_use(connections, own_redis)
        with pytest.raises(LedgerUnavailable, match="too many wait for the ledger's Redis") as caught:
            await connections.exchange([("PING",)], patience_s=0.05)
        assert f"all {CONNECTIONS} connections to it were in use" in caught.value.why
        own_redis.call("RPUSH", "line", *map(str, range(CONNECTIONS)))
        await asyncio.gather(*using)
        assert len(connections._idle) == CONNECTIONS


async def test_who_got_a_connection_late_says_nothing_of_the_server(own_redis: RedisServer) -> None:
    """It waited in line for most of its time; what was left may be too short for a server that is well."""
    async with open_ledger(own_redis.url, prefix=PREFIX) as ledger:
        connections = ledger._link._connections
        using = await _all_in_use(connections, own_redis)
        late = asyncio.ensure_future(connections.exchange([("BLPOP", "other", LONG_S)], patience_s=LONGER_S))
        await asyncio.sleep(LONGER_S * 3 / 4)
        own_redis.call("RPUSH", "line", *map(str, range(CONNECTIONS)))
        await asyncio.gather(*using)
        with pytest.raises(LedgerUnavailable, match="too many wait for the ledger's Redis"):
            await late
        assert len(connections._idle) == CONNECTIONS - 1  # its own: an answer might still come


async def _all_in_use(connections: RedisConnections, server: RedisServer) -> "list[asyncio.Task[list[Reply]]]":
    """Let every connection wait for what is pushed to `line`."""
    long = [("BLPOP", "line", LONG_S)]
    asked = (connections.exchange(long, patience_s=LONG_S) for _ in range(CONNECTIONS))
    using = [asyncio.get_running_loop().create_task(one) for one in asked]
    await asyncio.to_thread(server.wait_for, lambda: _blocked(server) == CONNECTIONS, "to hold them up")
    return using


def _blocked(server: RedisServer) -> int:
    return int(str(server.info("clients")["blocked_clients"]))


async def test_a_server_that_became_a_replica_is_left(own_redis: RedisServer) -> None:
    """By a worker that only reads, too: a replica answers it, with what was true a while ago."""
    async with open_ledger(own_redis.url, prefix=PREFIX) as ledger:
        await ledger.load((staged_file(),), ())
        assert await ledger.revisions(DEMO, (MAIN,))
        own_redis.call("REPLICAOF", HOST, str(free_port()))
        with pytest.raises(LedgerUnavailable) as noticed:
            await ledger.state()  # each worker asks for it twice a second
        for ask in (lambda: ledger.revisions(DEMO, (MAIN,)), ledger.check_server):
            with pytest.raises(LedgerUnavailable) as refused:
                await ask()
            assert refused.value.why == noticed.value.why
        assert "it is a replica, which answers what was true a while ago; let [ledger] url" in noticed.value.why
        own_redis.call("REPLICAOF", "NO", "ONE")
        assert (await ledger.index()).files == (staged_file(),)


async def test_a_single_server_may_keep_its_role_to_itself(own_redis: RedisServer) -> None:
    """It is the one that its operator named; some managed ones refuse the command."""
    own_redis.call("ACL", "SETUSER", "ann", "on", ">pw", "~*", "+@all", "-role", "-info")
    async with open_ledger(own_redis.url.replace("://", "://ann:pw@"), prefix=PREFIX) as ledger:
        await ledger.load((), ())
        assert (await ledger.state()).epoch


async def test_an_answer_that_waits_to_be_read_is_no_silence(own_redis: RedisServer) -> None:
    """A worker that got no processor for as long as its patience finds both at once: the answer counts."""
    async with open_ledger(own_redis.url, prefix=PREFIX) as ledger:
        connections = ledger._link._connections
        await connections.exchange([("PING",)], patience_s=LONG_S)
        for _ in range(5):
            asking = asyncio.ensure_future(connections.exchange([("PING",)], patience_s=0.1))
            await asyncio.sleep(0)  # the question is on its way
            time.sleep(0.2)
            assert await asking == [b"PONG"]
        assert len(connections._idle) == 1
