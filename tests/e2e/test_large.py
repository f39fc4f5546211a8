"""Large files go through the real server at constant memory, up and down, and broken downloads are resumed."""

import hashlib
import os
import random
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.builders import EPOCH, metadata
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, basic
from tests.served import Served

MIB: Final = 1024 * 1024
RISE_LIMIT_BYTES: Final = 64 * MIB
FILENAME: Final = "demo-1.0-py3-none-any.whl"
_CHUNK: Final = random.Random(1).randbytes(MIB)


def _large_wheel(path: Path, size_mib: int) -> str:
    """Build a valid wheel of about this size from the disk to the disk; return its sha256."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(zipfile.ZipInfo("demo/noise", EPOCH), "w", force_zip64=True) as member:
            for number in range(size_mib):
                member.write(number.to_bytes(8, "big") + _CHUNK[8:])
        for name, body in {
            "METADATA": metadata("demo", "1.0"),
            "WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": b"demo/noise,,\ndemo-1.0.dist-info/METADATA,,\ndemo-1.0.dist-info/WHEEL,,\n",
        }.items():
            archive.writestr(zipfile.ZipInfo(f"demo-1.0.dist-info/{name}", EPOCH), body)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Memory:
    """The peak of a process's resident memory since it was last asked for, as the kernel counts it."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def reset(self) -> int:
        """Forget the peak; return what is resident now."""
        (self._folder / "clear_refs").write_text("5")
        return self._read("VmRSS")

    def peak(self) -> int:
        return self._read("VmHWM")

    def _read(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
        raise LookupError(name)


async def _upload(session: aiohttp.ClientSession, url: str, path: Path, sha256: str) -> None:
    data = aiohttp.FormData()
    for name, value in (("name", "demo"), ("version", "1.0"), ("filetype", "bdist_wheel"), ("sha256_digest", sha256)):
        data.add_field(name, value)
    with path.open("rb") as file:
        data.add_field("content", file, filename=FILENAME, content_type="application/octet-stream")
        async with session.post(f"{url}/legacy/", data=data, headers=basic(ADMIN)) as response:
            assert response.status == 200, await response.text()


async def _url_of(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}/api/v1/staged") as response:
        (file,) = (await response.json())["files"]
        assert isinstance(file["url"], str)
        return file["url"]


async def _hash(chunks: AsyncIterator[bytes], *, after: bytes = b"") -> tuple[int, str]:
    digest, size = hashlib.sha256(after), len(after)
    async for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


async def _goes_up_and_down(tmp_path: Path, size_mib: int, timeout_s: float) -> None:
    path = tmp_path / FILENAME
    sha256 = _large_wheel(path, size_mib)
    size = path.stat().st_size
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with (
        ScriptedIndex() as index,
        Served(tmp_path / "store", index.simple_url) as served,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        memory = Memory(served.pid)
        before = memory.reset()
        await _upload(session, served.url, path, sha256)
        up = memory.peak() - before
        url = await _url_of(session, served.url)
        before_download = memory.reset()
        async with session.get(url) as response:
            etag = response.headers["ETag"]
            assert await _hash(response.content.iter_any()) == (size, sha256)
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
