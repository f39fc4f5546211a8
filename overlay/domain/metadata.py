"""Core metadata: METADATA of a wheel, PKG-INFO of an sdist, read once and leniently.

Theory: `packaging.metadata.parse_email` maps fields to keys, but is written for honest input. Its cost grows with the
square of the number of distinct fields, and the e-mail parser below it follows `Content-Type: multipart/…` into the
body, recursively. So the header is cut from the body first with the standard library's header parser, its lines and
names are counted, and only the header goes to `parse_email`. What is wrong but does not keep an installer from using
the file stays in the result for the rules to report.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.parser import HeaderParser
from types import MappingProxyType
from typing import Final

from packaging.metadata import RawMetadata, parse_email
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from overlay.domain.errors import BadUpload, InvalidName
from overlay.domain.filenames import DistributionName
from overlay.domain.names import NormalizedName, project_name

# The greatest metadata on PyPI have some thousand Requires-Dist; old ones fold the description into the header.
MOST_HEADER_LINES: Final = 100_000
# Core metadata 2.5 knows 33 fields.
MOST_FIELDS: Final = 200
# A version is part of a filename; int() also refuses more than 4,300 digits with a plain ValueError.
LONGEST_VERSION: Final = 200
LONGEST_SPECIFIER: Final = 2_000

_QUOTED: Final = 100
_LICENSE_FILES_SINCE: Final = Version("2.4")
_EXTRAS_SINCE: Final = Version("2.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreMetadata:
    """The fields of one distribution file; an absent one is None or empty."""

    name: str
    """As the author spells it."""
    project: NormalizedName
    version: str
    """PEP 440, normalized."""
    metadata_version: str | None = None
    summary: str | None = None
    description: str | None = None
    description_content_type: str | None = None
    keywords: tuple[str, ...] = ()
    author: str | None = None
    author_email: str | None = None
    maintainer: str | None = None
    maintainer_email: str | None = None
    license: str | None = None
    license_expression: str | None = None
    license_files: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    home_page: str | None = None
    download_url: str | None = None
    project_urls: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Label to URL."""
    requires_python: str | None = None
    requires_dist: tuple[str, ...] = ()
    provides_extra: tuple[str, ...] = ()
    provides_dist: tuple[str, ...] = ()
    obsoletes_dist: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Fields, lower case, that are unknown, or repeated where one value is allowed; sorted."""
    raw: RawMetadata = field(repr=False)
    """The fields as `packaging` parsed them, for its validators; not to be changed."""


def read(metadata: bytes) -> CoreMetadata:
    """Read core metadata. Raises BadUpload where an installer could not use the file."""
    try:
        text = metadata.decode("utf-8")
    except UnicodeDecodeError as err:
        raise BadUpload(f"The core metadata is not UTF-8 (byte {err.start}).") from err
    header, body = _cut(text)
    raw, unparsed = parse_email(header)
    unreadable = set(unparsed)
    if body:
        if "description" in raw or "description" in unparsed:
            unreadable.add("description")
        raw["description"] = body
    name = raw.get("name")
    if not name:
        raise BadUpload("The core metadata has no Name, or more than one.")
    return CoreMetadata(
        name=name,
        project=_project(name),
        version=_version(raw.get("version")),
        metadata_version=raw.get("metadata_version"),
        summary=raw.get("summary"),
        description=raw.get("description"),
        description_content_type=raw.get("description_content_type"),
        keywords=tuple(raw.get("keywords", ())),
        author=raw.get("author"),
        author_email=raw.get("author_email"),
        maintainer=raw.get("maintainer"),
        maintainer_email=raw.get("maintainer_email"),
        license=raw.get("license"),
        license_expression=raw.get("license_expression"),
        license_files=tuple(raw.get("license_files", ())),
        classifiers=tuple(raw.get("classifiers", ())),
        platforms=tuple(raw.get("platforms", ())),
        home_page=raw.get("home_page"),
        download_url=raw.get("download_url"),
        project_urls=MappingProxyType(dict(raw.get("project_urls", {}))),
        requires_python=_requires_python(raw.get("requires_python"), repeated="requires-python" in unparsed),
        requires_dist=tuple(raw.get("requires_dist", ())),
        provides_extra=tuple(raw.get("provides_extra", ())),
        provides_dist=tuple(raw.get("provides_dist", ())),
        obsoletes_dist=tuple(raw.get("obsoletes_dist", ())),
        dynamic=tuple(raw.get("dynamic", ())),
        unreadable=tuple(sorted(unreadable)),
        raw=raw,
    )


def agree(core: CoreMetadata, *, filename: DistributionName, form_name: str, form_version: str) -> None:
    """Check that filename, form and core metadata name one release. Raises BadUpload with both sides."""
    if filename.project != core.project:
        raise BadUpload(
            f"The filename {filename.filename!r} is of project {filename.project!r}, but the metadata in the file "
            f"says {core.name!r}."
        )
    if filename.version != core.version and Version(filename.version) != Version(core.version):
        raise BadUpload(
            f"The filename {filename.filename!r} is of version {filename.version}, but the metadata in the file "
            f"says {core.version}."
        )
    if str(canonicalize_name(form_name)) != core.project:
        raise BadUpload(
            f"The form says name {form_name[:_QUOTED]!r}, but the metadata in {filename.filename!r} says {core.name!r}."
        )
    if _parsed(form_version) != Version(core.version):
        raise BadUpload(
            f"The form says version {form_version[:_QUOTED]!r}, but the metadata in {filename.filename!r} says "
            f"{core.version}."
        )


def sent(core: CoreMetadata) -> RawMetadata:
    """Return the fields that an upload of the file carries (twine `package.py`, which promotion follows).

    setuptools writes License-File and Provides-Extra below the versions that know them; twine drops them there.
    """
    fields = core.raw.copy()
    version = _parsed(core.metadata_version or "0") or Version("0")
    if version < _LICENSE_FILES_SINCE:
        fields.pop("license_files", None)
    if version < _EXTRAS_SINCE:
        fields.pop("provides_extra", None)
    return fields


def _cut(text: str) -> tuple[str, str]:
    """Return header and body; the header is bounded in lines and in distinct fields."""
    ends = [at for at in (text.find("\n\n"), text.find("\r\n\r\n"), text.find("\r\r")) if at >= 0]
    first = text[: min(ends)] if ends else text
    if first.count("\n") + first.count("\r") > MOST_HEADER_LINES:
        raise BadUpload(f"The core metadata has more than {MOST_HEADER_LINES:,} lines of fields.")
    message = HeaderParser().parsestr(text)
    if len({name.lower() for name in message}) > MOST_FIELDS:
        raise BadUpload(f"The core metadata has more than {MOST_FIELDS} different fields.")
    body = message.get_payload()
    assert isinstance(body, str)
    return text[: len(text) - len(body)], body


def _project(name: str) -> NormalizedName:
    try:
        return project_name(name)
    except InvalidName as err:
        raise BadUpload(f"The core metadata's Name {name[:_QUOTED]!r} is not a valid project name.") from err


def _parsed(version: str) -> Version | None:
    if len(version) > LONGEST_VERSION:
        return None
    try:
        return Version(version)
    except InvalidVersion:
        return None


def _version(raw: str | None) -> str:
    if not raw:
        raise BadUpload("The core metadata has no Version, or more than one.")
    version = _parsed(raw)
    if version is None:
        raise BadUpload(f"The core metadata's Version {raw[:_QUOTED]!r} is not a version (PEP 440).")
    return str(version)


def _requires_python(raw: str | None, *, repeated: bool) -> str | None:
    # uv drops a file whose requires-python it cannot parse: it could be staged and would never be seen.
    if repeated:
        raise BadUpload("The core metadata has more than one Requires-Python.")
    if not raw:
        return None
    if not _is_specifier(raw):
        raise BadUpload(f"The core metadata's Requires-Python {raw[:_QUOTED]!r} is not a specifier (PEP 440).")
    return raw


def _is_specifier(raw: str) -> bool:
    if len(raw) > LONGEST_SPECIFIER or any(len(part) > LONGEST_VERSION for part in raw.split(",")):
        return False
    try:
        SpecifierSet(raw)
    except InvalidSpecifier:
        return False
    return True
