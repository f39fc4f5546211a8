"""The directory store on its own disk; what every BlobStore does: tests/conformance."""

import asyncio
from pathlib import Path

import pytest

from overlay.domain.ports import BlobKey
from overlay.storage.blobs_directory import DirectoryBlobs
from overlay.storage.files import empty_spool

KEY = BlobKey("0123456789abcdef0123456789abcdef/demo-1.0.tar.gz")


async def test_a_caller_who_leaves_while_a_file_is_being_opened_leaves_none(tmp_path: Path) -> None:
    """The thread that opens it cannot be stopped, and goes on to make it."""
    spool = empty_spool(tmp_path)
    blobs = DirectoryBlobs(tmp_path, spool)

    async def create_and_leave() -> None:
        async with blobs.create(KEY):
            raise AssertionError

    task = asyncio.ensure_future(create_and_leave())
    await asyncio.sleep(0)  # until it waits for the thread
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(spool.iterdir()) == []
