"""SIGHUP, which means two things: "read your configuration anew", and "your terminal is gone"."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable


def on_hangup(loop: asyncio.AbstractEventLoop, *, reload: Callable[[], None], stop: Callable[[], None]) -> None:
    """Call `stop` when the terminal that standard input was at the start is gone, else `reload`."""
    terminal = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None

    def hang_up() -> None:
        gone = terminal is not None and not os.isatty(terminal)  # a closed one does not answer what it is
        (stop if gone else reload)()

    loop.add_signal_handler(signal.SIGHUP, hang_up)
