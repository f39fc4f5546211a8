"""One serving process: the whole server, or one of the workers of a `supervisor`."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from aiohttp import web

from overlay.cli import interpreter
from overlay.cli.announcement import announce, root
from overlay.cli.hangup import on_hangup
from overlay.cli.listening import BACKLOG, bound, take_queued
from overlay.cli.outcome import DONE, FAILED, USAGE
from overlay.cli.worker_process import READY, SERVING
from overlay.config.tables import Config, LedgerConfig, StoreConfig
from overlay.domain.errors import InvalidConfig, NotFound, RecordCorrupt, Unavailable
from overlay.domain.layout import STORE_MARK
from overlay.domain.names import MAIN
from overlay.services.access import local_operator
from overlay.services.local_files import parts_of
from overlay.web.app import application
from overlay.web.context import Lifecycle, Services
from overlay.web.log_format import LogForm
from overlay.web.server import runner
from overlay.wiring.wired import Wired, wired

# From SIGTERM to the last connection closed, whatever is under way; systemd and Kubernetes kill after 90 and 30 s by
# default. Uploads may use all of it but the last second, in which what is left is broken off and cleaned up.
_STOP_S: Final = 25.0
_LAST_S: Final = 1.0
_LEAVING_S: Final = 1.0
_LOOK_S: Final = 0.02
_THREADS: Final = 32
_AGAIN_S: Final = 0.2

_log = logging.getLogger("overlay")


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a worker has of its supervisor: listening sockets, and two pipes."""

    listeners: tuple[socket.socket, ...]
    told: int
    """A descriptor to write SERVING and READY to."""
    alive: int
    """A descriptor that ends when the supervisor has ended, however it did."""
    trial: bool
    """Take no connection before every part answers: others serve meanwhile, and may go on."""

    @classmethod
    def of(cls, descriptors: Sequence[int], *, trial: bool) -> Self:
        """Take over the descriptors that `supervisor` hands on: told, alive, listeners."""
        told, alive, *listeners = descriptors
        return cls(tuple(socket.socket(fileno=listener) for listener in listeners), told, alive, trial)


def run(config: Config, files: Sequence[Path], inherited: Inherited | None) -> int:
    """Serve until SIGTERM, SIGINT or the end of the supervisor; return the exit code."""
    return _looped(_serve(config, files, inherited))


async def _serve(config: Config, files: Sequence[Path], inherited: Inherited | None) -> int:
    interpreter.prepare()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="overlay"))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # What it asks for is the supervisor's to do.
    said = "SIGHUP replaces workers; restart a single process instead"
    on_hangup(loop, reload=lambda: _log.warning(said), stop=stop.set)
    async with contextlib.AsyncExitStack() as stack:
        if files:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="overlay-"))
            config = dataclasses.replace(config, store=StoreConfig(path=folder), ledger=LedgerConfig())
        running = await stack.enter_async_context(wired(config, ephemeral=bool(files)))
        lifecycle = Lifecycle()
        app = application(running.services, running.web, lifecycle, now_s=running.now_s, metrics=running.metrics)
        lines = sys.stderr if config.server.access_log else None
        interpreter.settle()
        served = runner(app, shutdown_timeout_s=_LAST_S, access_log=lines, log_form=LogForm(config.server.log))
        await served.setup()
        stack.push_async_callback(served.cleanup)
        for path in files:
            await _stage(running, path)
        if inherited is None:
            listeners = tuple(await bound(config.server.host, config.server.port))
            await _listen(served, listeners)
            announce(config, _bound_port(served))
            _tell_how_to_upload(running, config, _bound_port(served), files)
            watched = running.watched
        else:
            listeners = inherited.listeners
            loop.add_reader(inherited.alive, _orphaned, loop, inherited.alive, stop)
            opening = asyncio.ensure_future(_open(served, inherited, running.services))
            stack.callback(opening.cancel)
            watched = (*running.watched, opening)
        code = await _stopped(stop, watched)
        await drain(served, listeners, lifecycle, within_s=_STOP_S)
    return code


def _orphaned(loop: asyncio.AbstractEventLoop, alive: int, stop: asyncio.Event) -> None:
    loop.remove_reader(alive)  # it would be called again and again
    stop.set()


async def _open(served: web.AppRunner, inherited: Inherited, services: Services) -> NoReturn:
    """Take connections, and tell the supervisor how far this worker is."""
    if inherited.trial:
        await _answers(services)
    await _listen(served, inherited.listeners)
    os.write(inherited.told, SERVING)
    await _answers(services)
    os.write(inherited.told, READY)
    while True:
        await asyncio.Event().wait()


async def _listen(served: web.AppRunner, listeners: Sequence[socket.socket]) -> None:
    for listener in listeners:
        await web.SockSite(served, listener, backlog=BACKLOG).start()


async def _answers(services: Services) -> None:
    """Wait until ledger and store answer."""
    while True:
        try:
            await services.ledger.names((MAIN,))
            await services.documents.get(STORE_MARK)
        except (NotFound, Unavailable):
            await asyncio.sleep(_AGAIN_S)
        else:
            return


async def _stopped(stop: asyncio.Event, watched: Iterable[asyncio.Task[NoReturn]]) -> int:
    """Wait until the process is told to stop, or must; returns the exit code."""
    told = asyncio.ensure_future(stop.wait())
    ended, _ = await asyncio.wait({told, *watched}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    code = FAILED
    for task in ended - {told}:
        failure = task.exception()
        # Unfit settings or servers, a store of a newer program: a start would end with the same sentence.
        if isinstance(failure, InvalidConfig | RecordCorrupt):
            code = USAGE
            _log.error("stopping: %s", failure)
        else:
            _log.error("stopping, because what runs beside the requests failed", exc_info=failure)
    return DONE if told in ended else code


async def drain(
    served: web.AppRunner, listeners: Sequence[socket.socket], lifecycle: Lifecycle, *, within_s: float
) -> None:
    """Take no new connections, then no new uploads; wait for what is under way, and break off what is left in time.

    A proxy may have sent a request over an open connection, or one just made, that was not read yet, and it cannot send
    an upload again: so for a while everything is still answered, each answer being the last one on its connection.
    """
    deadline_s = asyncio.get_running_loop().time() + within_s
    lifecycle.leaving = True
    _log.info("stopping; %d uploads under way", lifecycle.in_flight)
    assert served.server is not None
    # Stopping closes them. A worker that never served leaves what waits there to the others.
    held = [listener.dup() for listener in listeners] if served.sites else []
    for site in served.sites:
        await site.stop()
    for listener in held:
        await take_queued(listener, served.server)
    await _left(served, within_s=min(_LEAVING_S, within_s / 2))
    lifecycle.draining = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline_s - _LAST_S):
            await lifecycle.idle()
    if lifecycle.in_flight:
        _log.warning("%d uploads are broken off: they did not end in time", lifecycle.in_flight)
    served.server.pre_shutdown()
    left_s = max(deadline_s - asyncio.get_running_loop().time(), _LAST_S)
    # aiohttp waits this long twice: for handlers to end, then for those whose request's body it broke off.
    await served.server.shutdown(left_s / 2)


async def _left(served: web.AppRunner, *, within_s: float) -> None:
    """Wait until no connection is open, within a limit."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + within_s
    while served.server is not None and served.server.connections and loop.time() < ends_s:  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(_LOOK_S)


async def _stage(running: Wired, path: Path) -> None:
    """Stage a local file as the operator, through the same gate as every upload."""
    receipt = await running.services.uploads.receive(local_operator(), MAIN, parts_of(path))
    _log.info("%s: %s", receipt.status.value, receipt.filename)


def _tell_how_to_upload(running: Wired, config: Config, port: int, files: Sequence[Path]) -> None:
    if running.rebuilt is not None:
        _log.info("%d staged files loaded in %.2f s", running.rebuilt.files, running.rebuilt.took_s)
    if running.admin_token_file is not None and not files:
        print(
            f"  twine upload --repository-url {root(config, port)}/legacy/ -u __token__ "
            f"-p $(cat {running.admin_token_file}) dist/*",
            flush=True,
        )


def _bound_port(served: web.AppRunner) -> int:
    address = served.addresses[0]
    return int(address[1])


def _looped(main: Coroutine[None, None, int]) -> int:
    """Run on uvloop where it is installed (CPython on Linux and macOS)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as looped:
        return looped.run(main)
