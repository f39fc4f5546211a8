"""Makes pages in PyPI's shape, the same bytes in every run: what the benches serve, merge and download."""

import gzip
import json
import random
import zipfile
from functools import cache
from io import BytesIO
from pathlib import Path

from overlay.domain.layout import record_key
from overlay.domain.records import Record, encode
from tests.builders import Built, metadata
from tests.staged import staged_file

_DATA = Path(__file__).resolve().parent.parent / "data"
# As many files, and within a few per cent as many bytes, as the pages of redis and aiohttp had in 2026.
_FILES = {"medium": 256, "large": 10_746}
_PER_VERSION = {"medium": 2, "large": 42}


@cache
def project_page(kind: str) -> bytes:
    """Return the page: small (packaging, 43 KB), medium (113 KB) or large (4.75 MB)."""
    if kind == "small":
        return gzip.decompress((_DATA / "packaging.json.gz").read_bytes())
    bits = random.Random(kind)
    versions = [f"3.{number // 20}.{number % 20}" for number in range(_FILES[kind] // _PER_VERSION[kind] + 1)]
    page = {
        "alternate-locations": [],
        "files": [_file(kind, versions[number // _PER_VERSION[kind]], number, bits) for number in range(_FILES[kind])],
        "meta": {"_last-serial": 39691657, "api-version": "1.4"},
        "name": kind,
        "project-status": {"status": "active"},
        "versions": versions,
    }
    return json.dumps(page, separators=(",", ":")).encode()


def project_list(count: int) -> bytes:
    """Return a list of so many projects; 900,000 are PyPI's 40 MB."""
    bits = random.Random("list")
    names = sorted({f"{bits.randbytes(2).hex()}-project-{number:x}" for number in range(count)})
    entries = [{"_last-serial": bits.randrange(40_000_000), "name": name} for name in names]
    page = {"meta": {"_last-serial": 39691657, "api-version": "1.4"}, "projects": entries}
    return json.dumps(page, separators=(",", ":")).encode()


def packed(body: bytes) -> bytes:
    """Compress as PyPI's edge does."""
    return gzip.compress(body, 6, mtime=0)


def seed(store: Path, project: str, count: int) -> None:
    """Stage so many files of a project by writing their records: the server finds them when it starts."""
    for number in range(1, count + 1):
        version = f"9.{number}"
        file = staged_file(
            number,
            project=project,
            version=version,
            filename=f"{project}-{version}-py3-none-any.whl",
            content=f"{project} {number}",
        )
        path = store / record_key(file.project, file.upload_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Record(file=file, form=(), attestations=None)))


def big_wheel(name: str, version: str, size_bytes: int) -> Built:
    """Build a valid wheel around so many bytes that no compression makes smaller."""
    stem = f"{name}-{version}"
    members = {
        f"{name}.bin": random.Random(stem).randbytes(size_bytes),
        f"{stem}.dist-info/METADATA": metadata(name, version),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/RECORD": b"",
    }
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, body in members.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), body)
    return Built(f"{stem}-py3-none-any.whl", buffer.getvalue())


def _file(project: str, version: str, number: int, bits: random.Random) -> dict[str, object]:
    digest, path = bits.randbytes(32).hex(), bits.randbytes(32).hex()
    filename = f"{project}-{version}-cp3{number % 42:02}-cp3{number % 42:02}-manylinux2014_x86_64.whl"
    return {
        "core-metadata": False,
        "data-dist-info-metadata": False,
        "filename": filename,
        "hashes": {"sha256": digest},
        "provenance": None,
        "requires-python": ">=3.9",
        "size": bits.randrange(10_000, 2_000_000),
        "upload-time": f"2024-{number % 12 + 1:02}-02T03:04:05.{number:06}Z",
        "url": f"https://files.pythonhosted.org/packages/{path[:2]}/{path[2:4]}/{path[4:]}/{filename}",
        "yanked": False,
    }
