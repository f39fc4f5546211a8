"""Durable files on a local disk: write beside, fsync, rename, fsync the folders (design §5).

A rename makes the new name visible at once and whole; POSIX makes it durable only once the folder is synced too.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from itertools import count
from pathlib import Path

from overlay.domain.errors import StoreInUse


def spool_file(spool: Path) -> Path:
    """Name a new temporary file; whatever lies in the spool is rubbish when the store opens."""
    return spool / secrets.token_hex(16)


def write_durably(path: Path, body: bytes, *, spool: Path) -> None:
    """Replace the file whole; afterwards it survives a power cut."""
    temporary = spool_file(spool)
    try:
        with temporary.open("xb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def publish(temporary: Path, path: Path) -> None:
    """Rename a synced file into place and sync its folder, making folders as needed."""
    while True:
        make_folders(path.parent)
        try:
            temporary.replace(path)
            sync_folder(path.parent)
        except FileNotFoundError:
            # Between the two lines a delete found the folder empty and removed it; or the temporary file is gone.
            if not temporary.exists() and not path.exists():
                raise
        else:
            return


def make_folders(folder: Path) -> None:
    """Make the folder and its parents durably; a folder's name lives in its parent."""
    while not folder.is_dir():
        make_folders(folder.parent)
        # Others make and remove the same folders at the same time: look again after either.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            folder.mkdir(mode=0o750)
        _sync_nearest(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_durably(path: Path, *, up_to: Path) -> None:
    """Delete the file, and the folders above it that are left empty, below `up_to`."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    folder = path.parent
    while folder != up_to:
        try:
            folder.rmdir()
        except OSError:  # not empty, removed by another delete, or made anew by another upload
            break
        folder = folder.parent
    _sync_nearest(path.parent)


def _sync_nearest(folder: Path) -> None:
    """Make an entry's absence durable: sync its folder, or where that is gone too, the nearest one that is left."""
    while True:
        try:
            sync_folder(folder)
        except FileNotFoundError:
            folder = folder.parent
        else:
            return


class DirectoryLock:
    """The exclusive lock of a store's directory, held until `release`, or until the process ends however it ends."""

    def __init__(self, root: Path) -> None:
        """Lock the directory (made if needed). Raises StoreInUse, naming the holder's process id."""
        root.mkdir(mode=0o750, parents=True, exist_ok=True)
        path = root / "lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StoreInUse(str(root), holder) from err
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another server have the directory."""
        os.close(self._descriptor)


def own_folder(root: Path) -> tuple[Path, DirectoryLock]:
    """Take the first numbered folder below `root` that no living process has; a later process finds its content again.

    The lock is the caller's to release.
    """
    for number in count(1):
        folder = root / str(number)
        with contextlib.suppress(StoreInUse):
            return folder, DirectoryLock(folder)
    raise AssertionError


def refuse_if_locked(root: Path) -> None:
    """Look at the directory's lock without taking it or making it. Raises StoreInUse."""
    try:
        lock = (root / "lock").open("rb")
    except FileNotFoundError:
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise StoreInUse(str(root), lock.read(32).decode("ascii", "replace").strip()) from err


def empty_spool(root: Path) -> Path:
    """Make the store's spool anew, without what a killed process left in it, and return it."""
    spool = root / "spool"
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir(mode=0o750, parents=True)
    return spool


def empty_left_spools(root: Path) -> None:
    """Empty the spools of the numbered folders below `root` whose processes have ended; the others are locked."""
    for spool in root.glob("*/spool"):
        with contextlib.suppress(StoreInUse):
            lock = DirectoryLock(spool.parent)
            shutil.rmtree(spool, ignore_errors=True)
            lock.release()
