"""The user that deploy/README.md describes may do what the ledger does, and nothing else."""

import re
from pathlib import Path
from typing import Final

import pytest
import redis

from overlay.domain.errors import LedgerUnavailable
from overlay.domain.ledger_port import Ending
from overlay.domain.names import MAIN
from overlay.domain.stage import Reason
from tests.ledgers import NOW_US, answered, open_ledger, stage
from tests.ports import HOST
from tests.redis_servers import RedisServer, redis_binary, replicated, running, valkey_binary
from tests.staged import DEMO, claim_for, staged_file, token

ROOT: Final = Path(__file__).parents[2]
STORAGE: Final = ROOT / "overlay" / "storage"
LINE: Final = re.search(r"^user overlay on (.*)$", (ROOT / "deploy" / "README.md").read_text(), re.MULTILINE)
PREFIX: Final = "default"


def rights() -> list[str]:
    """Return the line's rules, with a password."""
    assert LINE is not None
    return LINE[1].replace(">PASSWORD", ">pw").split()


def test_the_line_names_what_is_sent_and_what_scripts_call() -> None:
    """No command is missing, none is left over. SELECT is the client library's, as is AUTH, which nobody may refuse."""
    sources = {path.name: path.read_text() for path in STORAGE.glob("redis_*.py")}
    called = {name for text in sources.values() for name in re.findall(r"redis\.call\('([A-Z]+)'", text)}
    sent = set(re.findall(r'\("([A-Z]{3,})"', "".join(sources.values())))
    assert {"EVALSHA", "ASKING", "PING", "EVAL", "MGET", "SCAN", "WAIT", "INFO", "ROLE"} <= sent
    named = {rule[1:].upper() for rule in rights() if rule.startswith("+")}
    assert named == (called | sent | {"SELECT"}) - {"SENTINEL"}


async def use(url: str, *, wait_replicas: int) -> None:
    """Do what a ledger does with each kind of script and command."""
    one, two = staged_file(1), staged_file(2, filename="demo-2.0.tar.gz")
    async with open_ledger(url, prefix=PREFIX, wait_replicas=wait_replicas) as ledger:
        await ledger.check_server()
        for _ in range(2):  # what there was is cleared
            await answered(lambda: ledger.load((one,), (token(),)))
        await answered(lambda: ledger.admit(claim_for(two)))
        await answered(lambda: stage(ledger, two))
        assert (await ledger.index()).files == (one, two)
        assert (await ledger.latest(MAIN, most_projects=1, most_files=2)).projects[0].files == (one, two)
        assert await ledger.revisions(DEMO, (MAIN,))
        assert (await ledger.names((MAIN,)))[1] == (DEMO,)
        assert (await ledger.totals()).files == 2
        assert await ledger.spend("t1", per_minute=1) == 0.0
        await answered(lambda: ledger.mark_live([one.upload_id]))
        assert await ledger.marked_live() == {one.upload_id}
        ending = Ending(Reason.LIVE, NOW_US, "bob")
        await answered(lambda: ledger.forget(DEMO, [one.upload_id, two.upload_id], ending))
        assert len((await ledger.events(0)).events) == 3
        await answered(lambda: ledger.put_token(token()))
        await answered(lambda: ledger.drop_token(token().id))


@pytest.mark.parametrize("binary", [valkey_binary(), redis_binary()])
async def test_one_server_is_used_with_these_rights(binary: str | None, tmp_path: Path) -> None:
    """In a database other than the first, too; keys of others are out of reach."""
    if binary is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    with running(RedisServer(binary, tmp_path)) as server:
        server.call("ACL", "SETUSER", "overlay", "on", *rights())
        await use(f"redis://overlay:pw@{HOST}:{server.port}/1", wait_replicas=0)
        async with open_ledger(f"redis://overlay:pw@{HOST}:{server.port}", prefix="other") as ledger:
            with pytest.raises(LedgerUnavailable):
                await ledger.state()
        with redis.Redis(host=HOST, port=server.port, username="overlay", password="pw", protocol=2) as client:
            for forbidden in ("FLUSHALL", "CONFIG GET *", "ACL LIST", "KEYS *"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*forbidden.split())


async def test_a_replicated_server_is_used_with_these_rights(tmp_path: Path) -> None:
    """Behind Sentinels, with replicas that are waited for."""
    with replicated(valkey_binary(), tmp_path) as servers:
        servers.primary.call("ACL", "SETUSER", "overlay", "on", *rights())
        await use(servers.url.replace("://", "://overlay:pw@"), wait_replicas=1)


async def test_a_cluster_is_used_with_these_rights(valkey_cluster: list[RedisServer]) -> None:
    """Every node has the user."""
    for server in valkey_cluster:
        server.call("ACL", "SETUSER", "overlay", "on", *rights())
    await use(f"redis+cluster://overlay:pw@{HOST}:{valkey_cluster[0].port}", wait_replicas=0)
