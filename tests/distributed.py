"""The distributed form on one machine: a real S3 server, a real Redis, and "hosts", each a server process tree."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.redis_servers import RedisServer, valkey_binary
from tests.redis_servers import running as redis_running
from tests.s3_server import REGION, S3Server, s3_server_in
from tests.served import Served


@dataclass
class Backing:
    """What all hosts share."""

    s3: S3Server
    redis: RedisServer
    folder: Path
    prefix: str = "overlay"

    def settings(self, workers: int, **more: str) -> dict[str, str]:
        """Return the OVERLAY_* variables, and boto3's, of a host."""
        return {
            "OVERLAY_STORE_KIND": "s3",
            "OVERLAY_STORE_BUCKET": self.s3.bucket,
            "OVERLAY_STORE_PREFIX": self.prefix,
            "OVERLAY_STORE_ENDPOINT_URL": self.s3.endpoint_url,
            "OVERLAY_STORE_REGION": REGION,
            "OVERLAY_STORE_ADDRESSING": "path",
            "OVERLAY_LEDGER_KIND": "redis",
            "OVERLAY_LEDGER_URL": self.redis.url,
            "OVERLAY_SERVER_WORKERS": str(workers),
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            **more,
        }

    def host(self, name: str, upstream_url: str, *, workers: int = 2, **more: str) -> Served:
        """Describe a host; the caller starts it."""
        return Served(self.folder / name, upstream_url, self.settings(workers, **more))


@contextlib.contextmanager
def backing_in(folder: Path, *, redis_binary: str | None = None) -> Iterator[Backing]:
    """Start an S3 server, with what it stored there before, and an empty Redis, until the block ends."""
    for name in ("s3", "redis"):
        (folder / name).mkdir(exist_ok=True)
    with (
        s3_server_in(folder / "s3") as s3,
        redis_running(RedisServer(redis_binary or valkey_binary(), folder / "redis")) as redis,
    ):
        yield Backing(s3, redis, folder)


@contextlib.asynccontextmanager
async def hosts(
    backing: Backing, upstream_url: str, *names: str, workers: int = 2, **more: str
) -> AsyncIterator[list[Served]]:
    """Run hosts until the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(backing.host(name, upstream_url, workers=workers, **more)) for name in names
        ]
