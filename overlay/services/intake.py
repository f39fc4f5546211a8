"""Take one upload's body in, once: limits, digests and the blob store in one pass at constant memory.

parts ──► fields (bounded) ──► Form
      └─► file ──► sha256, blake2b (and md5 where asked) ─┐ one thread hop per 256 KiB, overlapped with the
              └──► BlobWriter (and a spool where the store is not local) ─┘ reading of the next chunk
"""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final

from overlay.caching.local_disk import translating, write_whole
from overlay.caching.threads import in_thread
from overlay.domain.errors import BadUpload, TooLarge
from overlay.domain.ports import BlobWriter

CHUNK_BYTES: Final = 256 * 1024  # measured best for hash and write in one thread hop (64–256 KiB)
_FIELD_LIMIT_BYTES: Final = 8 * 1024 * 1024  # descriptions reach megabytes at PyPI
_FORM_LIMIT_BYTES: Final = 16 * 1024 * 1024
_FIELD_COUNT_LIMIT: Final = 4096  # a form repeats a key per requirement and classifier
_NAME_LIMIT: Final = 100  # "description_content_type" has 24 characters
_KEPT_LIMIT_BYTES: Final = 256 * 1024
"""Of fields and attestations in the record: a rebuild reads every record. A thousand requirements take some 80 KB."""
_ATTESTATIONS: Final = "attestations"  # kept beside the fields
_NOT_KEPT: Final = frozenset({":action", "protocol_version", "description", _ATTESTATIONS, "content"})
_DIGEST_FIELDS: Final = ("md5_digest", "sha256_digest", "blake2_256_digest")


@dataclass(frozen=True, slots=True)
class Field:
    """A text field of the form."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """The file of the form; `chunks` must be read before the next part."""

    filename: str
    chunks: AsyncIterator[bytes]


@dataclass(slots=True)
class Form:
    """The text fields so far, bounded in number and size."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    _size: int = 0
    _kept_size: int = 0

    def add(self, part: Field) -> None:
        """Keep a field. Raises BadUpload for too many or a strange name, TooLarge for too much."""
        if len(part.name) > _NAME_LIMIT:
            raise BadUpload(f"The form has a field with a name of more than {_NAME_LIMIT} characters.")
        size = len((part.name + part.value).encode("utf-8", "surrogatepass"))
        if size > _FIELD_LIMIT_BYTES:
            raise TooLarge(f"The field {part.name[:80]!r}", _FIELD_LIMIT_BYTES)
        self._size += size
        if self._size > _FORM_LIMIT_BYTES:
            raise TooLarge("The form without its file", _FORM_LIMIT_BYTES)
        self._kept_size += size if part.name not in _NOT_KEPT or part.name == _ATTESTATIONS else 0
        if self._kept_size > _KEPT_LIMIT_BYTES:
            raise TooLarge("The form without file and description", _KEPT_LIMIT_BYTES)
        if len(self.fields) >= _FIELD_COUNT_LIMIT:
            raise BadUpload(f"The form has more than {_FIELD_COUNT_LIMIT} fields.")
        # PyPI drops the value UNKNOWN, which old tools send for "nothing" (legacy-upload §3, step 1).
        if part.value not in {"", "UNKNOWN"}:
            self.fields.append((part.name, part.value))

    def first(self, name: str) -> str | None:
        """Return the first non-empty value of a field."""
        return next((value for key, value in self.fields if key == name), None)

    def kept(self) -> tuple[tuple[str, str], ...]:
        """Return the fields that the record keeps."""
        return tuple((name, value) for name, value in self.fields if name not in _NOT_KEPT)


@dataclass(frozen=True, slots=True)
class Content:
    """The file as received: `path` is a local copy, readable until the intake's context ends."""

    filename: str
    path: Path
    size_bytes: int
    sha256: str
    blake2_256: str
    md5: str | None
    """Only computed when the form had asked for it before the file came."""


class _Digests:
    def __init__(self, *, md5: bool) -> None:
        self.sha256 = hashlib.sha256()
        self.blake2_256 = hashlib.blake2b(digest_size=32)
        self.md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def update(self, chunk: bytes) -> None:
        self.sha256.update(chunk)
        self.blake2_256.update(chunk)
        if self.md5 is not None:
            self.md5.update(chunk)


@dataclass(frozen=True, slots=True)
class _Tee:
    """A BlobWriter without a local file, and the spool that stands in for it."""

    writer: BlobWriter
    spool: FileIO
    path: Path

    async def write(self, chunk: bytes) -> None:
        await asyncio.gather(self.writer.write(chunk), self._keep(chunk))

    async def _keep(self, chunk: bytes) -> None:
        with translating("writing an upload beside the store"):
            await in_thread(write_whole, self.spool, chunk)


@contextlib.asynccontextmanager
async def local(writer: BlobWriter, spool: Path) -> AsyncIterator[tuple[BlobWriter, Path]]:
    """Give the writer a local file if it has none: below `spool`, deleted at the end."""
    if writer.path is not None:
        yield writer, writer.path
        return
    opened = contextlib.ExitStack()
    try:
        with translating("opening a file beside the store"):
            # A cancellation waits for the thread: the file is open then, and nobody was given it.
            file = await in_thread(lambda: opened.enter_context(FileIO(spool, "xb")))
        yield _Tee(writer, file, spool), spool
    finally:
        opened.close()
        await in_thread(spool.unlink, missing_ok=True)


async def receive_file(part: FilePart, writer: BlobWriter, path: Path, *, md5: bool, limit_bytes: int) -> Content:
    """Stream the file into the writer and the digests. Raises TooLarge, and what the writer and the body raise."""
    digests = _Digests(md5=md5)
    size = 0
    pending: asyncio.Future[object] | None = None
    pieces: list[bytes] = []
    held_bytes = 0
    try:
        async for chunk in part.chunks:
            size += len(chunk)
            if size > limit_bytes:
                raise TooLarge(f"The file {part.filename[:255]!r}", limit_bytes)
            pieces.append(chunk)
            held_bytes += len(chunk)
            if held_bytes >= CHUNK_BYTES:
                if pending is not None:
                    await pending
                pending = _consume(b"".join(pieces), digests, writer)  # one piece is not copied
                pieces.clear()
                held_bytes = 0
    finally:
        if pending is not None:
            await asyncio.wait({pending})
    if pending is not None:
        pending.result()
    await _consume(b"".join(pieces), digests, writer)
    if size == 0:
        raise BadUpload(f"The file {part.filename[:255]!r} is empty.")
    return Content(
        filename=part.filename,
        path=path,
        size_bytes=size,
        sha256=digests.sha256.hexdigest(),
        blake2_256=digests.blake2_256.hexdigest(),
        md5=digests.md5.hexdigest() if digests.md5 is not None else None,
    )


async def check_digests(form: Form, content: Content) -> None:
    """Compare every digest of the form. Raises BadUpload.

    PyPI: at least one is required and each supplied one must match; hex in any case.
    """
    sent = {name: value for name in _DIGEST_FIELDS if (value := form.first(name)) is not None}
    if not sent:
        raise BadUpload("The form has no digest of the file; send sha256_digest.")
    md5 = content.md5
    if "md5_digest" in sent and md5 is None:
        md5 = await in_thread(_md5, content.path)
    computed = {"md5_digest": md5 or "", "sha256_digest": content.sha256, "blake2_256_digest": content.blake2_256}
    for name, value in sent.items():
        if not hmac.compare_digest(value.strip().lower().encode(), computed[name].encode()):
            raise BadUpload(
                f"The {name} of the form does not match the file that arrived (computed: {computed[name]}). "
                "The file was damaged on its way or changed while it was sent."
            )


def asks_for_md5(form: Form) -> bool:
    """Say whether the form has an md5 to be compared."""
    return form.first("md5_digest") is not None


def _consume(chunk: bytes, digests: _Digests, writer: BlobWriter) -> "asyncio.Future[object]":
    async def both() -> None:
        hashing = asyncio.ensure_future(in_thread(digests.update, chunk))
        try:
            await writer.write(chunk)
        finally:
            await hashing

    return asyncio.ensure_future(both())


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
