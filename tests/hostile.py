"""Builds distribution files that must be refused, each under a name; also used by the upload tests.

Every one has a filename that is fine, or is the very thing that is wrong; the form that goes with it says
`demo` and `1.0`.
"""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from tests.builders import EPOCH, Built, metadata, sdist, tar_of, wheel, zip_of

NAME: Final = "demo"
VERSION: Final = "1.0"
WHEEL: Final = "demo-1.0-py3-none-any.whl"
SDIST: Final = "demo-1.0.tar.gz"
INFO: Final = "demo-1.0.dist-info"

_ZEROS: Final = bytes(2**20)


def _wheel_member(path: str) -> Callable[[], Built]:
    return lambda: wheel(NAME, VERSION, files={path: b"out"})


def _wheel_metadata(body: bytes) -> Callable[[], Built]:
    return lambda: wheel(NAME, VERSION, metadata_body=body)


def _sdist_member(path: str) -> Callable[[], Built]:
    return lambda: Built(SDIST, tar_of({"demo-1.0/PKG-INFO": metadata(NAME, VERSION), path: b"out"}))


def _raw(filename: str, body: bytes) -> Callable[[], Built]:
    return lambda: Built(filename, body)


def _renamed(filename: str) -> Callable[[], Built]:
    return lambda: Built(filename, wheel(NAME, VERSION).body)


def tar_with(*members: tarfile.TarInfo) -> Built:
    """An sdist with a PKG-INFO and then members without data."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("demo-1.0/PKG-INFO")
        body = metadata(NAME, VERSION)
        info.size = len(body)
        archive.addfile(info, io.BytesIO(body))
        for member in members:
            archive.addfile(member)
    return Built(SDIST, buffer.getvalue())


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member


def _link(target: str, kind: bytes = tarfile.SYMTYPE) -> Callable[[], Built]:
    return lambda: tar_with(special("demo-1.0/link", kind, target))


def _zip_bomb() -> Built:
    buffer = io.BytesIO(wheel(NAME, VERSION).body)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("demo/zeros", "w") as member:
        for _ in range(100):
            member.write(_ZEROS)
    return Built(WHEEL, buffer.getvalue())


def _declared_bomb() -> Built:
    """Sizes of many gigabytes that are only claimed, in zip64 fields on both sides."""
    body = wheel(NAME, VERSION, files={"demo/a": b"x"}).body
    buffer = io.BytesIO(body)
    with zipfile.ZipFile(buffer, "a") as archive:
        for info in archive.infolist():
            if info.filename == "demo/a":
                info.file_size = 2**40
        archive.writestr(zipfile.ZipInfo("demo/b", EPOCH), b"")
    return Built(WHEEL, buffer.getvalue())


def _overlapping_bomb() -> Built:
    """Two entries of the directory that share one member's bytes (Fifield's bomb)."""
    buffer = io.BytesIO(wheel(NAME, VERSION).body)
    with zipfile.ZipFile(buffer, "a") as archive:
        first = archive.infolist()[0]
        twin = zipfile.ZipInfo(first.filename, EPOCH)
        twin.header_offset, twin.CRC = first.header_offset, first.CRC
        twin.compress_size, twin.file_size, twin.compress_type = (
            first.compress_size,
            first.file_size,
            zipfile.ZIP_DEFLATED,
        )
        twin.filename = "demo/twin.py"
        archive.filelist.append(twin)
        archive.writestr(zipfile.ZipInfo("demo/z", EPOCH), b"")
    return Built(WHEEL, buffer.getvalue())


def _tar_bomb() -> Built:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as stream:
        member = tarfile.TarInfo("demo-1.0/zeros")
        member.size = 200 * len(_ZEROS)
        stream.write(member.tobuf())
        for _ in range(200):
            stream.write(_ZEROS)
    return Built(SDIST, buffer.getvalue())


def _gzip_of(tar: bytes) -> Built:
    return Built(SDIST, gzip.compress(tar, mtime=0))


def _lying_size() -> Built:
    member = tarfile.TarInfo("demo-1.0/PKG-INFO")
    member.size = 10_000
    return _gzip_of(member.tobuf() + b"Name: demo\n")


def _huge_extended_header() -> Built:
    member = special("demo-1.0/x", b"x")
    member.size = 2**24
    return _gzip_of(member.tobuf() + bytes(2**24) + bytes(1024))


def _negative_size() -> Built:
    block = bytearray(tarfile.TarInfo("demo-1.0/PKG-INFO").tobuf())
    block[124:136] = b"\xff" * 11 + b"\x00"
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return _gzip_of(bytes(block) + bytes(1024))


def _duplicate_metadata() -> Built:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel(NAME, VERSION).body)) as good, zipfile.ZipFile(buffer, "w") as archive:
        for info in good.infolist():
            archive.writestr(zipfile.ZipInfo(info.filename, EPOCH), good.read(info))
        other = f"{INFO}/METADATb"
        archive.writestr(zipfile.ZipInfo(other, EPOCH), metadata(NAME, "2.0"))
    return Built(WHEEL, buffer.getvalue().replace(b"METADATb", b"METADATA"))


def _local_name() -> Built:
    """The first local header names another file than the directory does."""
    body = wheel(NAME, VERSION).body
    return Built(WHEEL, body.replace(b"demo.py", b"evil.py", 1))


def _local_size() -> Built:
    """The first local header gives another unpacked size than the directory does."""
    body = bytearray(wheel(NAME, VERSION).body)
    body[22:26] = struct.pack("<L", 3)
    return Built(WHEEL, bytes(body))


def _wrong_checksum() -> Built:
    """A stored member whose bytes were changed after its checksum was taken."""
    buffer = io.BytesIO(wheel(NAME, VERSION).body)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(zipfile.ZipInfo("demo/data", EPOCH), b"these bytes were signed")
    return Built(WHEEL, buffer.getvalue().replace(b"these bytes were signed", b"those bytes were signed"))


def _encrypted() -> Built:
    body = bytearray(wheel(NAME, VERSION).body)
    body[6] |= 1
    directory = body.index(b"PK\x01\x02")
    body[directory + 8] |= 1
    return Built(WHEEL, bytes(body))


def _also_tar() -> Built:
    """A tar archive whose second member is the wheel: zip readers look at the end, tar readers at the start."""
    wheel_body = wheel(NAME, VERSION).body
    member = tarfile.TarInfo("demo-1.0/wheel")
    member.size = len(wheel_body)
    return Built(WHEEL, member.tobuf() + wheel_body)


def _sdist_also_zip() -> Built:
    return Built(SDIST, sdist(NAME, VERSION).body + wheel(NAME, VERSION).body)


def _zip_symlink() -> Built:
    buffer = io.BytesIO(wheel(NAME, VERSION).body)
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo("demo/link", EPOCH)
        info.external_attr = 0o120777 << 16
        archive.writestr(info, b"../../../etc/passwd")
    return Built(WHEEL, buffer.getvalue())


def _without(path: str) -> Callable[[], Built]:
    def build() -> Built:
        with zipfile.ZipFile(io.BytesIO(wheel(NAME, VERSION).body)) as good:
            return Built(WHEEL, zip_of({name: good.read(name) for name in good.namelist() if path not in name}))

    return build


_HEAD: Final = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"

HOSTILE: Final[Mapping[str, Callable[[], Built]]] = MappingProxyType(
    {
        "zip bomb": _zip_bomb,
        "zip that claims a terabyte": _declared_bomb,
        "zip with overlapping members": _overlapping_bomb,
        "tar bomb": _tar_bomb,
        "tar with a symlink up": _link("../../etc/passwd"),
        "tar with an absolute symlink": _link("/etc/passwd"),
        "tar with a symlink through another": _link("a/../../../etc"),
        "tar with a hard link up": _link("../etc/passwd", tarfile.LNKTYPE),
        "tar with an absolute hard link": _link("/etc/passwd", tarfile.LNKTYPE),
        "tar with a pipe": lambda: tar_with(special("demo-1.0/pipe", tarfile.FIFOTYPE)),
        "tar with a device": lambda: tar_with(special("demo-1.0/null", tarfile.CHRTYPE)),
        "tar with a member below a link": lambda: tar_with(
            special("demo-1.0/here", tarfile.SYMTYPE, "."), special("demo-1.0/here/x", tarfile.REGTYPE)
        ),
        "tar with an absolute name": _sdist_member("/etc/passwd"),
        "tar with a name that leads out": _sdist_member("demo-1.0/../../evil"),
        "tar with a backslash in a name": _sdist_member("demo-1.0\\..\\evil"),
        "tar with a drive letter": _sdist_member("C:/evil"),
        "tar with a size that lies": _lying_size,
        "tar with a negative size": _negative_size,
        "tar with a huge extended header": _huge_extended_header,
        "tar without PKG-INFO": _raw(SDIST, tar_of({"demo-1.0/setup.py": b""})),
        "tar with PKG-INFO twice": lambda: tar_with(special("./demo-1.0/PKG-INFO", tarfile.REGTYPE)),
        "tar cut off": lambda: Built(SDIST, sdist(NAME, VERSION).body[:-200]),
        "gzip of no tar": lambda: _gzip_of(b"hello " * 1000),
        "sdist that is also a zip": _sdist_also_zip,
        "zip symlink up": _zip_symlink,
        "zip with an absolute name": _wheel_member("/etc/passwd"),
        "zip with a name that leads out": _wheel_member("demo/../../evil.py"),
        "zip with a dist-info that leads out": _wheel_member(f"{INFO}/../../evil"),
        "zip with a backslash in a name": _wheel_member("demo\\..\\..\\evil.py"),
        "zip with a drive letter": _wheel_member("C:/evil.py"),
        "zip with another name in its header": _local_name,
        "zip with another size in its header": _local_size,
        "zip with a wrong checksum": _wrong_checksum,
        "zip that is encrypted": _encrypted,
        "zip with METADATA twice": _duplicate_metadata,
        "zip cut off": lambda: Built(WHEEL, wheel(NAME, VERSION).body[:-50]),
        "zip without its first bytes": lambda: Built(WHEEL, wheel(NAME, VERSION).body[40:]),
        "wheel that is also a tar": _also_tar,
        "wheel without METADATA": _without("METADATA"),
        "wheel without dist-info": _without(".dist-info"),
        "wheel with two dist-info": _wheel_member("other-1.0.dist-info/METADATA"),
        "wheel with another dist-info": lambda: Built(WHEEL, wheel("other", VERSION).body),
        "empty wheel": _raw(WHEEL, b""),
        "empty sdist": _raw(SDIST, b""),
        "HTML as a wheel": _raw(WHEEL, b"<!DOCTYPE html><title>404 Not Found</title>"),
        "HTML as an sdist": _raw(SDIST, b"<!DOCTYPE html><title>404 Not Found</title>"),
        "huge METADATA": _wheel_metadata(_HEAD + b"\n" + b"x" * (17 * 2**20)),
        "METADATA with too many lines": _wheel_metadata(_HEAD + b"Classifier: x\n" * 100_001),
        "METADATA with too many fields": _wheel_metadata(_HEAD + b"".join(b"X-%d: y\n" % i for i in range(300))),
        "METADATA that is not UTF-8": _wheel_metadata(_HEAD + b"Summary: caf\xe9\n"),
        "METADATA without Name": _wheel_metadata(b"Metadata-Version: 2.1\nVersion: 1.0\n"),
        "METADATA without Version": _wheel_metadata(b"Metadata-Version: 2.1\nName: demo\n"),
        "METADATA with two names": _wheel_metadata(_HEAD + b"Name: other\n"),
        "METADATA with a bad version": _wheel_metadata(b"Metadata-Version: 2.1\nName: demo\nVersion: one\n"),
        "METADATA with a bad Requires-Python": _wheel_metadata(_HEAD + b"Requires-Python: >=3.8.*.x\n"),
        "name mismatch": _wheel_metadata(b"Metadata-Version: 2.1\nName: other\nVersion: 1.0\n"),
        "version mismatch": _wheel_metadata(b"Metadata-Version: 2.1\nName: demo\nVersion: 2.0\n"),
        "filename with a slash": _renamed("../demo-1.0-py3-none-any.whl"),
        "filename with a control character": _renamed("demo-1.0-py3-none-any\x07.whl"),
        "filename of no distribution": _renamed("demo-1.0.exe"),
        "filename that is too long": _renamed(f"demo-1.0-py3-none-{'a' * 300}.whl"),
    }
)
