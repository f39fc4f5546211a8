"""The process above the workers of one host: `overlay serve --workers N`.

It binds the sockets and starts N processes that accept from them; the kernel gives each connection to one of them.
A worker that ends is started again. SIGTERM and SIGINT stop all of them gracefully. SIGHUP replaces one after another
by a process that reads program and configuration anew: the new one must answer before the old one is told to stop,
and the sockets stay open all the while, so no connection is refused. Workers that cannot start are not rolled out.

Workers are new interpreters, not forks: each has the program that is installed when it starts, and no half-copied
state. They notice the end of this process, however it ends, by a pipe that nobody writes to.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Final

from overlay.cli.announcement import announce
from overlay.cli.outcome import DONE, FAILED
from overlay.config.tables import Config
from overlay.web.metrics_folder import worker_ended

SERVING, READY = b"s", b"r"
"""What a worker writes into its pipe: it takes requests; every part that they need answers."""

# A worker stops within 25 s by itself; what does not is killed.
_STOP_S: Final = 30.0
# For a replacement to be ready, until the roll-out is given up.
_READY_S: Final = 60.0
# A worker that lived shorter than this is started again after a pause.
_LIVED_S: Final = 5.0
_PAUSE_S: Final = 1.0
_BACKLOG: Final = 1024

_log = logging.getLogger("overlay.supervisor")


def run(config: Config, options: Sequence[str]) -> int:
    """Serve with `[server] workers` processes, started as `overlay serve` with these options; return the exit code."""
    return asyncio.run(_supervise(config, options))


async def _supervise(config: Config, options: Sequence[str]) -> int:
    with contextlib.ExitStack() as stack:
        listeners = await _bound(config.server.host, config.server.port)
        for listener in listeners:
            stack.callback(listener.close)
        metrics = stack.enter_context(tempfile.TemporaryDirectory(prefix="overlay-metrics-"))
        supervisor = Supervisor(config.server.workers, options, listeners, metrics)
        stack.callback(supervisor.close)
        port = int(listeners[0].getsockname()[1])
        return await supervisor.supervise(lambda: announce(config, port))


async def _bound(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of the host, as asyncio would. Connections wait until a worker takes them."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
    listeners = [socket.socket(fileno=os.dup(bound.fileno())) for bound in server.sockets]
    server.close()
    for listener in listeners:
        listener.listen(_BACKLOG)
    return listeners


class _Worker:
    """A running process; `trial` until a roll-out is sure of it, `told` once it was asked to stop."""

    def __init__(self, process: asyncio.subprocess.Process, *, trial: bool) -> None:
        self.process = process
        self.trial = trial
        self.told = False
        self.began_s = time.monotonic()
        self.serving = asyncio.Event()
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()

    def stop(self) -> None:
        """Ask it to stop."""
        self.told = True
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    async def read(self, pipe: int) -> None:
        """Hear what it tells, until it ends."""
        async for told in _bytes(pipe):
            if told == SERVING:
                self.serving.set()
            elif told == READY:
                self.ready.set()


class Supervisor:
    """Keeps `count` workers on the listening sockets; `metrics` is the folder in which their metrics meet."""

    def __init__(self, count: int, options: Sequence[str], listeners: Sequence[socket.socket], metrics: str) -> None:
        self._count = count
        self._command = [sys.executable, "-P", "-m", "overlay", "serve", *options]
        self._listeners = listeners
        self._environ = os.environ | {"PROMETHEUS_MULTIPROC_DIR": metrics}
        self._metrics = metrics
        self._alive, self._held = os.pipe()
        self._workers: set[_Worker] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._roll = asyncio.Event()
        self._served = False
        self._code = DONE

    def close(self) -> None:
        """Let go of the pipe: workers that should still run stop by themselves."""
        os.close(self._alive)
        os.close(self._held)

    async def supervise(self, on_serving: Callable[[], None]) -> int:
        """Run the workers until a signal says to stop, and stop them; returns the exit code.

        Calls `on_serving` once, when the first one takes requests.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._roll.set)
        workers = [await self._launch(trial=False) for _ in range(self._count)]
        await _one_of(self._stop, *(worker.serving for worker in workers))
        if not self._stop.is_set():
            on_serving()
        rolling = asyncio.ensure_future(self._roll_out_when_told())
        await self._stop.wait()
        rolling.cancel()
        await asyncio.wait({rolling})
        await self._end_all()
        return self._code

    async def _launch(self, *, trial: bool) -> _Worker:
        told, pipe = os.pipe()
        descriptors = (pipe, self._alive, *(listener.fileno() for listener in self._listeners))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                "--inherited",
                *map(str, descriptors),
                stdin=asyncio.subprocess.DEVNULL,
                env=self._environ,
                pass_fds=descriptors,
            )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(pipe)
        worker = _Worker(process, trial=trial)
        self._workers.add(worker)
        self._begin(worker.read(told))
        self._begin(self._watch(worker))
        if self._stop.is_set():
            worker.stop()
        return worker

    async def _watch(self, worker: _Worker) -> None:
        """Wait for the worker's end, and start another one where it should still run."""
        code = await worker.process.wait()
        worker.ended.set()
        worker_ended(Path(self._metrics), worker.process.pid)
        self._workers.discard(worker)
        self._served = self._served or any(one.serving.is_set() for one in (worker, *self._workers))
        if worker.told or worker.trial or self._stop.is_set():
            return
        if not self._served and code >= 0:  # it says why itself, and would say it again; a signal says nothing
            self._code = code if code > 0 else FAILED
            self._stop.set()
            return
        _log.error("worker %d ended with %d; starting another one", worker.process.pid, code)
        if time.monotonic() - worker.began_s < _LIVED_S:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _PAUSE_S)
        if not self._stop.is_set():
            await self._launch(trial=False)

    async def _roll_out_when_told(self) -> None:
        while True:
            await self._roll.wait()
            self._roll.clear()
            _log.info("replacing %d workers", len(self._workers))
            if await self._roll_out():
                _log.info("all workers are replaced")

    async def _roll_out(self) -> bool:
        for old in tuple(self._workers):
            new = await self._launch(trial=True)
            if not await _becomes_ready(new):
                _log.error("the new worker %d is not ready; the old ones go on", new.process.pid)
                new.stop()
                return False
            new.trial = False
            old.stop()
            await _ended(old)
        return True

    async def _end_all(self) -> None:
        for listener in self._listeners:
            listener.close()
        workers = tuple(self._workers)
        for worker in workers:
            worker.stop()
        await asyncio.gather(*(_ended(worker) for worker in workers))
        if any(worker.process.returncode for worker in workers):
            self._code = self._code or FAILED
        await asyncio.gather(*self._tasks)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _becomes_ready(worker: _Worker) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_READY_S):
            await _one_of(worker.ready, worker.ended)
    return worker.ready.is_set() and not worker.ended.is_set()


async def _one_of(*events: asyncio.Event) -> None:
    """Wait until one of the events happens."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def _ended(worker: _Worker) -> None:
    """Wait for the end of a worker that was asked to stop, and make one."""
    try:
        async with asyncio.timeout(_STOP_S):
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
