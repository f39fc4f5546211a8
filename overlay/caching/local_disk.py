"""The system's errors in our words, and writes that are whole: for everything that keeps files on a local disk."""

import contextlib
import errno
from collections.abc import Iterator
from io import FileIO
from typing import Final

from overlay.domain.errors import OverlayError, StoreFull, StoreUnavailable

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def translated(err: OSError, doing: str) -> OverlayError:
    """Turn the system's error into ours: what was tried, and why it failed."""
    if err.errno in _FULL:
        return StoreFull(f"The disk is full: {doing} failed ({err.strerror}). Free space or raise the quota.")
    return StoreUnavailable(f"The store failed while {doing}: {err.strerror or err}.")


@contextlib.contextmanager
def translating(doing: str) -> Iterator[None]:
    """Translate what the system raises; FileNotFoundError is the caller's to interpret first."""
    try:
        yield
    except OSError as err:
        raise translated(err, doing) from err


def write_whole(file: FileIO, chunk: bytes) -> None:
    """Write all of the chunk to an unbuffered file; write(2) itself stores what fits and says how much that was."""
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]
