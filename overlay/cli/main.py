"""The command line: `overlay serve` serves in this process, everything else asks a server over HTTP.

Parsing needs nothing but argparse, so `overlay --version` and `--help` start fast; a command imports what it needs.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from overlay import __version__
from overlay.cli.commands import add_commands
from overlay.cli.outcome import DONE, FAILED, CommandFailed
from overlay.cli.outlet import Outlet, give_up
from overlay.cli.runner import Runner
from overlay.cli.tables import printable

_HAPPY_PATH = """\
An index in front of PyPI: every live project, plus what you have staged.

    overlay serve                                        # http://127.0.0.1:8080; its token is in data/admin-token
    export OVERLAY_URL=http://127.0.0.1:8080 OVERLAY_TOKEN=$(cat data/admin-token)
    python -m build                                      # once; these very bytes will be released
    twine upload --repository-url $OVERLAY_URL/legacy/ -u __token__ -p "$OVERLAY_TOKEN" dist/*  # PyPI sees nothing
    pip install --index-url $OVERLAY_URL/simple/ demo==1.1      # staged demo, live dependencies
    overlay show demo==1.1                               # files, digests, and what PyPI would refuse
    overlay promote dist/*                               # the staged bytes to PyPI, wheels first, sdist last
"""

_EPILOG = """\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused.
OVERLAY_URL names the server and OVERLAY_TOKEN holds the token for it; help in a browser: $OVERLAY_URL/help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` is without the program's name."""
    _open_what_is_closed()
    try:
        return _run(parser().parse_args(argv))
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                give_up(stream)


def _run(arguments: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int] = arguments.run
    said = Outlet(sys.stderr)
    try:
        code = run(arguments)
        sys.stdout.flush()
    except CommandFailed as err:
        for line in str(err).splitlines():
            said.write(Runner.of(os.environ).inert(f"overlay: {printable(line)}") + "\n")
        return err.code
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:  # the reader went away: `overlay list | head`
        return DONE
    except OSError as err:
        why = f"the output cannot be written: {err.strerror or err}" if _is_stuck(sys.stdout) else str(err)
        said.write(Runner.of(os.environ).inert(f"overlay: {printable(why)}") + "\n")
        return FAILED
    return code


def _is_stuck(stream: TextIO) -> bool:
    """Say whether a stream cannot be written: it keeps what it could not send on, and fails with that again."""
    try:
        stream.flush()
    except OSError:
        return True
    return False


def _open_what_is_closed() -> None:
    """Give every standard stream a descriptor (`2>&-` takes it away): else a connection gets its number, and words."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - it stays open as long as the process
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - as above
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - as above


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        prog="overlay",
        description=_HAPPY_PATH,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="overlay [--version] COMMAND …      (overlay COMMAND --help says more)",
    )
    top.add_argument("--version", action="version", version=f"overlay {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="overlay")
    add_commands(commands)
    return top
