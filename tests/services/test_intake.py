"""What an upload leaves behind on this machine: nothing."""

import asyncio
from pathlib import Path

import pytest

from overlay.services.intake import local
from tests.fakes.blobs import MemoryWriter


async def test_a_caller_who_leaves_while_the_spool_is_being_opened_leaves_no_file(tmp_path: Path) -> None:
    """The thread that opens it cannot be stopped, and goes on to make it."""

    async def open_and_leave() -> None:
        async with local(MemoryWriter(), tmp_path / "spool"):
            raise AssertionError

    task = asyncio.ensure_future(open_and_leave())
    await asyncio.sleep(0)  # until it waits for the thread
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []
