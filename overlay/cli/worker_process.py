"""A worker as its supervisor sees it: a process that tells over a pipe how far it is."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

SERVING, READY = b"s", b"r"
"""What a worker writes into its pipe: it takes requests; every part that they need answers."""

# A worker stops within 25 s by itself; what does not is killed.
STOP_S: Final = 30.0
# For a replacement to be ready, until the roll-out is given up.
_READY_S: Final = 60.0

_log = logging.getLogger("overlay.supervisor")


class WorkerProcess:
    """A running process; `trial` until a roll-out is sure of it, `told` once it was asked to stop.

    `serving_since_s` (monotonic) is there, and `somebody_serves` set, once it takes requests. `pause_s` is to pass
    before another one takes its place if it does not serve for long.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        temporary: Path,
        *,
        trial: bool,
        pause_s: float,
        somebody_serves: asyncio.Event,
    ) -> None:
        self.process = process
        self.temporary = temporary
        self.trial = trial
        self.told = False
        self.serving_since_s: float | None = None
        self.pause_s = pause_s
        self._somebody_serves = somebody_serves
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()

    @property
    def served_s(self) -> float:
        """For how long it has taken requests. A slow start is no service."""
        return 0.0 if self.serving_since_s is None else time.monotonic() - self.serving_since_s

    def stop(self) -> None:
        """Ask it to stop."""
        self.told = True
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    async def read(self, pipe: int) -> None:
        """Hear what it tells, until it ends."""
        async for told in _bytes(pipe):
            if told == SERVING:
                self.serving_since_s = time.monotonic()
                self._somebody_serves.set()
            elif told == READY:
                self.ready.set()


async def becomes_ready(worker: WorkerProcess) -> bool:
    """Wait until it is ready; False when it ended, or took too long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_READY_S):
            await one_of(worker.ready, worker.ended)
    return worker.ready.is_set() and not worker.ended.is_set()


async def one_of(*events: asyncio.Event) -> None:
    """Wait until one of the events happens."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def end(worker: WorkerProcess) -> None:
    """Wait for the end of a worker that was asked to stop, and make one."""
    try:
        async with asyncio.timeout(STOP_S):
            await worker.ended.wait()
    except TimeoutError:
        _log.error("worker %d does not stop; killing it", worker.process.pid)
        worker.process.kill()
        await worker.ended.wait()


async def _bytes(pipe: int) -> AsyncIterator[bytes]:
    """Read a pipe byte by byte until its end, and close it."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0)
    )
    try:
        while byte := await reader.read(1):
            yield byte
    finally:
        transport.close()
