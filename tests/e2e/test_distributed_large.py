"""Large files go through S3 at constant memory, up by one host and down by another; nothing stays on local disk."""

import hashlib
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.distributed import backing_in, hosts, workers
from tests.fakes.index import ScriptedIndex
from tests.large import FILENAME, MIB, Memory, hash_of, large_wheel, upload, url_of
from tests.served import Served

pytestmark = pytest.mark.hosts

RISE_LIMIT_BYTES: Final = 96 * MIB


class Watched:
    """The memory of every worker of some hosts."""

    def __init__(self, *served: Served) -> None:
        self._of = {process.pid: Memory(process.pid) for host in served for process in workers(host)}
        self._before = {pid: memory.reset() for pid, memory in self._of.items()}

    def __len__(self) -> int:
        return len(self._of)

    def rise(self) -> int:
        """Return by how much the memory of the worst of them rose at its peak."""
        return max(memory.peak() - self._before[pid] for pid, memory in self._of.items())


async def _goes_through_s3(tmp_path: Path, size_mib: int, timeout_s: float) -> None:
    path = tmp_path / FILENAME
    sha256 = large_wheel(path, size_mib)
    size = path.stat().st_size
    local = {"OVERLAY_SERVER_LOCAL_PATH": str(tmp_path / "local")}
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    with backing_in(tmp_path) as backing:
        async with (
            ScriptedIndex() as index,
            hosts(backing, index.simple_url, "a", "b", workers=2, **local) as (first, second),
            aiohttp.ClientSession(timeout=timeout) as session,
        ):
            watched = Watched(first, second)
            assert len(watched) == 4
            await upload(session, first.url, path, sha256)
            up = watched.rise()
            url = await url_of(session, second.url)
            async with session.get(url) as response:
                assert await hash_of(response.content.iter_any()) == (size, sha256)
            await _reads_on(session, url, path)
            both = watched.rise()
            print(f"{size / MIB:.0f} MiB: a worker's memory rose by {up / MIB:.1f} MiB up, {both / MIB:.1f} MiB in all")
            assert both < RISE_LIMIT_BYTES
            assert len([found for found in (tmp_path / "local").glob("*/spool/*") if found.is_file()]) == 0


async def _reads_on(session: aiohttp.ClientSession, url: str, path: Path) -> None:
    """Ask for the second half, as one does whose download broke off."""
    size = path.stat().st_size
    middle = size // 2 + 12_345
    with path.open("rb") as file:
        file.seek(middle)
        wanted = hashlib.file_digest(file, "sha256").hexdigest()
    async with session.get(url, headers={"Range": f"bytes={middle}-"}) as response:
        assert response.status == 206
        assert await hash_of(response.content.iter_any()) == (size - middle, wanted)


async def test_64_mib_go_through_s3_both_ways_at_constant_memory(tmp_path: Path) -> None:
    """No worker of either host takes 96 MiB for it."""
    await _goes_through_s3(tmp_path, 64, timeout_s=120)


@pytest.mark.slow
async def test_a_gibibyte_goes_through_s3_both_ways_at_constant_memory(tmp_path: Path) -> None:
    """The same with the largest file that the default limit allows, nearly."""
    await _goes_through_s3(tmp_path, 1023, timeout_s=900)
