"""`overlay serve`, `overlay check`, `overlay config`: what needs the configuration."""

import argparse
import asyncio
import dataclasses
import logging
import os
import sys
from pathlib import Path

from overlay.cli.outcome import DONE, FAILED, USAGE
from overlay.config.checks import checked
from overlay.config.loading import load
from overlay.config.showing import shown
from overlay.config.tables import Config
from overlay.domain.errors import InvalidConfig, OverlayError, StoreInUse
from overlay.packed import packed
from overlay.web.log_format import LogForm, configure_logging


def serve(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, in this process or in workers."""
    try:
        config = _overridden(_load(arguments), arguments)
        configure_logging(LogForm(config.server.log), sys.stderr)
        files = [Path(name) for name in arguments.with_files or ()]
        if config.server.workers > 1 and not files and arguments.inherited is None:
            from overlay.cli import supervisor

            return supervisor.run(config, _options(arguments))
        from overlay.cli import worker

        handed_on = arguments.inherited
        inherited = None if handed_on is None else worker.Inherited.of(handed_on, trial=arguments.trial)
        return worker.run(config, files, inherited)
    except (InvalidConfig, StoreInUse) as err:
        return _said(err, USAGE)
    except OverlayError as err:
        return _said(err, FAILED)
    except OSError as err:
        sys.stderr.write(f"overlay: {err}\n")
        return FAILED


def check(arguments: argparse.Namespace) -> int:
    """Check the configuration, the store, the ledger and upstream, one line each."""
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


def _options(arguments: argparse.Namespace) -> list[str]:
    """Return what a worker is to be told again; what it reads itself it reads anew."""
    named = {name: getattr(arguments, name) for name in ("config", "host", "port", "workers")}
    return [word for name, value in named.items() if value is not None for word in (f"--{name}", str(value))]


async def _check(config: Config) -> int:
    from overlay.wiring.checking import questions

    logging.getLogger("overlay").addHandler(logging.NullHandler())  # what would be logged stands in the lines
    failed = False
    for part, question in questions(config).items():
        try:
            print(f"{part:<14} ok, {await question()}")
        except StoreInUse as err:
            print(f"{part:<14} in use by process {err.holder}, which is fine if that is your server")
        except OverlayError as err:
            failed = True
            print(f"{part:<14} FAILED: {err}")
    return FAILED if failed else DONE


def _said(err: OverlayError, code: int) -> int:
    for line in str(err).splitlines():
        sys.stderr.write(f"overlay: {line}\n")
    return code
