"""`overlay serve`, `overlay check`, `overlay config`: what runs in this process."""

import argparse
import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from aiohttp import web

from overlay.config.checks import checked
from overlay.config.loading import load
from overlay.config.showing import shown, without_userinfo
from overlay.config.tables import Config
from overlay.domain.errors import InvalidConfig, OverlayError, StoreInUse, UpstreamCorrupt, UpstreamUnavailable
from overlay.domain.names import MAIN, project_name
from overlay.packed import packed
from overlay.services.access import local_operator
from overlay.services.local_files import parts_of
from overlay.web.app import application
from overlay.web.context import Lifecycle
from overlay.web.server import runner
from overlay.wiring import Wired, rebuilt_store, upstream_client, wired

DONE, FAILED, USAGE = 0, 1, 2

# From SIGTERM to the last connection closed, whatever is under way; systemd and Kubernetes kill after 90 and 30 s by
# default. Uploads may use all of it but the last second, in which what is left is broken off and cleaned up.
_STOP_S: Final = 25.0
_LAST_S: Final = 1.0
_THREADS: Final = 32
_PROBED: Final = "pip"

_log = logging.getLogger("overlay")


def serve(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = _overridden(_load(arguments), arguments)
        return _run(_serve(config, [Path(name) for name in arguments.with_files or ()]))
    except (InvalidConfig, StoreInUse) as err:
        return _said(err, USAGE)
    except OverlayError as err:
        return _said(err, FAILED)
    except OSError as err:
        sys.stderr.write(f"overlay: {err}\n")
        return FAILED


def check(arguments: argparse.Namespace) -> int:
    """Check the configuration, the store and upstream, one line each."""
    try:
        config = _load(arguments)
    except InvalidConfig as err:
        return _said(err, USAGE)
    print("configuration  ok")
    return asyncio.run(_check(config))


def config(arguments: argparse.Namespace) -> int:
    """Print the effective configuration, secrets redacted."""
    try:
        print(shown(_load(arguments)), end="")
    except InvalidConfig as err:
        return _said(err, USAGE)
    return DONE


def _load(arguments: argparse.Namespace) -> Config:
    named = arguments.config or os.environ.get("OVERLAY_CONFIG")
    return load(Path(named) if named else packed("config.toml"), os.environ)


def _overridden(config: Config, arguments: argparse.Namespace) -> Config:
    """Let the command line win over file and environment."""
    chosen = {
        name: value for name in ("host", "port", "workers") if (value := getattr(arguments, name, None)) is not None
    }
    return checked(dataclasses.replace(config, server=dataclasses.replace(config.server, **chosen)))


async def _serve(config: Config, files: Sequence[Path]) -> int:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="overlay"))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        if files:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="overlay-"))
            config = dataclasses.replace(config, store=dataclasses.replace(config.store, path=folder))
        running = await stack.enter_async_context(wired(config, ephemeral=bool(files)))
        lifecycle = Lifecycle()
        app = application(running.services, running.web, lifecycle, now_s=running.now_s)
        served = runner(app, shutdown_timeout_s=_LAST_S, access_log=sys.stderr)
        await served.setup()
        stack.push_async_callback(served.cleanup)
        for path in files:
            await _stage(running, path)
        site = web.TCPSite(served, config.server.host, config.server.port, backlog=1024)
        await site.start()
        _announce(running, config, _bound_port(served), files)
        await stop.wait()
        await drain(served, lifecycle, within_s=_STOP_S)
    return DONE


async def drain(served: web.AppRunner, lifecycle: Lifecycle, *, within_s: float) -> None:
    """Take no new connections and no new uploads, wait for what is under way, and break off what is left in time."""
    deadline_s = asyncio.get_running_loop().time() + within_s
    lifecycle.draining = True
    _log.info("stopping; %d uploads under way", lifecycle.in_flight)
    for site in served.sites:
        await site.stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline_s - _LAST_S):
            await lifecycle.idle()
    if lifecycle.in_flight:
        _log.warning("%d uploads are broken off: they did not end in time", lifecycle.in_flight)
    if served.server is not None:
        served.server.pre_shutdown()
        left_s = max(deadline_s - asyncio.get_running_loop().time(), _LAST_S)
        # aiohttp waits this long twice: for handlers to end, then for those whose request's body it broke off.
        await served.server.shutdown(left_s / 2)


async def _stage(running: Wired, path: Path) -> None:
    """Stage a local file as the operator, through the same gate as every upload."""
    receipt = await running.services.uploads.receive(local_operator(), MAIN, parts_of(path))
    _log.info("%s: %s", receipt.status.value, receipt.filename)


def _announce(running: Wired, config: Config, port: int, files: Sequence[Path]) -> None:
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    root = running.web.public_url or f"http://{host}:{port}"
    print(f"overlay listens on {root}/ in front of {without_userinfo(config.upstream.url)}", flush=True)
    rebuilt = running.rebuilt
    _log.info("%d staged files loaded in %.2f s", rebuilt.files, rebuilt.took_s)
    print(f"  pip install --index-url {root}/simple/ PROJECT")
    if running.admin_token_file is not None and not files:
        print(
            f"  twine upload --repository-url {root}/legacy/ -u __token__ -p $(cat {running.admin_token_file}) dist/*"
        )
    sys.stdout.flush()


def _bound_port(served: web.AppRunner) -> int:
    address = served.addresses[0]
    return int(address[1])


async def _check(config: Config) -> int:
    failed = False
    try:
        rebuilt = await rebuilt_store(config)
        if rebuilt is None:
            print(f"store          ok, {config.store.path} is not there yet: the first start will make it")
        else:
            print(f"store          ok, {rebuilt.files} staged files in {config.store.path}")
    except StoreInUse as err:
        print(f"store          in use by process {err.holder}, which is fine if that is your server")
    except OverlayError as err:
        failed = True
        print(f"store          FAILED: {err}")
    try:
        async with upstream_client(config) as client:
            page = await client.fetch(project_name(_PROBED), None)
            has = f"has no {_PROBED}, but answers" if page.body is None else f"has {_PROBED} ({len(page.body):,} bytes)"
            print(f"upstream       ok, {client.settings.shown} {has}")
    except (UpstreamUnavailable, UpstreamCorrupt, InvalidConfig) as err:
        failed = True
        print(f"upstream       FAILED: {err}")
    return FAILED if failed else DONE


def _run(main: Coroutine[None, None, int]) -> int:
    """Run on uvloop where it is installed (CPython on Linux and macOS)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as looped:
        return looped.run(main)


def _said(err: OverlayError, code: int) -> int:
    for line in str(err).splitlines():
        sys.stderr.write(f"overlay: {line}\n")
    return code
