"""What several tests of the stores and ledgers need."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.redis_proxy import Proxy, proxied
from tests.redis_servers import RedisServer, running, valkey_binary


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a server that only this test uses, and may harm."""
    with running(RedisServer(valkey_binary(), tmp_path)) as server:
        yield server


@pytest.fixture
async def proxy(valkey_server: RedisServer) -> AsyncIterator[Proxy]:
    """Stand between the ledger and a Redis: it counts, holds and cuts."""
    async with proxied(valkey_server.port) as made:
        yield made
