"""The process above the workers of one host: `overlay serve --workers N`.

It binds the sockets and starts N processes that accept from them; the kernel gives each connection to one of them.
A worker that ends is started again, after growing pauses where it does not live long; when the last one that serves
finds configuration or servers unfit, another one would do no better, and all ends. SIGTERM and SIGINT stop all of them
gracefully. SIGHUP replaces one after another by a process that reads program and configuration anew: the new one takes
no connection before all that it needs answers, the old one is told to stop after that, and the sockets stay open all
the while. Workers that do not get so far are not rolled out.

Workers are new interpreters, not forks: each has the program that is installed when it starts, and no half-copied
state. They notice the end of this process, however it ends, by a pipe that nobody writes to.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Final

from overlay.cli.announcement import announce
from overlay.cli.hangup import on_hangup
from overlay.cli.listening import bound
from overlay.cli.outcome import DONE, FAILED, USAGE
from overlay.cli.worker_process import WorkerProcess, becomes_ready, end, one_of
from overlay.config.tables import Config
from overlay.web.metrics_folder import worker_ended

# A worker that served shorter than this is started again after a pause, and after twice that pause the next time: an
# interpreter's start takes a second of a core from those who serve.
_SERVED_S: Final = 5.0
_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 16.0

_log = logging.getLogger("overlay.supervisor")


def run(config: Config, options: Sequence[str]) -> int:
    """Serve with `[server] workers` processes, started as `overlay serve` with these options; return the exit code."""
    return asyncio.run(_supervise(config, options))


async def _supervise(config: Config, options: Sequence[str]) -> int:
    with contextlib.ExitStack() as stack:
        listeners = await bound(config.server.host, config.server.port)
        for listener in listeners:
            stack.callback(listener.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overlay-")))
        supervisor = Supervisor(config.server.workers, options, listeners, folder)
        stack.callback(supervisor.close)
        port = int(listeners[0].getsockname()[1])
        return await supervisor.supervise(lambda: announce(config, port))


class Supervisor:
    """Keeps `count` workers on the listening sockets.

    In `folder`, which is empty, their metrics meet, and each has a place for its temporary files, which goes with it.
    """

    def __init__(self, count: int, options: Sequence[str], listeners: Sequence[socket.socket], folder: Path) -> None:
        self._count = count
        self._command = [sys.executable, "-P", "-m", "overlay", "serve", *options]
        self._listeners = listeners
        self._folder = folder
        self._metrics = folder / "metrics"
        self._alive, self._held = os.pipe()
        self._workers: set[WorkerProcess] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._roll = asyncio.Event()
        self._serving = asyncio.Event()
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
        on_hangup(loop, reload=self._roll.set, stop=self._stop.set)
        for _ in range(self._count):
            await self._launch(trial=False)
        await one_of(self._stop, self._serving)
        if not self._stop.is_set():
            on_serving()
        rolling = asyncio.ensure_future(self._roll_out_when_told())
        await self._stop.wait()
        rolling.cancel()
        await asyncio.wait({rolling})
        await self._end_all()
        return self._code

    async def _launch(self, *, trial: bool, pause_s: float = _PAUSE_S) -> WorkerProcess:
        """Start a worker. Raises OSError."""
        self._metrics.mkdir(parents=True, exist_ok=True)  # somebody may have cleaned up all temporary files
        temporary = Path(tempfile.mkdtemp(prefix="worker-", dir=self._folder))
        environ = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(self._metrics), "TMPDIR": str(temporary)}
        told, pipe = os.pipe()
        descriptors = (pipe, self._alive, *(listener.fileno() for listener in self._listeners))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                "--inherited",
                *map(str, descriptors),
                *(["--trial"] if trial else []),
                stdin=asyncio.subprocess.DEVNULL,
                env=environ,
                pass_fds=descriptors,
            )
        except BaseException:
            os.close(told)
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            os.close(pipe)
        worker = WorkerProcess(process, temporary, trial=trial, pause_s=pause_s, somebody_serves=self._serving)
        self._workers.add(worker)
        self._begin(worker.read(told))
        self._begin(self._watch(worker))
        if self._stop.is_set():
            worker.stop()
        return worker

    async def _watch(self, worker: WorkerProcess) -> None:
        """Wait for the worker's end, and start another one where it should still run."""
        code = await worker.process.wait()
        worker.ended.set()
        self._workers.discard(worker)
        self._tidy_after(worker)
        if worker.told or worker.trial or self._stop.is_set():
            return
        if self._ends_all(code):
            self._code = code or FAILED
            self._stop.set()
            return
        pause_s = 0.0 if worker.served_s >= _SERVED_S else worker.pause_s
        _log.error("worker %d ended with %d; starting another one in %d s", worker.process.pid, code, pause_s)
        await self._pause(pause_s)
        next_s = min(2 * pause_s, _LONGEST_PAUSE_S) or _PAUSE_S
        while not self._stop.is_set():
            try:
                await self._launch(trial=False, pause_s=next_s)
            except OSError as err:
                _log.error("cannot start a worker, trying again: %s", err)
                await self._pause(_PAUSE_S)
            else:
                return

    def _ends_all(self, code: int) -> bool:
        """Say whether no other worker would do better than one that ended so; it has said why."""
        if code < 0:
            return False  # a signal says nothing
        if not self._serving.is_set():
            return True
        # While others serve, somebody may be about to mend the file that a new worker read.
        return code == USAGE and not any(worker.serving_since_s is not None for worker in self._workers)

    async def _pause(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), pause_s)

    def _tidy_after(self, worker: WorkerProcess) -> None:
        try:
            worker_ended(self._metrics, worker.process.pid)
        except OSError as err:
            _log.warning("what worker %d counted is lost: %s", worker.process.pid, err)
        shutil.rmtree(worker.temporary, ignore_errors=True)  # a killed one cannot do it

    async def _roll_out_when_told(self) -> None:
        while True:
            await self._roll.wait()
            self._roll.clear()
            _log.info("replacing %d workers", len(self._workers))
            if await self._roll_out():
                _log.info("all workers are replaced")

    async def _roll_out(self) -> bool:
        for old in tuple(self._workers):
            if old.ended.is_set():
                continue  # the one that runs instead is a new one
            try:
                new = await self._launch(trial=True)
            except OSError as err:
                _log.error("cannot start a worker, the old ones go on: %s", err)
                return False
            if not await becomes_ready(new):
                _log.error("the new worker %d is not ready; the old ones go on", new.process.pid)
                new.stop()
                return False
            if old.ended.is_set():  # meanwhile, and another one was started instead
                new.stop()
                continue
            new.trial = False
            old.stop()
            await end(old)
        return True

    async def _end_all(self) -> None:
        for listener in self._listeners:
            listener.close()
        workers = tuple(self._workers)
        for worker in workers:
            worker.stop()
        await asyncio.gather(*(end(worker) for worker in workers))
        # One that was told before it could listen to signals ends by the signal.
        if any(worker.process.returncode not in {0, -signal.SIGTERM} for worker in workers):
            self._code = self._code or FAILED
        await asyncio.gather(*self._tasks)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
