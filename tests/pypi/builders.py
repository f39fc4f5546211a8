"""Releases of several projects that need each other, and large files, for the scripted PyPI and other upstreams."""

import gzip
import hashlib
import random
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.builders import EPOCH, Built, metadata, sdist, wheel

PLATFORMS: Final = (
    "py3-none-any",
    "cp311-cp311-manylinux_2_17_x86_64",
    "cp312-cp312-manylinux_2_17_x86_64",
    "cp313-cp313-manylinux_2_17_x86_64",
    "cp311-cp311-macosx_11_0_arm64",
    "cp312-cp312-macosx_11_0_arm64",
    "cp313-cp313-win_amd64",
)
FLAG_DAY: Final[Mapping[str, Sequence[str]]] = {
    "flag-core": (),
    "flag-wire": ("flag-core",),
    "flag-store": ("flag-core",),
    "flag-server": ("flag-wire", "flag-store"),
    "flag-all": ("flag-server", "flag-store"),
}
"""Five projects and what they need of each other; no order by name or number is an order by need."""

MIB: Final = 2**20
_NOISE: Final = random.Random(1).randbytes(MIB)


def release(name: str, version: str, *, requires: Sequence[str] = (), wheels: int = 1) -> list[Built]:
    """Build the wheels of a release, one per platform, and its sdist."""
    built = [wheel(name, version, requires=requires, tag=tag) for tag in PLATFORMS[:wheels]]
    return [*built, sdist(name, version, requires=requires)]


def flag_day(version: str = "2.0", *, wheels: int = 7) -> dict[str, list[Built]]:
    """Build one version of all projects of FLAG_DAY, each needing just this version of others: 5 × 8 files."""
    return {
        name: release(name, version, requires=[f"{other}=={version}" for other in needs], wheels=wheels)
        for name, needs in FLAG_DAY.items()
    }


@dataclass(frozen=True)
class BuiltOnDisk:
    """A distribution file that was never in memory."""

    path: Path
    sha256: str

    @property
    def filename(self) -> str:
        return self.path.name

    def read(self) -> Built:
        """Take it into memory after all, where that does not matter."""
        return Built(self.filename, self.path.read_bytes())


def large_wheel(folder: Path, name: str, version: str, size_bytes: int) -> BuiltOnDisk:
    """Build a wheel of about this size to the disk, without compression."""
    stem = f"{name.replace('-', '_').lower()}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    members = {
        "METADATA": metadata(name, version),
        "WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": f"noise.bin,,\n{stem}.dist-info/METADATA,,\n{stem}.dist-info/RECORD,,\n".encode(),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(zipfile.ZipInfo("noise.bin", EPOCH), "w") as member:
            for block in _noise(size_bytes):
                member.write(block)
        for member_name, body in members.items():
            archive.writestr(zipfile.ZipInfo(f"{stem}.dist-info/{member_name}", EPOCH), body)
    return _hashed(path)


def large_sdist(folder: Path, name: str, version: str, size_bytes: int) -> BuiltOnDisk:
    """Build an sdist of about this size to the disk; its noise does not get smaller by compression."""
    stem = f"{name.replace('-', '_').lower()}-{version}"
    path = folder / f"{stem}.tar.gz"
    noise = folder / f"{stem}.noise"
    with noise.open("wb") as file:
        file.writelines(_noise(size_bytes))
    pkg_info = folder / f"{stem}.pkg-info"
    pkg_info.write_bytes(metadata(name, version))
    with (
        path.open("wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0, compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for source, inside in ((pkg_info, "PKG-INFO"), (noise, "noise.bin")):
            archive.add(source, f"{stem}/{inside}", filter=_anonymous)
            source.unlink()
    return _hashed(path)


def _noise(size_bytes: int) -> Iterator[bytes]:
    """Yield bytes of which no two blocks are the same."""
    for number in range(size_bytes // MIB):
        yield number.to_bytes(8, "big") + _NOISE[8:]
    yield _NOISE[: size_bytes % MIB]


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
    return member


def _hashed(path: Path) -> BuiltOnDisk:
    with path.open("rb") as file:
        return BuiltOnDisk(path, hashlib.file_digest(file, "sha256").hexdigest())
