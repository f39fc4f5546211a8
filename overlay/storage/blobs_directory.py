"""Blobs in a directory: `<root>/blobs/<upload-id>/<filename>`."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from io import FileIO
from pathlib import Path
from typing import Final

from overlay.caching.local_disk import translating, write_whole
from overlay.caching.threads import in_thread
from overlay.domain.errors import BlobNotFound
from overlay.domain.ports import BlobInfo, BlobKey
from overlay.storage.files import publish, remove_durably, spool_file

READ_BYTES: Final = 256 * 1024  # measured: larger reads gain nothing, smaller ones cost a thread switch each
_LIST_BATCH: Final = 512


class DirectoryBlobs:
    """BlobStore over a local directory; `spool` must lie on the same file system."""

    def __init__(self, root: Path, spool: Path) -> None:
        """Use `<root>/blobs`, made if needed."""
        self._folder = root / "blobs"
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._spool = spool

    @contextlib.asynccontextmanager
    async def create(self, key: BlobKey) -> AsyncIterator["DirectoryWriter"]:
        """Write one blob; see BlobStore."""
        temporary = spool_file(self._spool)
        opened = contextlib.ExitStack()
        committed = False
        try:
            # A cancellation waits for the thread: the file is open then, and nobody was given it.
            file = await in_thread(lambda: opened.enter_context(_open_new(temporary)))
            yield DirectoryWriter(temporary, file)
            await in_thread(_commit, file, temporary, self._path(key))
            committed = True
        finally:
            opened.close()
            if not committed:
                temporary.unlink(missing_ok=True)
                # A cancellation waits for the thread, which may have renamed the file by then.
                remove_durably(self._path(key), up_to=self._folder)

    async def size(self, key: BlobKey) -> int:
        """Return the bytes stored under the key."""
        with translating(f"looking for the blob {key}"):
            try:
                return (await in_thread(self._path(key).stat)).st_size
            except FileNotFoundError as err:
                raise BlobNotFound(key) from err

    async def read(self, key: BlobKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield [start, stop) in chunks of 256 KiB, reading one ahead of the consumer."""
        file = await in_thread(self._open, key, start)
        left = None if stop is None else max(stop - start, 0)
        pending: asyncio.Task[bytes] | None = None
        try:
            pending = asyncio.ensure_future(in_thread(_read_some, file, left))
            while chunk := await pending:
                left = None if left is None else left - len(chunk)
                pending = asyncio.ensure_future(in_thread(_read_some, file, left))
                yield chunk
        finally:
            if pending is not None and not pending.done():
                await asyncio.wait({pending})
            file.close()

    async def locate(self, key: BlobKey) -> Path:
        """Return the blob's file. Raises BlobNotFound."""
        path = self._path(key)
        if not await in_thread(path.is_file):
            raise BlobNotFound(key)
        return path

    async def delete(self, key: BlobKey) -> None:
        """Delete the blob and its folder once that is empty."""
        with translating(f"deleting the blob {key}"):
            await in_thread(remove_durably, self._path(key), up_to=self._folder)

    async def infos(self) -> AsyncIterator[BlobInfo]:
        """List every blob."""
        infos = self._walk()
        while batch := await in_thread(_take, infos):
            for info in batch:
                yield info

    async def abandon(self, *, begun_before_s: float) -> int:
        """Delete files from the spool; there are none unless something failed, as the store opens with an empty one."""
        with translating("clearing the spool"):
            return await in_thread(_clear, self._spool, begun_before_s)

    def _path(self, key: BlobKey) -> Path:
        return self._folder / key

    def _open(self, key: BlobKey, start: int) -> FileIO:
        with translating(f"opening the blob {key}"):
            try:
                file = self._path(key).open("rb", buffering=0)
            except FileNotFoundError as err:
                raise BlobNotFound(key) from err
        file.seek(start)
        return file

    def _walk(self) -> Iterator[BlobInfo]:
        for folder in os.scandir(self._folder):
            empty = True
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(folder.path):
                    empty = False
                    stat = entry.stat()
                    yield BlobInfo(BlobKey(f"{folder.name}/{entry.name}"), stat.st_size, stat.st_mtime)
            if empty:  # a kill left it; `publish` makes it anew if it stands between the folder and the blob
                with contextlib.suppress(OSError):
                    Path(folder.path).rmdir()


class DirectoryWriter:
    """BlobWriter into a temporary file."""

    def __init__(self, path: Path, file: FileIO) -> None:
        """Write through `file`, which its opener closes."""
        self.path = path
        self._file = file

    async def write(self, chunk: bytes) -> None:
        """Append the chunk in a thread."""
        with translating("writing an upload"):
            await in_thread(write_whole, self._file, chunk)


def _open_new(path: Path) -> FileIO:
    with translating("opening a new blob"):
        return FileIO(path, "xb")  # unbuffered: what is written can be read by path


def _commit(file: FileIO, temporary: Path, path: Path) -> None:
    with translating("committing an upload"):
        os.fsync(file.fileno())
        publish(temporary, path)


def _clear(spool: Path, begun_before_s: float) -> int:
    count = 0
    for entry in os.scandir(spool):
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime < begun_before_s:
                Path(entry.path).unlink()
                count += 1
    return count


def _read_some(file: FileIO, left: int | None) -> bytes:
    with translating("reading a blob"):
        return file.read(READ_BYTES if left is None else min(READ_BYTES, left))


def _take(infos: Iterator[BlobInfo]) -> list[BlobInfo]:
    with translating("listing the blobs"):
        return list(itertools.islice(infos, _LIST_BATCH))
