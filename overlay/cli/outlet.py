"""The standard streams of a command whose exit code says more than whether somebody read its words."""

import contextlib
import io
import os
from collections.abc import Callable
from typing import TextIO


class Outlet:
    """Passes words on to a stream until one write fails, then takes all and writes nothing; raises no OSError."""

    def __init__(self, stream: TextIO) -> None:
        self.broken: OSError | None = None
        """Why nothing is written any more."""
        self._stream = stream

    @property
    def encoding(self) -> str:
        """What the stream writes its text in."""
        return self._stream.encoding

    def isatty(self) -> bool:
        """Say whether a terminal shows it."""
        return self._stream.isatty()

    def write(self, text: str) -> int:
        """Write as long as that works; return how many letters were taken, which is all."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Send on what is buffered, as long as that works."""
        self._try(self._stream.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if self.broken is not None:
            return
        try:
            act()
        except OSError as err:
            self.broken = err
            give_up(self._stream)


def give_up(stream: TextIO) -> None:
    """Send what is still buffered nowhere: the interpreter would fail with it at exit, and choose the exit code."""
    with contextlib.suppress(io.UnsupportedOperation):  # a stream without a descriptor keeps nothing for the exit
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
