"""Upstream's last good pages on local disk, so that a restart during an outage still has them (design §4).

One file per project: a line of JSON about the page, then its gzip. The file's modification time is the moment upstream
last said so, so that a 304 costs one `utime`, and the oldest file is the one nobody asks for. It is a cache: whatever
cannot be read is removed and counts as missing. Several processes may share the folder.

Absent pages are not stored: anyone may ask for any name, and each would leave a file.
"""

import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from isal import igzip

from overlay.domain.errors import UpstreamCorrupt
from overlay.domain.names import NormalizedName, Validator
from overlay.domain.page import UpstreamPage
from overlay.upstream.gunzip import gunzip

_SUFFIX: Final = ".page"
_PART: Final = ".part"
_SCHEMA: Final = 1
_BLOCK_BYTES: Final = 4096  # what the common file systems give a file at least, and in steps of
# A file holds what `UpstreamClient` let through; this only keeps a damaged one from filling the memory.
_LONGEST_BODY_BYTES: Final = 1 << 30


class _Header(msgspec.Struct, gc=False):
    project: str
    validator: str
    etag: str | None
    last_modified: str | None
    last_serial: str | None
    upstreams_gzip: bool
    """Whether the gzip is upstream's own; else we made it and it says nothing."""
    schema: int = _SCHEMA


class PageFiles:
    """Holds pages up to `limit_bytes` of disk blocks in all, per upstream. Blocks; may be called from any thread."""

    def __init__(self, folder: Path, limit_bytes: int, upstream_url: str) -> None:
        self._folder = folder / hashlib.sha256(upstream_url.encode()).hexdigest()[:32]
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._index: dict[str, tuple[int, _Header | None]] | None = None
        """Project to bytes on disk and, once written by us, header; the oldest first."""
        self._total_bytes = 0

    def load(self, project: NormalizedName) -> UpstreamPage | None:
        """Read the page; None where there is none or it is damaged."""
        path = self._path(project)
        try:
            with path.open("rb") as file:
                fetched_at_s = os.fstat(file.fileno()).st_mtime
                line = file.readline()
                packed = file.read()
            return _page(project, line, packed, fetched_at_s)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UpstreamCorrupt, ValueError):
            with self._lock:
                self._drop(project)
            return None

    def store(self, page: UpstreamPage) -> None:
        """Write the page, or only its time where the same is stored; drops the oldest ones beyond the limit.

        Of a project that is absent nothing stays. Raises OSError (a full disk); then the former page is still there.
        """
        if page.body is None:
            with self._lock:
                self._drop(page.project)
            return
        header = _header(page)
        if self._touched(page, header):
            return
        packed = page.gzip
        if packed is None:
            packed = bytes(igzip.compress(page.body, compresslevel=1, mtime=0))
        content = msgspec.json.encode(header) + b"\n" + packed
        occupied_bytes = _occupied(len(content))
        if occupied_bytes > self._limit_bytes:
            with self._lock:
                self._drop(page.project)
            return
        path = self._path(page.project)
        part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{_PART}")
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content)
            _set_time(part, page.fetched_at_s)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        with self._lock:
            self._enter(page.project, occupied_bytes, header)
            self._shrink()

    def _touched(self, page: UpstreamPage, header: _Header) -> bool:
        with self._lock:
            index = self._built()
            size, held = index.get(page.project, (0, None))
            if held != header:
                return False
            try:
                _set_time(self._path(page.project), page.fetched_at_s)
            except FileNotFoundError:
                return False
            self._enter(page.project, size, header)
            return True

    def _enter(self, project: str, size_bytes: int, header: _Header) -> None:
        index = self._built()
        self._total_bytes += size_bytes - index.pop(project, (0, None))[0]
        index[project] = (size_bytes, header)

    def _shrink(self) -> None:
        index = self._built()
        while self._total_bytes > self._limit_bytes:
            self._drop(next(iter(index)))

    def _drop(self, project: str) -> None:
        self._total_bytes -= self._built().pop(project, (0, None))[0]
        with suppress(OSError):  # what cannot be removed now is listed again after a restart
            self._path(project).unlink(missing_ok=True)

    def _built(self) -> dict[str, tuple[int, _Header | None]]:
        """Return the index, listing the folder the first time; called under the lock."""
        if self._index is None:
            found: list[tuple[float, str, int]] = []
            for path in self._folder.glob("*") if self._folder.is_dir() else ():
                if path.name.endswith(_PART):  # of a process that was killed; a live one only loses a cached page
                    path.unlink(missing_ok=True)
                elif path.name.endswith(_SUFFIX):
                    found.append(_listed(path))
            self._index = {project: (size, None) for _, project, size in sorted(found)}
            self._total_bytes = sum(size for size, _ in self._index.values())
        return self._index

    def _path(self, project: str) -> Path:
        return self._folder / f"{project}{_SUFFIX}"


def _listed(path: Path) -> tuple[float, str, int]:
    try:
        facts = path.stat()
    except FileNotFoundError:  # another process dropped it
        return 0.0, path.name.removesuffix(_SUFFIX), 0
    return facts.st_mtime, path.name.removesuffix(_SUFFIX), _occupied(facts.st_size)


def _occupied(size_bytes: int) -> int:
    """Return what a file of this size takes on disk: whole blocks, at least one."""
    return max(1, -(-size_bytes // _BLOCK_BYTES)) * _BLOCK_BYTES


def _set_time(path: Path, at_s: float) -> None:
    os.utime(path, ns=(round(at_s * 1e9), round(at_s * 1e9)))


def _header(page: UpstreamPage) -> _Header:
    return _Header(
        project=page.project,
        validator=page.validator,
        etag=page.etag,
        last_modified=page.last_modified,
        last_serial=page.last_serial,
        upstreams_gzip=page.gzip is not None,
    )


def _page(project: NormalizedName, line: bytes, packed: bytes, fetched_at_s: float) -> UpstreamPage:
    """Form the page out of a file's parts. Raises UpstreamCorrupt, ValueError, MsgspecError."""
    header = msgspec.json.decode(line, type=_Header)
    if header.schema != _SCHEMA or header.project != project:
        raise UpstreamCorrupt("The stored page is another one's.")
    body = gunzip(packed, _LONGEST_BODY_BYTES)
    if hashlib.sha256(body).hexdigest() != header.validator:
        raise UpstreamCorrupt("The stored page is damaged.")
    return UpstreamPage(
        project=project,
        body=body,
        validator=Validator(header.validator),
        fetched_at_s=fetched_at_s,
        gzip=packed if header.upstreams_gzip else None,
        etag=header.etag,
        last_modified=header.last_modified,
        last_serial=header.last_serial,
    )
