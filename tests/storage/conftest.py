"""What several tests of the stores and ledgers need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_servers import RedisServer, running, valkey_binary


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a server that only this test uses, and may harm."""
    with running(RedisServer(valkey_binary(), tmp_path)) as server:
        yield server
