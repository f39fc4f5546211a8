"""A cluster's slot is moved to another node while the index that it holds is in use."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from overlay.domain.errors import LedgerUnavailable
from overlay.storage.ledger_redis import RedisLedger
from overlay.storage.redis_layout import Keys
from tests.ledgers import NOW_US, open_ledger, stage
from tests.ports import HOST
from tests.redis_servers import RedisServer, cluster, cluster_url, valkey_binary
from tests.staged import staged_file, token

PREFIX: Final = "moving"
PATIENCE_S: Final = 0.3
FILE: Final = staged_file()


@dataclass(frozen=True)
class Move:
    """The slot of the index, on its way."""

    slot: str
    source: RedisServer
    heir: RedisServer

    def begin(self) -> None:
        """From now on the heir takes the slot's keys, and its present node sends there who asks for others."""
        self.heir.call("CLUSTER", "SETSLOT", self.slot, "IMPORTING", _id(self.source))
        self.source.call("CLUSTER", "SETSLOT", self.slot, "MIGRATING", _id(self.heir))

    def take(self, *keys: str) -> None:
        self.source.call("MIGRATE", HOST, str(self.heir.port), "", "0", "5000", "KEYS", *keys)

    def take_all(self) -> None:
        keys = self.source.call("CLUSTER", "GETKEYSINSLOT", self.slot, "1000")
        assert isinstance(keys, list)
        self.take(*[key.decode() for key in keys])

    def end(self) -> None:
        for server in (self.heir, self.source):
            server.call("CLUSTER", "SETSLOT", self.slot, "NODE", _id(self.heir))

    def answers(self, code: str) -> int:
        """Count the answers with this code, of both nodes."""
        found = [server.info("errorstats").get(f"errorstat_{code}") for server in (self.source, self.heir)]
        return sum(int(one["count"]) for one in found if isinstance(one, dict))


def _id(server: RedisServer) -> str:
    identity = server.call("CLUSTER", "MYID")
    assert isinstance(identity, bytes)
    return identity.decode()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[RedisServer]]:
    with cluster(valkey_binary(), tmp_path, nodes=2) as made:
        yield made


@pytest.fixture
async def ledger(servers: list[RedisServer]) -> AsyncIterator[RedisLedger]:
    """Open a ledger that was reconciled: no key that its state is read from is missing."""
    async with open_ledger(cluster_url(servers), prefix=PREFIX) as made:
        await made.load((FILE,), (token(),))
        async with made.lead() as lead:
            await lead.reconciled((await made.state()).server, NOW_US)
        yield made


@pytest.fixture
def move(servers: list[RedisServer], ledger: RedisLedger) -> Move:  # noqa: ARG001 - it makes the keys
    slot = servers[0].call("CLUSTER", "KEYSLOT", Keys(PREFIX).ready)
    (source,) = (server for server in servers if server.call("CLUSTER", "COUNTKEYSINSLOT", str(slot)))
    (heir,) = (server for server in servers if server is not source)
    return Move(str(slot), source, heir)


async def test_keys_that_have_moved_are_read_where_they_are(ledger: RedisLedger, move: Move) -> None:
    """By scripts the heir does not know yet, too; all commands of an exchange are sent there."""
    move.begin()
    move.take_all()
    assert (await ledger.index()).files == (FILE,)
    assert await ledger.tokens() == (token(),)
    assert (await ledger.state()).server == move.heir.info("server")["run_id"]
    assert move.answers("ASK") >= 3
    move.end()
    before = move.answers("ASK")
    assert (await ledger.index()).files == (FILE,)
    assert await ledger.tokens() == (token(),)
    assert move.answers("ASK") == before


async def test_a_request_waits_for_keys_that_are_parted(ledger: RedisLedger, move: Move) -> None:
    """Nodes refuse to answer half; as soon as the keys are together, the request is answered."""
    move.begin()
    move.take(Keys(PREFIX).ready)
    reading, writing = asyncio.ensure_future(ledger.index()), asyncio.ensure_future(ledger.put_token(token()))
    await asyncio.to_thread(move.source.wait_for, lambda: move.answers("TRYAGAIN") > 4, "to refuse")
    move.take_all()
    move.end()
    assert (await reading).files == (FILE,)
    await writing


async def test_a_move_that_takes_long_is_named(servers: list[RedisServer], move: Move) -> None:
    """The request ends with its patience; its operator reads why."""
    move.begin()
    move.take(Keys(PREFIX).ready)
    async with open_ledger(cluster_url(servers), prefix=PREFIX, patience_s=PATIENCE_S) as hasty:
        with pytest.raises(LedgerUnavailable) as caught:
            await hasty.tokens()
        assert "a cluster's slot is being moved" in caught.value.why


async def test_a_move_is_named_though_the_last_question_had_no_answer(servers: list[RedisServer], move: Move) -> None:
    """The request's time ends while it asks once more."""
    move.begin()
    move.take(Keys(PREFIX).ready)
    async with open_ledger(cluster_url(servers), prefix=PREFIX, patience_s=1.0) as hasty:
        asking = asyncio.ensure_future(hasty.tokens())
        await asyncio.to_thread(move.source.wait_for, lambda: move.answers("TRYAGAIN") > 0, "to refuse")
        move.source.pause()
        with pytest.raises(LedgerUnavailable) as caught:
            await asking
        move.source.resume()
        assert "a cluster's slot is being moved" in caught.value.why
        move.take_all()
        move.end()
        assert await hasty.tokens() == (token(),)


async def test_a_user_who_may_not_follow_the_keys_is_named(servers: list[RedisServer], move: Move) -> None:
    """Without that right the heir would send back to where the keys were, for as long as the move lasts."""
    for server in servers:
        server.call("ACL", "SETUSER", "ann", "on", ">pw", "~*", "+@all", "-asking")
    move.begin()
    move.take_all()
    async with open_ledger(cluster_url(servers).replace("://", "://ann:pw@"), prefix=PREFIX) as ledger:
        with pytest.raises(LedgerUnavailable) as caught:
            await ledger.tokens()
        assert "its user may not run all the commands that deploy/README.md lists" in caught.value.why


async def test_keys_are_not_listed_while_they_are_parted(ledger: RedisLedger, move: Move) -> None:
    """Either node would list only what it has."""
    pattern = Keys(PREFIX).key("*")
    before = set(await ledger._link.keys(pattern))
    move.begin()
    move.take(Keys(PREFIX).ready)
    listing = asyncio.ensure_future(ledger._link.keys(pattern))
    await asyncio.to_thread(move.source.wait_for, lambda: move.answers("TRYAGAIN") > 0, "to refuse")
    move.take_all()
    move.end()
    assert set(await listing) == before


async def test_an_upload_goes_on_after_the_move(ledger: RedisLedger, move: Move) -> None:
    """What it changes has keys that do not exist yet: it waits, then it is done once."""
    other = staged_file(2, filename="demo-2.0.tar.gz")
    epoch = (await ledger.state()).epoch
    move.begin()
    staging = asyncio.ensure_future(ledger.stage(other, replace=True, epoch=epoch))
    await asyncio.to_thread(move.source.wait_for, lambda: move.answers("TRYAGAIN") > 0, "to refuse")
    move.take_all()
    move.end()
    assert (await staging).ended is None
    assert (await ledger.index()).files == (FILE, other)
    assert len((await ledger.events(0)).events) == 1
    await stage(ledger, other)
