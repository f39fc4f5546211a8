"""The distributed form on one machine: a real S3 server, a real Redis, and "hosts", each a server process tree."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.ports import free_port
from tests.redis_servers import RedisServer, valkey_binary
from tests.redis_servers import running as redis_running
from tests.s3_server import REGION, SeaweedFS, s3_server_in
from tests.served import Served


@dataclass
class Backing:
    """What all hosts share."""

    s3: SeaweedFS
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
        """Describe a host, with a port that is free again after a restart; the caller starts it."""
        return Served(self.folder / name, upstream_url, self.settings(workers, **more), port=free_port())


@contextlib.contextmanager
def backing_in(
    folder: Path, *, redis_binary: str | None = None, redis_options: Sequence[str] = ()
) -> Iterator[Backing]:
    """Start an S3 server, with what it stored there before, and an empty Redis, until the block ends."""
    for name in ("s3", "redis"):
        (folder / name).mkdir(exist_ok=True)
    with (
        s3_server_in(folder / "s3") as s3,
        redis_running(RedisServer(redis_binary or valkey_binary(), folder / "redis", redis_options)) as redis,
    ):
        yield Backing(s3, redis, folder)


@contextlib.asynccontextmanager
async def hosts(
    backing: Backing, upstream_url: str, *names: str, workers: int = 2, **more: str
) -> AsyncIterator[list[Served]]:
    """Run hosts until the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in names:
            host = backing.host(name, upstream_url, workers=workers, **more)
            stack.push_async_callback(cut, host)
            await host.start()
            made.append(host)
        yield made


def workers(host: Served) -> list[psutil.Process]:
    """Return the living workers of a host."""
    try:
        return [child for child in psutil.Process(host.pid).children() if lives(child)]
    except psutil.NoSuchProcess:
        return []


def lives(process: psutil.Process) -> bool:
    """Say whether it has not ended, be it that nobody has asked yet how."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def cut(host: Served) -> None:
    """End a host as a power cut does: all its processes at once; one that does not run is left as it is."""
    if host.process is None or host.process.returncode is not None:
        return
    left = workers(host)
    host.process.kill()  # first, or it would start others
    for worker in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
    await host.ended()
