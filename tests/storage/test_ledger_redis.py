"""The ledger in Redis while Redis, the network or another worker misbehaves. What it holds: tests/conformance."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from overlay.domain.errors import FileExists, InvalidConfig, LeadLost, LedgerBusy, LedgerUnavailable
from overlay.domain.layout import record_key, token_key
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import MAIN, NOTHING_STAGED
from overlay.domain.records import Record, TokenDocument, encode
from overlay.domain.stage import Admitted, Reason, StagedFile
from overlay.services.upkeep import Duty, Upkeep
from overlay.storage.ledger_redis import RedisLedger
from overlay.storage.redis_layout import Keys
from overlay.storage.redis_lead import LEASE_MS
from overlay.storage.redis_link import PATIENCE_S, server_problems
from tests.attempts import best_s
from tests.fakes.documents import MemoryDocuments
from tests.ledgers import NOW_US, answered, entry, open_ledger, stage
from tests.ports import HOST, free_port
from tests.redis_proxy import Proxy, proxied
from tests.redis_servers import RedisServer, cluster_url, replicated, valkey_binary
from tests.staged import DEMO, claim_for, staged_file, token, upload_of

PREFIX: Final = "faults"
WITHDRAWN: Final = Ending(Reason.WITHDRAWN, NOW_US, "bob")
LIMIT_S: Final = 1.0  # design §8


@pytest.fixture
async def ledger(proxy: Proxy) -> AsyncIterator[RedisLedger]:
    """Open a loaded ledger behind the proxy; it has a connection already, as any but the first request finds."""
    async with open_ledger(proxy.url) as made:
        await made.load((), ())
        yield made


def upkeep_of(documents: MemoryDocuments, ledger: StageLedger) -> Upkeep:
    async def never(_seconds: float) -> None:
        raise AssertionError

    return Upkeep(documents, ledger, reconcile_s=3600, now_us=lambda: NOW_US, wait=never)


def recorded(*files: StagedFile) -> MemoryDocuments:
    documents = MemoryDocuments()
    for file in files:
        record = Record(file=file, form=(), attestations=None)
        documents.held[record_key(file.project, file.upload_id)] = encode(record)
    return documents


# Lost answers


async def test_a_lost_answer_to_stage_is_asked_for_again(ledger: RedisLedger, proxy: Proxy) -> None:
    """The caller gets the answer of the first time, and the change happened once."""
    old, new = staged_file(1), staged_file(2, content="other")
    await stage(ledger, old)
    proxy.lose = new.upload_id.encode()
    staged = await stage(ledger, new)
    assert staged.ended is not None
    assert staged.ended.file == old
    assert proxy.lose == b""
    assert len((await ledger.events(0)).events) == 3


async def test_a_lost_refusal_is_asked_for_again(ledger: RedisLedger, proxy: Proxy) -> None:
    """It ended the upload, and the second answer is the first one's."""
    held, refused = staged_file(1), staged_file(2, content="other")
    await stage(ledger, held)
    proxy.lose = refused.upload_id.encode()
    with pytest.raises(FileExists) as answer:
        await stage(ledger, refused, replace=False)
    assert answer.value.held_sha256 == held.sha256
    assert proxy.lose == b""
    assert len((await ledger.events(0)).events) == 1


async def test_a_lost_answer_to_forget_is_asked_for_again(ledger: RedisLedger, proxy: Proxy) -> None:
    """Whoever withdrew learns what ended."""
    file = staged_file()
    await stage(ledger, file)
    proxy.lose = b"withdrawn"
    assert [gone.file for gone in await ledger.forget(DEMO, [file.upload_id], WITHDRAWN)] == [file]
    assert proxy.lose == b""
    assert len((await ledger.events(0)).events) == 2


async def test_a_lost_answer_on_a_new_connection_is_unknown(valkey_server: RedisServer) -> None:
    """It may have happened: the caller is told that it is unknown, and may repeat it."""
    async with proxied(valkey_server.port) as proxy, open_ledger(valkey_server.url, prefix="lost-once") as other:
        await other.load((), ())
        epoch = (await other.state()).epoch
        async with open_ledger(proxy.url, prefix="lost-once") as ledger:
            proxy.lose = upload_of(1).encode()
            with pytest.raises(LedgerUnavailable):
                await ledger.stage(staged_file(), replace=True, epoch=epoch)
            assert await entry(other, upload_of(1)) == staged_file()
            assert (await ledger.stage(staged_file(), replace=True, epoch=epoch)).ended is None


async def test_a_lost_answer_during_a_load_does_not_load_twice(ledger: RedisLedger, proxy: Proxy) -> None:
    """A step that is repeated counts no byte twice."""
    files = [staged_file(number, filename=f"demo-{number}.tar.gz") for number in range(1, 500)]
    await ledger.load(files, ())  # so that Redis knows the scripts
    proxy.lose = upload_of(7).encode()
    await ledger.load(files, ())
    assert proxy.lose == b""
    totals = await ledger.totals()
    assert (totals.files, totals.size_bytes) == (499, 499 * staged_file().size_bytes)
    assert await ledger.bytes_staged_by(staged_file().token_id) == totals.size_bytes


async def test_many_uploads_are_looked_up_in_few_round_trips(ledger: RedisLedger, proxy: Proxy) -> None:
    """A project may have thousands of records, and its reconcile asks for all of them."""
    files = [staged_file(number, filename=f"demo-{number}.tar.gz") for number in range(1, 251)]
    await ledger.load(files, ())
    assert await entry(ledger, upload_of(1)) == files[0]  # so that Redis knows the script
    before = proxy.count(b"EVALSHA")
    assert await ledger.entries(DEMO, [file.upload_id for file in files]) == tuple(files)
    assert proxy.count(b"EVALSHA") == before + 3


# Coalesced reads


async def test_reads_of_one_turn_are_one_round_trip(ledger: RedisLedger, proxy: Proxy) -> None:
    """Fifty pages at once ask Redis once, and each gets what is its own."""
    await stage(ledger, staged_file(1))
    await stage(ledger, staged_file(2, project="other", filename="other-1.0.tar.gz"))
    before = proxy.count(b"MGET")
    projects = [DEMO, staged_file(2, project="other").project, staged_file(3, project="absent").project] * 17
    answers = await asyncio.gather(*(ledger.revisions(project, (MAIN,)) for project in projects))
    assert proxy.count(b"MGET") == before + 1
    assert answers[2] == (NOTHING_STAGED,)
    assert len(set(answers)) == 3
    assert answers[:3] * 17 == answers


async def test_a_read_is_never_answered_by_a_batch_that_was_sent_before_it(
    ledger: RedisLedger, proxy: Proxy, valkey_server: RedisServer
) -> None:
    """Strict read-your-writes: an upload that was answered meanwhile is seen by every later read."""
    prefix = ledger._keys.prefix
    proxy.hold = b"MGET"
    early = asyncio.ensure_future(ledger.revisions(DEMO, (MAIN,)))
    await proxy.held.wait()
    async with open_ledger(valkey_server.url, prefix=prefix) as other:
        await stage(other, staged_file())
        (now,) = await other.revisions(DEMO, (MAIN,))
    late = await ledger.revisions(DEMO, (MAIN,))
    assert late == (now,)
    proxy.released.set()
    assert await early == (NOTHING_STAGED,)


async def test_a_reader_that_hangs_up_disturbs_no_other(ledger: RedisLedger, proxy: Proxy) -> None:
    """Neither those of its batch, nor those that use its connection later."""
    await stage(ledger, staged_file())
    proxy.hold = b"MGET"
    leaving, staying = (asyncio.ensure_future(ledger.revisions(DEMO, (MAIN,))) for _ in range(2))
    await proxy.held.wait()
    leaving.cancel()
    proxy.released.set()
    assert await staying != (NOTHING_STAGED,)
    proxy.held.clear()
    proxy.released.clear()
    proxy.hold = upload_of(1).encode()
    asking = asyncio.ensure_future(entry(ledger, upload_of(1)))
    await proxy.held.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    proxy.released.set()
    assert await ledger.token("0" * 64) is None
    assert (await ledger.totals()).size_bytes == staged_file().size_bytes


async def test_closing_leaves_no_connection_open(ledger: RedisLedger, proxy: Proxy) -> None:
    """Nor does the connection of a request that was under way come back, as after a primary moved."""
    proxy.hold = b"MGET"
    asking = asyncio.ensure_future(ledger.revisions(DEMO, (MAIN,)))
    await proxy.held.wait()
    await ledger._link.close()
    proxy.released.set()
    assert await asking == (NOTHING_STAGED,)
    assert ledger._link._connections._idle == []


# Redis is gone


def _asked_by_a_page(ledger: StageLedger) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: ledger.revisions(DEMO, (MAIN,)),
        lambda: ledger.snapshot(DEMO, (MAIN,)),
        lambda: entry(ledger, upload_of(1)),
        lambda: ledger.token("0" * 64),
        lambda: ledger.spend("t1", per_minute=1),
        lambda: ledger.admit(claim_for(staged_file())),
        lambda: ledger.stage(staged_file(), replace=True, epoch=""),
        ledger.state,
    ]


async def _refused_in_s(ledger: StageLedger) -> float:
    """Say how long it takes; also all at once, more of them than there are connections."""
    asked = _asked_by_a_page(ledger) * 6
    began = time.monotonic()
    answers = await asyncio.gather(*(ask() for ask in asked), return_exceptions=True)
    took_s = time.monotonic() - began
    assert {type(answer) for answer in answers} == {LedgerUnavailable}
    return took_s


async def _refused_by_a_server_that_is_gone(server: RedisServer, fault: str, *, warm: bool) -> float:
    async with open_ledger(server.url, prefix=PREFIX) as patient:
        await patient.load((staged_file(),), ())
    async with open_ledger(server.url, prefix=PREFIX, patience_s=PATIENCE_S) as ledger:
        if warm:
            await answered(ledger.state)
        (server.kill if fault == "kill" else server.pause)()
        took_s = await _refused_in_s(ledger)
        (server.start if fault == "kill" else server.resume)()
        if fault == "kill":
            assert (await answered(ledger.state)).epoch == ""  # it forgot everything, and is not trusted
        else:
            assert await answered(lambda: entry(ledger, upload_of(1))) == staged_file()
            assert await answered(lambda: ledger.token("0" * 64)) is None
    return took_s


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_a_page_fails_within_a_second_when_redis_is_gone(
    own_redis: RedisServer, fault: str, *, warm: bool
) -> None:
    """Refusing connections or hanging, over old connections and new ones; afterwards all is as before."""
    attempt = partial(_refused_by_a_server_that_is_gone, own_redis, fault, warm=warm)
    assert await best_s(attempt, limit_s=LIMIT_S) < LIMIT_S


async def test_a_cluster_or_sentinels_that_are_gone_fail_within_a_second_too() -> None:
    """Several addresses are tried, within the same second."""
    hosts = ",".join(f"{HOST}:{free_port()}" for _ in range(3))
    for url in (f"redis+cluster://{hosts}", f"redis+sentinel://{hosts}/main"):
        async with open_ledger(url, patience_s=PATIENCE_S) as ledger:
            assert await best_s(partial(_refused_in_s, ledger), limit_s=LIMIT_S) < LIMIT_S


async def test_a_flushed_redis_is_rebuilt_by_one_of_two_workers(own_redis: RedisServer) -> None:
    """Until then nothing is answered; then all is there again."""
    file, one = staged_file(), token()
    documents = recorded(file)
    documents.held[token_key(one.id)] = encode(TokenDocument(token=one))
    async with open_ledger(own_redis.url, prefix=PREFIX) as here, open_ledger(own_redis.url, prefix=PREFIX) as there:
        workers = upkeep_of(documents, here), upkeep_of(documents, there)
        assert sorted(duty.name for duty in await asyncio.gather(*(w.look() for w in workers))) == [
            "NOTHING",
            "REBUILD",
        ]
        own_redis.call("FLUSHALL")
        for ask in _asked_by_a_page(here)[:-1]:
            with pytest.raises(LedgerUnavailable):
                await ask()
        assert sorted(duty.name for duty in await asyncio.gather(*(w.look() for w in workers))) == [
            "NOTHING",
            "REBUILD",
        ]
        assert [await worker.look() for worker in workers] == [Duty.RECONCILE, Duty.NOTHING]
        assert [await worker.look() for worker in workers] == [Duty.NOTHING, Duty.NOTHING]
        for ledger in (here, there):
            assert (await ledger.index()).files == (file,)
            assert await ledger.token(one.sha256) == one


async def test_a_lead_is_renewed_while_its_holder_lives(own_redis: RedisServer) -> None:
    """Here it had a minute left; each renewal gives it a few seconds, and the end of it gives it back."""
    lease = Keys(PREFIX).key("lease")
    async with open_ledger(own_redis.url, prefix=PREFIX) as ledger, ledger.lead():
        own_redis.call("PEXPIRE", lease, "60000")
        await asyncio.to_thread(own_redis.wait_for, lambda: _left_ms(own_redis) <= LEASE_MS, "to renew the lease")
        assert _left_ms(own_redis) > 0
    assert own_redis.call("EXISTS", lease) == 0


async def test_a_lead_whose_holder_died_goes_to_the_next(own_redis: RedisServer) -> None:
    """Nobody gives its lease back; it ends by itself, soon, and until then nobody has another one."""
    async with contextlib.AsyncExitStack() as stack:
        heir = await stack.enter_async_context(open_ledger(own_redis.url, prefix=PREFIX))
        async with proxied(own_redis.port) as network:
            holder = await stack.enter_async_context(open_ledger(network.url, prefix=PREFIX))
            await stack.enter_async_context(holder.lead())
        with pytest.raises(LedgerBusy):
            await heir.load((), ())
        assert 0 < _left_ms(own_redis) <= LEASE_MS
        await asyncio.to_thread(own_redis.wait_for, lambda: _left_ms(own_redis) < 0, "to end the lease")
        await heir.load((staged_file(),), ())
        assert (await heir.index()).files == (staged_file(),)


def _left_ms(server: RedisServer) -> int:
    left_ms = server.call("PTTL", Keys(PREFIX).key("lease"))
    assert isinstance(left_ms, int)
    return left_ms


async def test_serials_go_on_after_a_rebuild(valkey_server: RedisServer) -> None:
    """An upload that was admitted before it, and is staged after it, is not overtaken by an older one."""
    async with open_ledger(valkey_server.url) as ledger:
        await ledger.load((), ())
        before = await ledger.admit(claim_for(staged_file()))
        await ledger.load((), ())
        after = await ledger.admit(claim_for(staged_file()))
    assert isinstance(before, Admitted)
    assert isinstance(after, Admitted)
    assert after.serial > before.serial


async def test_workers_share_what_a_token_may_spend(valkey_server: RedisServer) -> None:
    """Whichever of them it asks; and what was spent is forgotten in Redis, too, by itself."""
    async with open_ledger(valkey_server.url, prefix="spent") as here:
        await here.load((), ())
        async with open_ledger(valkey_server.url, prefix="spent") as there:
            assert await here.spend("a", per_minute=2) == 0.0
            assert await there.spend("a", per_minute=2) == 0.0
            assert await here.spend("a", per_minute=2) == 30.0
            assert await there.spend("a", per_minute=2) == 30.0
    left_s = valkey_server.call("TTL", Keys("spent").spent("a"))
    assert isinstance(left_s, int)
    assert 60 < left_s <= 600


class Interrupted(list[StagedFile]):
    """Files of which the 300th, when a load comes to it, brings something about."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__(staged_file(number, filename=f"demo-{number}.tar.gz") for number in range(1, 500))
        self._happens = happens

    def __iter__(self) -> Iterator[StagedFile]:
        for number, file in enumerate(super().__iter__()):
            if number == 300:
                self._happens()
            yield file


@pytest.mark.parametrize(
    "command",
    [
        ("DEL", Keys(PREFIX).key("lease")),
        ("SET", Keys(PREFIX).key("lease"), "another's token"),
        ("DECR", Keys(PREFIX).key("steps")),
        ("FLUSHALL",),
    ],
    ids=["lapsed", "taken", "a replica without the last step", "flushed"],
)
async def test_a_load_that_loses_the_lead_stops(own_redis: RedisServer, command: tuple[str, ...]) -> None:
    """Half a load never becomes ready, whoever goes on."""
    async with open_ledger(own_redis.url, prefix=PREFIX) as ledger:
        await ledger.load((), ())
        files = Interrupted(lambda: own_redis.call(*command))
        with pytest.raises(LeadLost):
            await ledger.load(files, ())
        assert (await ledger.state()).epoch == ""
        own_redis.call("DEL", Keys(PREFIX).key("lease"))
        await ledger.load((staged_file(),), ())
        assert (await ledger.index()).files == (staged_file(),)


async def test_full_memory_refuses_a_change_whole(own_redis: RedisServer) -> None:
    """Nothing is half staged; withdrawing, which frees memory, still works."""
    file = staged_file()
    async with open_ledger(own_redis.url, prefix=PREFIX) as ledger:
        await ledger.load((file,), ())
        await stage(ledger, file)
        (before,) = await ledger.snapshot(DEMO, (MAIN,))
        own_redis.call("CONFIG", "SET", "maxmemory", "1")
        for ask in (
            lambda: stage(ledger, staged_file(2, content="other")),
            lambda: ledger.admit(claim_for(staged_file(2, content="other"))),
            lambda: ledger.put_token(token()),
            lambda: ledger.spend("t1", per_minute=1),
        ):
            with pytest.raises(LedgerUnavailable):
                await ask()
        assert await ledger.snapshot(DEMO, (MAIN,)) == (before,)
        assert [gone.file for gone in await ledger.forget(DEMO, [file.upload_id], WITHDRAWN)] == [file]
        assert (await ledger.totals()).size_bytes == 0


@pytest.mark.parametrize("server", ["valkey_server", "redis_server"])
async def test_events_after_any_number_are_none_or_some(server: str, request: pytest.FixtureRequest) -> None:
    """Also after one that nobody ever gave, however great: it comes from a URL."""
    asked: RedisServer = request.getfixturevalue(server)
    async with open_ledger(asked.url) as ledger:
        await ledger.load((), ())
        await stage(ledger, staged_file())
        for after, events in ((-(10**17), 1), (0, 1), (1, 0), (10**15, 0), (10**17, 0), (10**400, 0)):
            assert len((await ledger.events(after)).events) == events


# What is refused at the start


async def test_a_redis_that_may_evict_is_refused(own_redis: RedisServer) -> None:
    """The sentence says what to set."""
    async with open_ledger(own_redis.url) as ledger:
        await ledger.check_server()
        own_redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        with pytest.raises(InvalidConfig, match="maxmemory-policy allkeys-lru"):
            await ledger.check_server()


@pytest.mark.parametrize(
    ("version", "refused"), [("6.0.16", True), ("6.2.0", False), ("7.0.15", False), ("10.0.1", False), ("", False)]
)
def test_a_redis_that_is_too_old_is_refused(version: str, *, refused: bool) -> None:
    """Scripts need nothing newer than 6.2."""
    assert bool(server_problems({"redis_version": version, "maxmemory_policy": "noeviction"})) is refused


async def test_a_redis_that_tells_nothing_is_taken_with_a_warning(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Managed servers refuse CONFIG and some refuse INFO; the ledger needs neither."""
    own_redis.call("ACL", "SETUSER", "managed", "on", ">pw", "~*", "+@all", "-info", "-config")
    async with open_ledger(f"redis://managed:pw@{HOST}:{own_redis.port}") as ledger:
        with caplog.at_level(logging.WARNING):
            await ledger.check_server()
        assert "noeviction" in caplog.text
        await ledger.load((staged_file(),), ())
        assert (await ledger.state()).server == ""
        assert (await ledger.index()).files == (staged_file(),)


async def test_a_wrong_password_is_a_wrong_configuration(own_redis: RedisServer) -> None:
    """And it is not quoted."""
    async with open_ledger(f"redis://nobody:s3cret@{HOST}:{own_redis.port}") as ledger:
        with pytest.raises(InvalidConfig, match="user name or password") as refused:
            await ledger.check_server()
    assert "s3cret" not in str(refused.value)


# Replicas, Sentinels, clusters


async def test_too_few_replicas_make_the_outcome_unknown(valkey_server: RedisServer) -> None:
    """Also for a repeat, which changes nothing: what it acknowledges is not on a replica either."""
    async with open_ledger(valkey_server.url, prefix="no-replica") as plain:
        await plain.load((), ())
        async with open_ledger(valkey_server.url, prefix="no-replica", wait_replicas=1) as ledger:
            for _ in range(2):
                with pytest.raises(LedgerUnavailable, match="repeating is safe"):
                    await stage(ledger, staged_file())
            with pytest.raises(LedgerUnavailable, match="repeating is safe"):
                await ledger.admit(claim_for(staged_file(2)))  # the same bytes: already staged
            for _ in range(2):
                with pytest.raises(LedgerUnavailable, match="repeating is safe"):
                    await ledger.forget(DEMO, [upload_of(1)], WITHDRAWN)
            for _ in range(2):
                with pytest.raises(LedgerUnavailable, match="repeating is safe"):
                    await ledger.drop_token("0" * 16)
            assert await ledger.revisions(DEMO, (MAIN,)) == (NOTHING_STAGED,)  # reading waits for nobody
            assert await ledger.spend("t1", per_minute=1) == 0.0  # nor does what may be lost


async def test_a_repeat_waits_for_replicas_although_it_changes_nothing(tmp_path: Path) -> None:
    """WAIT counts replicas that have the connection's own last write, and a repeat comes over another connection."""
    one, two = staged_file(1), staged_file(2, filename="demo-2.0.tar.gz")
    changes: list[Callable[[RedisLedger], Awaitable[object]]] = [
        lambda ledger: stage(ledger, one),
        lambda ledger: ledger.admit(claim_for(one)),
        lambda ledger: ledger.forget(DEMO, [two.upload_id], WITHDRAWN),
        lambda ledger: ledger.put_token(token()),
        lambda ledger: ledger.drop_token("0" * 16),
    ]
    with replicated(valkey_binary(), tmp_path) as servers:
        async with open_ledger(servers.url, prefix=PREFIX, wait_replicas=1) as ledger:
            await answered(lambda: ledger.load((one, two), ()))
            for change in changes:
                await answered(partial(change, ledger))
            servers.replica.pause()  # connected, and without news of what comes now
            for change in changes:
                await ledger._link.close()
                with pytest.raises(LedgerUnavailable, match="repeating is safe"):
                    await change(ledger)


async def test_what_a_failover_lost_is_healed(tmp_path: Path) -> None:
    """The new primary is found; the first worker that sees it brings back uploads, and ends revoked tokens again."""
    kept, lost, revoked = staged_file(1), staged_file(2, filename="demo-2.0.tar.gz"), token()
    documents = recorded(kept, lost)
    with replicated(valkey_binary(), tmp_path) as servers:
        first_sentinel_is_gone = servers.url.replace("://", f"://{HOST}:{free_port()},")
        async with open_ledger(first_sentinel_is_gone, prefix=PREFIX) as ledger:
            worker = upkeep_of(documents, ledger)
            await ledger.load((kept,), (revoked,))
            async with ledger.lead() as lead:
                await lead.reconciled((await ledger.state()).server, NOW_US)
            servers.wait_for_offset()
            servers.cut()
            await stage(ledger, lost)
            await ledger.drop_token(revoked.id)
            assert await worker.look() is Duty.NOTHING
            servers.primary.kill()
            servers.wait_for_promotion()
            assert (await ledger.index()).files == (kept,)
            assert await ledger.tokens() == (revoked,)
            assert await worker.look() is Duty.RECONCILE
            assert (await ledger.index()).files == (kept, lost)
            assert await ledger.tokens() == ()
            assert await worker.look() is Duty.NOTHING


async def test_a_replica_that_a_sentinel_takes_for_the_primary_is_not_asked(own_redis: RedisServer) -> None:
    """After a failover Sentinels may be late: a replica would answer what was true a while ago."""

    async def late(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = str(own_redis.port).encode()
        writer.write(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port))
        writer.close()

    sentinel = await asyncio.start_server(late, HOST, 0)
    url = f"redis+sentinel://{HOST}:{sentinel.sockets[0].getsockname()[1]}/main"
    async with sentinel, open_ledger(url) as ledger:
        await ledger.load((), ())
        await ledger._link.close()
        own_redis.call("REPLICAOF", HOST, str(free_port()))
        with pytest.raises(LedgerUnavailable):
            await ledger.revisions(DEMO, (MAIN,))


async def test_any_node_of_a_cluster_leads_to_the_one_that_holds_the_index(valkey_cluster: list[RedisServer]) -> None:
    """Every node as the only seed, and with one before it that is gone."""
    for server in valkey_cluster:
        for url in (cluster_url([server]), f"redis+cluster://{HOST}:{free_port()},{HOST}:{server.port}"):
            async with open_ledger(url, prefix="seeds") as ledger:
                await ledger.load((staged_file(),), ())
                assert (await ledger.index()).files == (staged_file(),)
    holders = [server for server in valkey_cluster if server.call("KEYS", f"*{Keys('seeds').key('')}*")]
    assert len(holders) == 1
