"""Upstream's project list, 40 MB, kept prepared on local disk and refreshed behind its readers' backs.

Each fetch becomes one folder, a *generation*, made under another name and renamed when complete. The two newest stay:
a reader that was just given the older one can still open its files. Processes that share the folder take over each
other's generations instead of fetching again.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from overlay.caching.flight import Flight
from overlay.caching.threads import in_thread
from overlay.domain.errors import StoreUnavailable, UpstreamCorrupt, UpstreamUnavailable
from overlay.domain.names import Validator
from overlay.domain.page import Format
from overlay.domain.prepared_list import PreparedList
from overlay.upstream import list_preparation as preparation
from overlay.upstream.client import LAST_SERIAL, UpstreamClient, conditions, format_of, gzipped, require_ok
from overlay.upstream.gunzip import Gunzip, over_long

# The list changes with every new project and nobody installs from it.
REFRESH_S: Final = 600.0
RETRY_S: Final = 30.0

_TOTAL_TIMEOUT_S: Final = 120.0
_LIMIT_BYTES: Final = 512 << 20
_CHUNK_BYTES: Final = 256 << 10
_NOT_MODIFIED: Final = 304
_ABOUT: Final = "about.json"
_PART: Final = ".part"
_KEPT_GENERATIONS: Final = 2
_ABANDONED_S: Final = 3600.0

_log: Final = logging.getLogger(__name__)


class _About(msgspec.Struct, gc=False):
    """What a generation's `about.json` holds; its modification time is when upstream last said so."""

    prepared: preparation.Prepared
    validator: str
    etag: str | None
    last_modified: str | None
    last_serial: str | None


class _Generation(msgspec.Struct, gc=False, frozen=True):
    folder: Path
    about: _About
    ready: PreparedList


class UpstreamProjectList:
    """Implements `ProjectList` over a client and a folder. `close` ends what runs in the background."""

    def __init__(
        self,
        client: UpstreamClient,
        folder: Path,
        *,
        fresh_s: float,
        stale_s: float,
        now_s: Callable[[], float],
        limit_bytes: int = _LIMIT_BYTES,
    ) -> None:
        self._client = client
        self._folder = folder / ("list-" + hashlib.sha256(client.settings.url.encode()).hexdigest()[:32])
        self._fresh_s = max(fresh_s, REFRESH_S)
        self._stale_s = max(stale_s, self._fresh_s)
        self._now_s = now_s
        self._limit_bytes = limit_bytes
        self._held: _Generation | None = None
        self._failed_at_s: float | None = None
        self._flight: Flight[str, PreparedList] = Flight()

    async def prepared(self) -> PreparedList:
        """Return the list in hand; see `ProjectList`."""
        held = self._held
        if held is not None and held.folder.is_dir():  # one stat: another process may have dropped the generation
            age_s = self._now_s() - held.ready.fetched_at_s
            if 0 <= age_s < self._fresh_s:
                return held.ready
            if age_s < self._stale_s:
                if self._failed_at_s is None or self._now_s() - self._failed_at_s >= RETRY_S:
                    self._flight.start("", self._refreshed)
                return held.ready
        return await self._flight.run("", self._refreshed)

    async def close(self) -> None:
        """Cancel a refresh under way."""
        await self._flight.close()

    async def _refreshed(self) -> PreparedList:
        now_s = self._now_s()
        stored = await in_thread(_newest, self._folder)
        if stored is not None and 0 <= now_s - stored.ready.fetched_at_s < self._fresh_s:
            self._held = stored
            return stored.ready
        try:
            self._held = await self._fetched(stored, now_s)
        except (UpstreamUnavailable, UpstreamCorrupt, StoreUnavailable) as err:
            if self._failed_at_s is None:
                _log.warning("Upstream's project list cannot be fetched: %s", err)
            self._failed_at_s = self._now_s()
            if stored is None or now_s - stored.ready.fetched_at_s >= self._stale_s:
                raise
            self._held = stored
            return stored.ready
        self._failed_at_s = None
        return self._held.ready

    async def _fetched(self, stored: _Generation | None, now_s: float) -> _Generation:
        settings = self._client.settings
        headers = {} if stored is None else conditions(stored.about.etag, stored.about.last_modified)
        timeout = aiohttp.ClientTimeout(
            total=_TOTAL_TIMEOUT_S, sock_connect=settings.timeout_s, sock_read=settings.timeout_s
        )
        async with self._client.get(settings.root, headers, timeout) as response:
            if response.status == _NOT_MODIFIED and stored is not None:
                return await in_thread(_confirmed, stored, now_s)
            require_ok(response, settings)
            is_json = format_of(response) is Format.JSON
            spool = await in_thread(_Spool, self._folder, self._limit_bytes, gzipped=gzipped(response))
            try:
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    await in_thread(spool.write, chunk)
            except BaseException:
                await in_thread(spool.discard)
                raise
            about = (response.headers.get("ETag"), response.headers.get("Last-Modified"))
            serial = response.headers.get(LAST_SERIAL)
        try:
            return await in_thread(spool.prepared, about, serial, now_s, is_json=is_json)
        finally:
            await in_thread(spool.discard)


class _Spool:
    """Takes a body to disk, decoded, and makes a generation of it. Blocks: for threads, one call at a time."""

    def __init__(self, folder: Path, limit_bytes: int, *, gzipped: bool) -> None:
        self._root = folder
        with _on_disk():
            folder.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(suffix=_PART, dir=folder))
            _drop_abandoned(folder, self._folder.stat().st_mtime)
            self._path = self._folder / "spool"
            self._file = self._path.open("wb")
        self._gunzip = Gunzip(limit_bytes) if gzipped else None
        self._limit_bytes = limit_bytes
        self._length = 0
        self._sha256 = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Take some of the body. Raises UpstreamCorrupt, StoreUnavailable."""
        for decoded in (chunk,) if self._gunzip is None else self._gunzip.feed(chunk):
            self._length += len(decoded)
            if self._length > self._limit_bytes:
                raise over_long(self._limit_bytes)
            self._sha256.update(decoded)
            with _on_disk():
                self._file.write(decoded)

    def prepared(
        self, validators: tuple[str | None, str | None], last_serial: str | None, now_s: float, *, is_json: bool
    ) -> _Generation:
        """Finish: prepare, and put the generation where others find it. Raises UpstreamCorrupt, StoreUnavailable."""
        if self._gunzip is not None:
            self._gunzip.finish()
        with _on_disk():
            self._file.close()
            prepared = preparation.prepare(self._path, self._folder, is_json=is_json)
            self._path.unlink()
            about = _About(prepared, self._sha256.hexdigest(), *validators, last_serial)
            (self._folder / _ABOUT).write_bytes(msgspec.json.encode(about))
            _said_at(self._folder, now_s)
            # Sorts by time; the part after it keeps two processes apart.
            target = self._root / f"{round(now_s * 1000):016d}-{about.validator[:16]}-{os.getpid()}"
            self._folder.rename(target)
            for older in _generations(self._root)[_KEPT_GENERATIONS:]:
                shutil.rmtree(older, ignore_errors=True)
            return _read(target)

    def discard(self) -> None:
        """Remove what is not a generation by now."""
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def _on_disk() -> Iterator[None]:
    """Translate what the local disk raises."""
    try:
        yield
    except OSError as err:
        raise StoreUnavailable(f"Upstream's project list cannot be kept on local disk: {err}.") from err


def _drop_abandoned(root: Path, now_s: float) -> None:
    """Remove what killed processes left; a living one is done long before."""
    for path in root.glob("*" + _PART):
        with suppress(FileNotFoundError):  # its owner was faster
            if now_s - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)


def _confirmed(stored: _Generation, now_s: float) -> _Generation:
    _said_at(stored.folder, now_s)
    return _read(stored.folder)


def _newest(root: Path) -> _Generation | None:
    """Read the generation of which upstream spoke last; a damaged one is passed over."""
    found: list[_Generation] = []
    for folder in _generations(root)[:_KEPT_GENERATIONS]:
        try:
            found.append(_read(folder))
        except (OSError, msgspec.MsgspecError):
            continue
    return max(found, key=lambda generation: generation.ready.fetched_at_s, default=None)


def _generations(root: Path) -> list[Path]:
    """List the complete generations, the newest first."""
    if not root.is_dir():
        return []
    return sorted((path for path in root.iterdir() if path.suffix != _PART), reverse=True)


def _read(folder: Path) -> _Generation:
    about_path = folder / _ABOUT
    about = msgspec.json.decode(about_path.read_bytes(), type=_About)
    summed = about.prepared
    ready = PreparedList(
        json_head=folder / preparation.JSON_HEAD,
        json_head_gzip=folder / (preparation.JSON_HEAD + preparation.PACKED),
        html_head=folder / preparation.HTML_HEAD,
        html_head_gzip=folder / (preparation.HTML_HEAD + preparation.PACKED),
        json_crc=summed.json_crc,
        json_length=summed.json_length,
        html_crc=summed.html_crc,
        html_length=summed.html_length,
        has_projects=summed.has_projects,
        validator=Validator(about.validator),
        names=(folder / preparation.NAMES).read_bytes(),
        fetched_at_s=about_path.stat().st_mtime,
        last_serial=about.last_serial,
    )
    return _Generation(folder, about, ready)


def _said_at(folder: Path, now_s: float) -> None:
    os.utime(folder / _ABOUT, ns=(round(now_s * 1e9), round(now_s * 1e9)))
