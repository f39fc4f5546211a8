"""Project pages as JSON (PEP 691, 700, 714, 740, 792): read, write, check once, splice staged files in.

Theory of operation. What upstream lists is never encoded anew: `check` proves once per fetch that the bytes are a page,
`splice` cuts the raw `files` array out and glues staged files to its end (2.9 ms for 4.8 MB; decoding and encoding
everything takes 17), `facts` reads what decisions need. `decode` builds all nouns, for HTML and for pages for people.
Rejected: checking only a few keys. The complete typed check costs 8 ms instead of 6, and what passes it always decodes.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import urljoin

import msgspec

from overlay.domain.errors import UpstreamCorrupt
from overlay.domain.merge import union
from overlay.domain.page import File, JsonValue, ProjectPage, ProjectStatus
from overlay.domain.page_facts import PageFacts, SeenFile, gather, sha256_in

_ABSOLUTE: Final = ("https://", "http://")
_EMPTY_ARRAY: Final = re.compile(rb"\[\s*\]")
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


class _Meta(msgspec.Struct, gc=False, rename={"api_version": "api-version"}):
    api_version: str = "1.0"  # PEP 629: a missing version means 1.0


class _Status(msgspec.Struct, gc=False):
    status: str | None = None
    reason: str | None = None


class _File(msgspec.Struct, gc=False, rename="kebab"):
    filename: str
    url: str
    hashes: dict[str, str]
    requires_python: str | None = None
    core_metadata: bool | dict[str, str] | None = None
    gpg_sig: bool | None = None
    yanked: bool | str | None = None
    size: int | None = None
    upload_time: str | None = None
    provenance: str | None = None


class _Page(msgspec.Struct, gc=False, rename="kebab"):
    files: list[_File]
    meta: _Meta = msgspec.field(default_factory=_Meta)
    name: str = ""
    versions: list[str] | None = None
    project_status: _Status | None = None


class _ListedFile(msgspec.Struct, gc=False, rename="kebab"):
    filename: str
    hashes: dict[str, str]
    yanked: bool | str | None = None
    upload_time: str | None = None


class _SeenFile(msgspec.Struct, gc=False):
    filename: str
    url: str
    hashes: dict[str, str]


class _Seen(msgspec.Struct, gc=False):
    files: list[_SeenFile]


class _Listing(msgspec.Struct, gc=False, rename="kebab"):
    files: list[_ListedFile]
    name: str = ""
    project_status: _Status | None = None


_FILE_KEYS: Final = frozenset(field.encode_name for field in msgspec.structs.fields(_File))
_PAGE_KEYS: Final = frozenset(field.encode_name for field in msgspec.structs.fields(_Page))

_page: Final = msgspec.json.Decoder(_Page)
_listing: Final = msgspec.json.Decoder(_Listing)
_seen: Final = msgspec.json.Decoder(_Seen)
_raw_page: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_files: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_plain: Final = msgspec.json.Decoder(dict[str, object])
_versions: Final = msgspec.json.Decoder(list[str] | None)
_encoder: Final = msgspec.json.Encoder()

Shape = TypeVar("Shape")


def check(body: bytes, base_url: str) -> bytes:
    """Prove that upstream's body is a project page of API version 1.x, and make every `url` absolute.

    Returns the very same object when every `url` was absolute already; else only the urls differ, unknown keys and
    their spelling stay. `base_url` is where the page came from after redirects. Raises UpstreamCorrupt.
    """
    page = _checked(body)
    if all(file.url.startswith(_ABSOLUTE) for file in page.files):
        return body
    return _made_absolute(body, page, base_url)


def decode(body: bytes) -> ProjectPage:
    """Read a project page with all it holds, unknown keys too. Raises UpstreamCorrupt."""
    page = _checked(body)
    raw = _decoded(_plain, body)
    raw_files = raw["files"]
    assert isinstance(raw_files, list)
    status = page.project_status
    return ProjectPage(
        name=page.name,
        files=tuple(_file(file, keys) for file, keys in zip(page.files, raw_files, strict=True)),
        versions=None if page.versions is None else tuple(page.versions),
        status=ProjectStatus(status=status.status, reason=status.reason) if status and status.status else None,
        meta=_meta(raw),
        extra={key: _json(value) for key, value in raw.items() if key not in _PAGE_KEYS},
    )


def encode(page: ProjectPage) -> bytes:
    """Form a page's bytes; keys without a value are left out, never null (uv refuses some nulls)."""
    keys: dict[str, object] = {"meta": dict(page.meta), "name": page.name, "files": [_keys(f) for f in page.files]}
    if page.versions is not None:
        keys["versions"] = page.versions
    if page.status is not None:
        reason = {} if page.status.reason is None else {"reason": page.status.reason}
        keys["project-status"] = {"status": page.status.status, **reason}
    for key in sorted(page.extra):
        keys.setdefault(key, page.extra[key])
    return _encoder.encode(keys)


def splice(body: bytes, staged: Sequence[File], versions: Sequence[str]) -> bytes:
    """Glue staged files to the end of upstream's, whose bytes stay as they are.

    `body` passed `check`; upstream lists no name of `staged` (`listable` saw to that). Then
    `decode(splice(b, s, v)) == merge(decode(b), s, v)`. Raises UpstreamCorrupt.
    """
    added = {file.filename: file for file in staged}
    if not added:
        return body
    raw = _decoded(_raw_page, body)
    files = memoryview(raw.pop("files"))
    own = b",".join(_encoder.encode(_keys(added[name])) for name in sorted(added))
    separator = b"" if _EMPTY_ARRAY.fullmatch(files) else b","
    parts: list[bytes | memoryview] = [b'{"files":', files[:-1], separator, own, b"]"]
    for key, value in raw.items():
        parts += [
            b",",
            _encoder.encode(key),
            b":",
            _united(value, versions) if key == "versions" else memoryview(value),
        ]
    parts.append(b"}")
    return b"".join(parts)


def facts(body: bytes) -> PageFacts:
    """Read what decisions ask of a page that passed `check`. Raises UpstreamCorrupt."""
    page = _decoded(_listing, body)
    status = page.project_status
    return gather(page.name, page.files, None if status is None else status.status)


def seen(body: bytes, filenames: Collection[str]) -> Mapping[str, SeenFile]:
    """Find files by their names on a page that passed `check`; what it does not list is left out."""
    return {
        file.filename: SeenFile(sha256=sha256_in(file.hashes), url=file.url)
        for file in _decoded(_seen, body).files
        if file.filename in filenames
    }


def _checked(body: bytes) -> _Page:
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look at the bytes of keys it skips
    except UnicodeDecodeError as err:
        raise UpstreamCorrupt(f"Upstream's page is not UTF-8: {err}.") from err
    page = _decoded(_page, body)
    require_version_1(page.meta.api_version)
    return page


def require_version_1(version: str) -> None:
    """Refuse another major version. PEP 629: clients MUST fail then. Raises UpstreamCorrupt."""
    found = _VERSION.fullmatch(version.strip())
    if found is None or found[1] != "1":
        raise UpstreamCorrupt(
            f"Upstream's page has version {version[:40]!r} of the simple API; this program reads 1.x."
        )


def _decoded(decoder: "msgspec.json.Decoder[Shape]", body: bytes) -> Shape:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as err:
        raise UpstreamCorrupt(f"Upstream's page is not a project page of the simple API: {err}.") from err
    except RecursionError as err:
        raise UpstreamCorrupt("Upstream's page is not a project page: it is nested too deeply.") from err


def _made_absolute(body: bytes, page: _Page, base_url: str) -> bytes:
    raw = _decoded(_raw_page, body)
    raw_files = _decoded(_raw_files, bytes(raw["files"]))
    for file, keys in zip(page.files, raw_files, strict=True):
        try:
            url = urljoin(base_url, file.url)
        except ValueError as err:  # "http://[": not an address
            raise UpstreamCorrupt(f"Upstream's page has an invalid url for {file.filename!r}.") from err
        if not url.startswith(_ABSOLUTE):
            raise UpstreamCorrupt(f"Upstream's page has a url for {file.filename!r} that is neither http nor https.")
        keys["url"] = msgspec.Raw(_encoder.encode(url))
    raw["files"] = msgspec.Raw(_encoder.encode(raw_files))
    return _encoder.encode(raw)


def _united(value: msgspec.Raw, versions: Sequence[str]) -> bytes | memoryview:
    listed = _decoded(_versions, bytes(value))
    # A null stays one: before API version 1.1 there is no such key.
    return memoryview(value) if listed is None else _encoder.encode(union(listed, versions))


def _file(file: _File, raw: Mapping[str, object]) -> File:
    return File(
        filename=file.filename,
        url=file.url,
        hashes=file.hashes,
        requires_python=file.requires_python,
        core_metadata=file.core_metadata,
        gpg_sig=file.gpg_sig,
        yanked=file.yanked or False,
        size=file.size,
        upload_time=file.upload_time,
        provenance=file.provenance,
        extra={key: _json(value) for key, value in raw.items() if key not in _FILE_KEYS},
    )


def _keys(file: File) -> dict[str, object]:
    keys: dict[str, object] = {
        "filename": file.filename,
        "url": file.url,
        "hashes": dict(file.hashes),  # in the given order: pip checks only the first one
        "requires-python": file.requires_python,
        "core-metadata": dict(file.core_metadata) if isinstance(file.core_metadata, Mapping) else file.core_metadata,
        "gpg-sig": file.gpg_sig,
        "yanked": file.yanked or None,
        "size": file.size,
        "upload-time": file.upload_time,
        "provenance": file.provenance,
    }
    said = {key: value for key, value in keys.items() if value is not None}
    for key in sorted(file.extra):
        said.setdefault(key, file.extra[key])
    return said


def _meta(raw: Mapping[str, object]) -> dict[str, JsonValue]:
    meta = raw.get("meta")
    return {"api-version": "1.0"} if meta is None else {str(key): _json(value) for key, value in _object(meta).items()}


def _object(value: object) -> Mapping[object, object]:
    assert isinstance(value, dict)
    return value


def _json(value: object) -> JsonValue:
    """Narrow what a JSON decoder made; it makes nothing else."""
    assert value is None or isinstance(value, bool | int | float | str | list | dict)
    return value
