"""Every StageLedger there is, for the suites that all of them pass; each one made is fresh and not loaded."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import pytest

from overlay.domain.ports import StageLedger
from overlay.storage.ledger_memory import MemoryLedger
from overlay.storage.ledger_redis import RedisLedger, redis_ledger
from overlay.storage.redis_url import parse
from tests.redis_servers import RedisServer, cluster_url

NOW_US: Final = 1_700_000_000_000_000

MakeLedger = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[StageLedger]]


@asynccontextmanager
async def in_process(request: pytest.FixtureRequest) -> AsyncIterator[StageLedger]:  # noqa: ARG001 - one shape for all
    yield MemoryLedger(lambda: NOW_US)


def in_valkey(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[StageLedger]:
    server: RedisServer = request.getfixturevalue("valkey_server")
    return open_ledger(server.url)


def in_redis(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[StageLedger]:
    server: RedisServer = request.getfixturevalue("redis_server")
    return open_ledger(f"unix://{server.socket}")


def in_cluster(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[StageLedger]:
    servers: list[RedisServer] = request.getfixturevalue("valkey_cluster")
    return open_ledger(cluster_url(servers))


LEDGERS: Final[list[MakeLedger]] = [in_process, in_valkey, in_redis, in_cluster]


def open_ledger(
    url: str, *, prefix: str = "", wait_replicas: int = 0, now_us: Callable[[], int] = lambda: NOW_US
) -> AbstractAsyncContextManager[RedisLedger]:
    """Open a ledger, under a prefix that nothing else has unless one is given."""
    return redis_ledger(parse(url), prefix=prefix or secrets.token_hex(8), wait_replicas=wait_replicas, now_us=now_us)
