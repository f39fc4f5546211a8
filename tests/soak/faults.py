"""What befalls the servers of a soak: drawn by seed from a deck, one after another, some before the last is over."""

import asyncio
import contextlib
import random
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

import aiohttp
import psutil

from tests.distributed import Backing, cut, workers
from tests.served import Served
from tests.soak.clients import World
from tests.soak.history import Fault

WORKERS: Final = 2
KEEPS: Final = ("--appendonly", "yes", "--appendfsync", "no")
"""A Redis that is killed has everything again, unless its file is removed; and it answers while the disk is busy."""
RECOVERY_LIMIT_S: Final = 90.0
"""Until all is well again after a fault, with a margin for a loaded machine; alone it takes one to eight seconds."""
_LOOK_S: Final = 0.1
_ASKED_AT_ONCE: Final = 4
"""New connections to a host, so that more than one worker is likely to be asked."""
_SLOW: Final = ("cut a host", "stop a host", "roll a host")
"""New interpreters, which a loaded machine starts slowly."""
_QUICK_BETWEEN: Final = 4
_IMPATIENT: Final = 0.3
_AGAIN: Final = "--- the host is started again\n"
_REPLACING: Final = "replacing "
_REPLACED: Final = ("all workers are replaced", "the old ones go on")


class Faults:
    """Does one fault after another, and notes when each began, and when all was well again.

    `hard` allows what takes longer than the timeouts of the overlay.
    """

    def __init__(self, world: World, backing: Backing, dice: random.Random, *, hard: bool) -> None:
        self._world = world
        self._backing = backing
        self._dice = dice
        self._hard = hard
        self._kinds: dict[str, tuple[Callable[[Fault], Awaitable[None]], tuple[str, ...]]] = {
            "kill a worker": (self._kill_worker, ("host",)),
            "cut a host": (self._cut_host, ("host",)),
            "stop a host": (self._stop_host, ("host",)),
            "roll a host": (self._roll_host, ("host",)),
            "flush Redis": (self._flush, ("redis",)),
            "restart Redis": (self._restart_redis, ("redis",)),
            "freeze Redis": (self._freeze_redis, ("redis",)),
            "kill S3": (self._kill_s3, ("s3",)),
            "stop S3": (self._stop_s3, ("s3",)),
            "freeze S3": (self._freeze_s3, ("s3",)),
            "lose both": (self._lose_both, ("redis", "s3")),
            "flush Redis while S3 is frozen": (self._flush_while_frozen, ("redis", "s3")),
            "flush Redis and kill workers": (self._flush_and_kill, ("redis", "a", "b")),
            "flush Redis while a worker sleeps": (self._flush_while_asleep, ("redis", "host")),
        }

    async def run(self, until_s: float) -> None:
        """Do faults until then; at the end all is well."""
        deck: list[str] = []
        while self._world.now_s() < until_s:
            deck = deck or self._shuffled()
            await asyncio.sleep(self._dice.uniform(0.1, 1.0))
            await self._do(deck.pop())
            if self._dice.random() >= _IMPATIENT:
                await self.recovered()
        await self.recovered()

    def _shuffled(self) -> list[str]:
        """Return all kinds, to be taken from the end: quick ones first, so that a short run meets many."""
        slow = self._dice.sample(_SLOW, len(_SLOW))
        quick = self._dice.sample([kind for kind in self._kinds if kind not in slow], len(self._kinds) - len(slow))
        for place, kind in enumerate(slow):
            quick.insert(_QUICK_BETWEEN * place, kind)
        return quick

    async def recovered(self) -> None:
        """Wait until all is well, and note it; leave it open where that takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECOVERY_LIMIT_S):
                while not all(await asyncio.gather(*map(_is_well, self._world.hosts.values()))):
                    await asyncio.sleep(_LOOK_S)
            for fault in self._world.history.faults:
                fault.well_s = min(fault.well_s, self._world.now_s())

    async def _do(self, kind: str) -> None:
        work, hits = self._kinds[kind]
        host = self._dice.choice(sorted(self._world.hosts))
        named = tuple(host if hit == "host" else hit for hit in hits)
        fault = Fault(kind=kind, hits=named, began_s=self._world.now_s())
        self._world.history.faults.append(fault)
        await work(fault)
        fault.ended_s = self._world.now_s()

    # What is done to hosts

    async def _kill_worker(self, fault: Fault) -> None:
        _kill_one(self._host(fault), self._dice)

    async def _cut_host(self, fault: Fault) -> None:
        host = self._host(fault)
        with self._away(fault.hits[0]):
            await cut(host)
            await self._pause(2)
            await _launch_again(host)

    async def _stop_host(self, fault: Fault) -> None:
        host = self._host(fault)
        with self._away(fault.hits[0]):
            await host.stop()
            await _launch_again(host)

    async def _roll_host(self, fault: Fault) -> None:
        host = self._host(fault)
        if _is_rolling(host):
            return
        assert host.process is not None
        begun = host.log.count(_REPLACING)
        host.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(RECOVERY_LIMIT_S):
            while host.log.count(_REPLACING) == begun:  # where no worker runs, it has ended at once
                await asyncio.sleep(_LOOK_S)

    # What is done to Redis and S3

    async def _flush(self, fault: Fault) -> None:  # noqa: ARG002 - as all of them
        await asyncio.to_thread(self._backing.redis.call, "FLUSHALL")

    async def _restart_redis(self, fault: Fault) -> None:
        redis = self._backing.redis
        await asyncio.to_thread(redis.kill)
        with self._down(fault, "redis"):
            await self._pause(2)
        await self._start_redis_again()

    async def _freeze_redis(self, fault: Fault) -> None:
        redis = self._backing.redis
        redis.pause()
        with self._down(fault, "redis"):
            await self._pause(3)
        redis.resume()

    async def _kill_s3(self, fault: Fault) -> None:
        await asyncio.to_thread(self._backing.s3.kill)
        await self._start_s3_again(fault)

    async def _stop_s3(self, fault: Fault) -> None:
        await asyncio.to_thread(self._backing.s3.stop)
        await self._start_s3_again(fault)

    async def _freeze_s3(self, fault: Fault) -> None:
        async with self._frozen_s3(fault):
            await self._pause(14 if self._hard and self._dice.random() < 0.3 else 3)

    async def _lose_both(self, fault: Fault) -> None:
        s3, redis = self._backing.s3, self._backing.redis
        await asyncio.to_thread(s3.kill)
        await asyncio.to_thread(redis.kill)
        with self._down(fault, "redis"):
            await self._pause(1)
        with self._down(fault, "s3"):
            await self._start_redis_again()
            await self._pause(1)
        await asyncio.to_thread(s3.start)

    async def _flush_while_frozen(self, fault: Fault) -> None:
        async with self._frozen_s3(fault):
            await self._pause(0.5)
            await self._flush(fault)
            await self._pause(2)

    async def _flush_and_kill(self, fault: Fault) -> None:
        """Meet the worker that rebuilds, perhaps."""
        await self._flush(fault)
        for _ in range(self._dice.randint(1, 3)):
            await self._pause(0.4)
            _kill_one(self._world.hosts[self._dice.choice(fault.hits[1:])], self._dice)

    async def _flush_while_asleep(self, fault: Fault) -> None:
        """Let a worker go on, in the middle of something, in another life of the ledger."""
        with _asleep(self._host(fault), self._dice):
            await self._flush(fault)
            await self._pause(2)
            if self._dice.random() < 0.5:
                await self._flush(fault)
                await self._pause(2)

    # The rest

    async def _start_redis_again(self) -> None:
        """Start it, with everything or with nothing."""
        redis = self._backing.redis
        if self._dice.random() < 0.6:
            shutil.rmtree(redis.folder / "appendonlydir")
        await asyncio.to_thread(redis.start)

    async def _start_s3_again(self, fault: Fault) -> None:
        with self._down(fault, "s3"):
            await self._pause(2)
        await asyncio.to_thread(self._backing.s3.start)

    @contextlib.asynccontextmanager
    async def _frozen_s3(self, fault: Fault) -> AsyncIterator[None]:
        self._backing.s3.freeze()
        with self._down(fault, "s3"):
            yield
        await asyncio.to_thread(self._backing.s3.thaw)

    @contextlib.contextmanager
    def _down(self, fault: Fault, name: str) -> Iterator[None]:
        began_s = self._world.now_s()
        yield
        fault.down[name] = began_s, self._world.now_s()

    @contextlib.contextmanager
    def _away(self, host: str) -> Iterator[None]:
        self._world.away.add(host)
        yield
        self._world.away.discard(host)

    def _host(self, fault: Fault) -> Served:
        return self._world.hosts[fault.hits[-1]]

    async def _pause(self, longest_s: float) -> None:
        await asyncio.sleep(self._dice.uniform(0, longest_s))


def _kill_one(host: Served, dice: random.Random) -> None:
    living = workers(host)
    if living:
        with contextlib.suppress(psutil.NoSuchProcess):
            dice.choice(living).kill()


@contextlib.contextmanager
def _asleep(host: Served, dice: random.Random) -> Iterator[None]:
    """Stop one worker for a while, if there is one."""
    living = workers(host)
    chosen = dice.sample(living, 1) if living else []
    for worker in chosen:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.suspend()
    try:
        yield
    finally:
        for worker in chosen:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.resume()


async def _launch_again(host: Served) -> None:
    with host.log_path.open("a") as log:
        log.write(_AGAIN)
    await host.launch()


def _is_rolling(host: Served) -> bool:
    log = host.log.rpartition(_AGAIN)[2]
    return log.count(_REPLACING) > sum(log.count(words) for words in _REPLACED)


async def _is_well(host: Served) -> bool:
    """Say whether a host has all its workers, and every connection to it finds all parts well."""
    if len(workers(host)) != WORKERS or _is_rolling(host):
        return False
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        return all(await asyncio.gather(*(_is_ready(session, host.url) for _ in range(_ASKED_AT_ONCE))))


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/-/ready") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, ConnectionError, TimeoutError):
        return False
