"""Builds small, valid wheels and sdists, byte for byte reproducible, for tests to stage, break and install."""

import base64
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

EPOCH = (2020, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Built:
    """A distribution file in memory."""

    filename: str
    body: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def metadata(name: str, version: str, *, requires: Sequence[str] = (), extra_lines: Sequence[str] = ()) -> bytes:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Summary: A distribution for tests"]
    lines += ["Requires-Python: >=3.8"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    lines += list(extra_lines)
    return ("\n".join(lines) + "\n\nMade for tests.\n").encode()


def wheel(
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    payload: bytes = b"",
    files: Mapping[str, bytes] | None = None,
    metadata_body: bytes | None = None,
) -> Built:
    """A pure wheel with one module; `payload` makes its bytes differ, `files` adds or replaces members."""
    stem = f"{name.replace('-', '_').lower()}-{version}"
    info = f"{stem}.dist-info"
    members: dict[str, bytes] = {
        f"{name.replace('-', '_').lower()}.py": f"VERSION = {version!r}\nPAYLOAD = {payload!r}\n".encode(),
        f"{info}/METADATA": metadata(name, version, requires=requires) if metadata_body is None else metadata_body,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    members.update(files or {})
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b'=').decode()},{len(body)}\n"
        for path, body in members.items()
    )
    members[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    return Built(f"{stem}-{tag}.whl", zip_of(members))


def sdist(
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    payload: bytes = b"",
    files: Mapping[str, bytes] | None = None,
) -> Built:
    """An sdist that pip can build without a network: it carries its own build backend."""
    stem = f"{name.replace('-', '_').lower()}-{version}"
    built = wheel(name, version, requires=requires, payload=payload)
    backend = (
        "import base64, pathlib\n"
        f"NAME = {built.filename!r}\nBODY = base64.b64decode({base64.b64encode(built.body)!r})\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    (pathlib.Path(folder) / NAME).write_bytes(BODY)\n    return NAME\n"
    )
    members: dict[str, bytes] = {
        "PKG-INFO": metadata(name, version, requires=requires),
        "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend.encode(),
    }
    members.update(files or {})
    return Built(f"{stem}.tar.gz", tar_of({f"{stem}/{path}": body for path, body in members.items()}))


def zip_of(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, body in members.items():
            archive.writestr(zipfile.ZipInfo(path, EPOCH), body, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tar_of(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    # gzip writes the time of day unless told otherwise
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, body in members.items():
            member = tarfile.TarInfo(path)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return buffer.getvalue()
