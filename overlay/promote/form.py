"""The upload form of a proven file, as twine builds it.

twine's own package model reads the archive: what PyPI is used to get from twine is what it gets from us, also where the
metadata is odd, and twine's maintainers keep it so. Only the release and the digest are compared with the plan here:
the form must be about the file that was tested.
"""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from overlay.domain.wire_promotions import PromotedFileView
from overlay.promote.errors import Refused

# An archive may be anything, and zipfile says of a method or a cipher that it lacks: RuntimeError.
_UNREADABLE: Final = (
    *(OSError, ValueError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
)

Fields = tuple[tuple[str, str], ...]


def build(file: PromotedFileView, path: Path) -> Fields:
    """Read the archive and return the form's fields, without file and attestations. Blocking; raises Refused."""
    from twine.exceptions import TwineException  # noqa: PLC0415 - takes 0.2 s, and only a promotion needs it
    from twine.package import PackageFile  # noqa: PLC0415 - as above

    try:
        fields = PackageFile.from_filename(str(path), None).metadata_dictionary()
    except (TwineException, *_UNREADABLE) as err:
        raise Refused(f"No upload form can be made of {file.filename}: {err}") from err
    _require_planned(file, fields)
    return (*_flat(fields), (":action", "file_upload"), ("protocol_version", "1"))


def _require_planned(file: PromotedFileView, fields: Mapping[str, object]) -> None:
    if fields.get("sha256_digest") != file.sha256:
        raise Refused(f"{file.filename} changed on this machine's disk after it was fetched and proven.")
    name, version = str(fields.get("name", "")), str(fields.get("version", ""))
    if canonicalize_name(name) != file.project or not _equal(version, file.version):
        raise Refused(
            f"The metadata in {file.filename} says {name} {version}; it is planned as {file.project} {file.version}."
        )


def _equal(version: str, planned: str) -> bool:
    try:
        return Version(version) == Version(planned)
    except InvalidVersion:
        return False


def _flat(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Write every value as the form has it: keywords joined, URLs with their labels, other lists as repeated keys."""
    for name, value in fields.items():
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((name, f"{label}, {url}") for label, url in value.items())
        elif name == "keywords" and isinstance(value, list):
            yield name, ", ".join(value)
        elif isinstance(value, list):
            yield from ((name, item) for item in value)
