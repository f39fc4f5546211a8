"""The folder in which the workers of a host share what they count (the multiprocess mode of `prometheus_client`).

The library keeps the files of every process that ever counted, and each scrape reads all of them: after a hundred
ended workers it took more than a second. So what an ended worker counted is added to files that stand for all of the
ended. Readers and the one who adds hold a lock: nothing is seen twice, or not at all.
"""

import contextlib
import fcntl
import logging
import struct
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

_log = logging.getLogger("overlay")


def worker_ended(folder: Path, pid: int) -> None:
    """Forget what only a living worker has, and keep what it counted; once for each, by whoever started it."""
    with _locked(folder, fcntl.LOCK_EX):
        mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        for kind in ("counter", "histogram"):
            path = folder / f"{kind}_{pid}.db"
            if path.exists():
                _add(path, folder / f"{kind}_ended.db")
                path.unlink()


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep the files as they are, but for what living workers count meanwhile. Blocks for milliseconds."""
    with _locked(folder, fcntl.LOCK_SH):
        yield


def _add(path: Path, ended: Path) -> None:
    try:
        values = list(MmapedDict.read_all_values_from_file(str(path)))  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, struct.error) as err:  # it was killed while it made the file
        _log.warning("The metrics of an ended worker cannot be read: %s", err)
        return
    sums = MmapedDict(str(ended))  # type: ignore[no-untyped-call]
    try:
        for key, value, _timestamp, _position in values:
            held, _ = sums.read_value(key)  # type: ignore[no-untyped-call]
            sums.write_value(key, held + value, 0.0)  # type: ignore[no-untyped-call]
    finally:
        sums.close()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, how)
        yield
