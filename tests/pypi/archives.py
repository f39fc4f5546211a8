"""What the scripted PyPI finds inside wheels and sdists (legacy-upload §5).

The scan for obfuscators is left out, and of the framing of zip archives only what `zipfile` shows: names given twice,
and bytes before or after the archive.
"""

import configparser
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path
from typing import Final

from tests.pypi.refusals import bad

_RATIO: Final = 50
_RATIO_FROM_BYTES: Final = 64 * 2**20
_END_RECORD_BYTES: Final = 22


def check_sdist(path: Path, license_files: list[str], filename: str) -> None:
    """Check a .tar.gz (step 35) and its licenses (step 37). Raises Refused."""
    names = _tar_names(path)
    tops = {name.split("/")[0] for name in names}
    if len(tops) != 1 or all("/" not in name for name in names):
        raise _invalid("Incorrect number of top-level directories in sdist")
    top = tops.pop()
    if f"{top}/PKG-INFO" not in names:
        raise _invalid(f"PKG-INFO not found at {top}/PKG-INFO")
    for name in license_files:
        if f"{top}/{name}" not in names:
            raise _no_license(name, filename, f"{top}/{name}")


def _tar_names(path: Path) -> set[str]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = archive.getmembers()
    except (tarfile.TarError, EOFError, OSError) as err:
        raise _invalid("File is not a tarfile") from err
    if any(member.issparse() for member in members):
        raise _invalid("Sparse members are not allowed")
    return {member.name.removeprefix("./") for member in members}


def check_wheel(path: Path, filename: str) -> None:
    """Check a zip archive (step 35). Raises Refused."""
    if not zipfile.is_zipfile(path):
        raise _invalid("File is not a zipfile")
    if tarfile.is_tarfile(path):
        raise _invalid("File is both a zip and a tar file")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > _RATIO_FROM_BYTES and unpacked / path.stat().st_size > _RATIO:
            raise _invalid(f"File exceeds compression ratio of {_RATIO}")
        if any(member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} for member in members):
            raise _invalid("File does not use a supported compression type")
        if f"{_info(filename)}/WHEEL" not in archive.namelist():
            raise _invalid(f"WHEEL not found at {_info(filename)}/WHEEL")
        _check_framing(archive, path)


def _check_framing(archive: zipfile.ZipFile, path: Path) -> None:
    names = archive.namelist()
    if len(names) != len(set(names)):
        raise _invalid("ZIP archive not accepted: Duplicate filename in local headers")
    with path.open("rb") as file:
        file.seek(-_END_RECORD_BYTES - len(archive.comment), 2)
        if file.read(4) != b"PK\x05\x06":
            raise _invalid("ZIP archive not accepted: Trailing data")
    if names and min(member.header_offset for member in archive.infolist()) != 0:
        raise _invalid("ZIP archive not accepted: Leading data")
    if archive.testzip() is not None:
        raise _invalid("ZIP archive not accepted: Mis-matched data size")


def check_wheel_members(path: Path, filename: str, license_files: list[str]) -> None:
    """Check licenses (step 37), RECORD, entry points and METADATA (step 39). Raises Refused."""
    info = _info(filename)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        for name in license_files:
            if f"{info}/licenses/{name}" not in names:
                raise _no_license(name, filename, f"{info}/licenses/{name}")
        if f"{info}/RECORD" not in names:
            raise bad(f"Wheel '{filename}' does not contain the required RECORD file: {info}/RECORD")
        if f"{info}/entry_points.txt" in names and not _is_ini(archive.read(f"{info}/entry_points.txt")):
            raise bad(f"Wheel '{filename}' has invalid entry points defined in the entry_points.txt file")
        if f"{info}/METADATA" not in names:
            raise bad(f"Wheel '{filename}' does not contain the required METADATA file: {info}/METADATA")


def metadata_of(path: Path, filename: str) -> bytes | None:
    """Read METADATA of a wheel; None for an sdist."""
    if not filename.endswith(".whl"):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.read(f"{_info(filename)}/METADATA")


def requires_python(metadata: bytes | None) -> str | None:
    """Read Requires-Python."""
    return None if metadata is None else BytesParser().parsebytes(metadata, headersonly=True)["Requires-Python"]


def _is_ini(body: bytes) -> bool:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    try:
        parser.read_string(body.decode())
    except (configparser.Error, UnicodeDecodeError):
        return False
    return True


def _info(filename: str) -> str:
    return "-".join(filename.split("-", 2)[:2]) + ".dist-info"


def _invalid(reason: str) -> Exception:
    return bad(f"Invalid distribution file. {reason}")


def _no_license(name: str, filename: str, place: str) -> Exception:
    return bad(f"License-File {name} does not exist in distribution file {filename} at {place}")
