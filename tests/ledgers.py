"""Every StageLedger there is, for the suites that all of them pass; each one made is fresh and not loaded."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol, TypeVar

import pytest

from overlay.domain.errors import LedgerUnavailable
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.stage import Entry, Staged, StagedFile
from overlay.storage.ledger_memory import MemoryLedger
from overlay.storage.ledger_redis import RedisLedger, redis_ledger
from overlay.storage.redis_url import parse
from tests.redis_servers import RedisServer, cluster_url
from tests.staged import DEMO

NOW_US: Final = 1_700_000_000_000_000
_PATIENCE_S: Final = 30.0  # longer than any pause that is only load
_ANSWERED_S: Final = 60.0
_ASKED_EVERY_S: Final = 0.05
Answer = TypeVar("Answer")


class MakeLedger(Protocol):
    """Opens a ledger; `now_us` is its clock."""

    def __call__(
        self, request: pytest.FixtureRequest, now_us: Callable[[], int] = ...
    ) -> AbstractAsyncContextManager[StageLedger]: ...


class LedgerClock:
    """Microseconds since the epoch; it stands until it is set."""

    def __init__(self) -> None:
        self.now_us = NOW_US

    def __call__(self) -> int:
        return self.now_us


def standing() -> int:
    """Be a clock that stands still."""
    return NOW_US


@asynccontextmanager
async def in_process(
    request: pytest.FixtureRequest,  # noqa: ARG001 - one shape for all
    now_us: Callable[[], int] = standing,
) -> AsyncIterator[StageLedger]:
    yield MemoryLedger(now_us)


def in_valkey(
    request: pytest.FixtureRequest, now_us: Callable[[], int] = standing
) -> AbstractAsyncContextManager[StageLedger]:
    server: RedisServer = request.getfixturevalue("valkey_server")
    return open_ledger(server.url, now_us=now_us)


def in_redis(
    request: pytest.FixtureRequest, now_us: Callable[[], int] = standing
) -> AbstractAsyncContextManager[StageLedger]:
    server: RedisServer = request.getfixturevalue("redis_server")
    return open_ledger(f"unix://{server.socket}", now_us=now_us)


def in_cluster(
    request: pytest.FixtureRequest, now_us: Callable[[], int] = standing
) -> AbstractAsyncContextManager[StageLedger]:
    servers: list[RedisServer] = request.getfixturevalue("valkey_cluster")
    return open_ledger(cluster_url(servers), now_us=now_us)


LEDGERS: Final[list[MakeLedger]] = [in_process, in_valkey, in_redis, in_cluster]


def open_ledger(
    url: str,
    *,
    prefix: str = "",
    wait_replicas: int = 0,
    now_us: Callable[[], int] = standing,
    patience_s: float = _PATIENCE_S,
) -> AbstractAsyncContextManager[RedisLedger]:
    """Open a ledger, under a prefix that nothing else has unless one is given."""
    return redis_ledger(
        parse(url),
        prefix=prefix or secrets.token_hex(8),
        wait_replicas=wait_replicas,
        now_us=now_us,
        patience_s=patience_s,
    )


async def answered(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask until it is answered, as those do whose requests fail: repeating is safe.

    Raises LedgerUnavailable after a minute of that.
    """
    ends_at_s = time.monotonic() + _ANSWERED_S
    while True:
        try:
            return await ask()
        except LedgerUnavailable:
            if time.monotonic() > ends_at_s:
                raise
        await asyncio.sleep(_ASKED_EVERY_S)


async def entry(ledger: StageLedger, upload: UploadId, project: NormalizedName = DEMO) -> Entry:
    """Look one upload up."""
    (found,) = await ledger.entries(project, (upload,))
    return found


async def stage(ledger: StageLedger, file: StagedFile, *, replace: bool = True) -> Staged:
    """Stage a file that was admitted in the ledger's present life."""
    return await ledger.stage(file, replace=replace, epoch=(await ledger.state()).epoch)
