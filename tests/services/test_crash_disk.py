"""A disk that is full, a process without free descriptors: each is said, never taken for an answer."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlay.domain.errors import StoreFull, StoreUnavailable
from overlay.domain.ports import BlobKey
from overlay.services.intake import local
from overlay.services.rebuild import rebuild
from overlay.services.sweep import sweep
from overlay.storage.blobs_directory import DirectoryBlobs
from overlay.storage.documents_directory import DirectoryDocuments
from overlay.storage.files import empty_spool
from overlay.storage.ledger_memory import MemoryLedger
from tests.fakes.blobs import MemoryBlobs

KEY = BlobKey("0123456789abcdef0123456789abcdef/demo-1.0.tar.gz")
LIMIT_BYTES = 1_000_100


@contextlib.contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    """Give this process so much of it, for a moment."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def no_more_files() -> contextlib.AbstractContextManager[None]:
    """No file or folder can be opened."""
    lowest_free = os.dup(0)
    os.close(lowest_free)
    return limited(resource.RLIMIT_NOFILE, lowest_free)


@pytest.mark.parametrize("last_chunk", [101, 200_000])
async def test_a_chunk_that_fits_only_in_part_is_a_full_disk(tmp_path: Path, last_chunk: int) -> None:
    """write(2) stores what fits and says how much; taken for success, a blob would lack its end."""
    blobs = DirectoryBlobs(tmp_path, empty_spool(tmp_path))

    async def write() -> None:
        async with blobs.create(KEY) as writer:
            await writer.write(b"x" * (LIMIT_BYTES - 100))
            await writer.write(b"x" * last_chunk)

    with limited(resource.RLIMIT_FSIZE, LIMIT_BYTES), pytest.raises(StoreFull):
        await write()
    assert [info async for info in blobs.infos()] == []
    assert list((tmp_path / "spool").iterdir()) == []


async def test_the_spool_beside_a_remote_store_can_be_full_too(tmp_path: Path) -> None:
    """The local copy that is read for checking is as long as the upload, or the upload fails."""

    async def write() -> None:
        async with MemoryBlobs().create(KEY) as remote, local(remote, tmp_path / "copy") as (writer, _):
            await writer.write(b"x" * (LIMIT_BYTES - 100))
            await writer.write(b"x" * 101)

    with limited(resource.RLIMIT_FSIZE, LIMIT_BYTES), pytest.raises(StoreFull):
        await write()
    assert list(tmp_path.iterdir()) == []


async def test_folders_that_cannot_be_listed_are_no_empty_store(tmp_path: Path) -> None:
    """Taken for one, a sweep would delete every blob there is, and a rebuild would serve nothing."""
    blobs, documents = DirectoryBlobs(tmp_path, empty_spool(tmp_path)), DirectoryDocuments(tmp_path, tmp_path / "spool")
    await documents.put("records/demo/0123456789abcdef0123456789abcdef.json", b"{}")
    with no_more_files(), pytest.raises(StoreUnavailable):
        assert [key async for key in documents.keys("records/")]
    with no_more_files(), pytest.raises(StoreUnavailable):
        await rebuild(documents, MemoryLedger(lambda: 1), lambda: 1)
    async with blobs.create(KEY) as writer:
        await writer.write(b"bytes")
    with no_more_files(), pytest.raises(StoreUnavailable):
        await sweep(blobs, documents, ended_before_s=4e9, orphaned_before_s=4e9)
    assert await blobs.size(KEY) == 5


async def test_a_folder_that_a_kill_left_empty_goes_at_the_next_listing(tmp_path: Path) -> None:
    """The folder is made before the blob is renamed into it, and removed after the blob."""
    blobs = DirectoryBlobs(tmp_path, empty_spool(tmp_path))
    (tmp_path / "blobs" / "0123456789abcdef0123456789abcdef").mkdir()
    assert [info async for info in blobs.infos()] == []
    assert list((tmp_path / "blobs").iterdir()) == []
