"""Large files go through the real server at constant memory, up and down, and broken downloads are resumed."""

import hashlib
import os
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.fakes.index import ScriptedIndex
from tests.large import FILENAME, MIB, Memory, hash_of, large_wheel, upload, url_of
from tests.served import Served

RISE_LIMIT_BYTES: Final = 64 * MIB


async def _goes_up_and_down(tmp_path: Path, size_mib: int, timeout_s: float) -> None:
    path = tmp_path / FILENAME
    sha256 = large_wheel(path, size_mib)
    size = path.stat().st_size
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with (
        ScriptedIndex() as index,
        Served(tmp_path / "store", index.simple_url) as served,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        memory = Memory(served.pid)
        before = memory.reset()
        await upload(session, served.url, path, sha256)
        up = memory.peak() - before
        url = await url_of(session, served.url)
        before_download = memory.reset()
        async with session.get(url) as response:
            etag = response.headers["ETag"]
            assert await hash_of(response.content.iter_any()) == (size, sha256)
        down = memory.peak() - before_download
        await _resumes(session, url, path, etag, size, sha256)
        print(f"{size / MIB:.0f} MiB: memory rose by {up / MIB:.1f} MiB up and {down / MIB:.1f} MiB down")
        assert up < RISE_LIMIT_BYTES
        assert down < RISE_LIMIT_BYTES
        assert memory.peak() - before < RISE_LIMIT_BYTES


async def _resumes(session: aiohttp.ClientSession, url: str, path: Path, etag: str, size: int, sha256: str) -> None:
    """Break a download off in the middle, then ask for the rest of the same file, and of another."""
    wanted = size // 2 + 12_345
    async with session.get(url) as response:
        digest = hashlib.sha256(await response.content.readexactly(wanted))
        response.close()
    async with session.get(url, headers={"Range": f"bytes={wanted}-", "If-Range": etag}) as response:
        assert response.status == 206
        assert response.headers["Content-Range"] == f"bytes {wanted}-{size - 1}/{size}"
        got = wanted
        async for chunk in response.content.iter_any():
            digest.update(chunk)
            got += len(chunk)
    assert (got, digest.hexdigest()) == (size, sha256)
    async with session.get(url, headers={"Range": f"bytes={wanted}-", "If-Range": '"another"'}) as response:
        assert response.status == 200
        assert response.content_length == size
        response.close()
    with path.open("rb") as file:
        file.seek(-1000, os.SEEK_END)
        async with session.get(url, headers={"Range": "bytes=-1000"}) as response:
            assert (response.status, await response.read()) == (206, file.read())


async def test_64_mib_go_up_and_down_at_constant_memory(tmp_path: Path) -> None:
    """And a download that broke off is resumed by Range and If-Range."""
    await _goes_up_and_down(tmp_path, 64, timeout_s=60)


@pytest.mark.slow
async def test_a_gibibyte_goes_up_and_down_at_constant_memory(tmp_path: Path) -> None:
    """The same with the largest file that the default limit allows, nearly."""
    await _goes_up_and_down(tmp_path, 1023, timeout_s=600)
