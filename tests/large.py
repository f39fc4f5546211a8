"""Large files on disk, and the memory of the processes that they go through."""

import hashlib
import random
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp

from tests.builders import EPOCH, metadata
from tests.running import ADMIN, basic

MIB: Final = 1024 * 1024
FILENAME: Final = "demo-1.0-py3-none-any.whl"
_CHUNK: Final = random.Random(1).randbytes(MIB)


def large_wheel(path: Path, size_mib: int) -> str:
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


async def hash_of(chunks: AsyncIterator[bytes], *, after: bytes = b"") -> tuple[int, str]:
    digest, size = hashlib.sha256(after), len(after)
    async for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


async def upload(session: aiohttp.ClientSession, url: str, path: Path, sha256: str) -> None:
    data = aiohttp.FormData()
    for name, value in (("name", "demo"), ("version", "1.0"), ("filetype", "bdist_wheel"), ("sha256_digest", sha256)):
        data.add_field(name, value)
    with path.open("rb") as file:
        data.add_field("content", file, filename=FILENAME, content_type="application/octet-stream")
        async with session.post(f"{url}/legacy/", data=data, headers=basic(ADMIN)) as response:
            assert response.status == 200, await response.text()


async def url_of(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}/api/v1/staged") as response:
        (file,) = (await response.json())["files"]
        assert isinstance(file["url"], str)
        return file["url"]
