"""The only module that names concrete classes: from a configuration to running services."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from overlay import __version__
from overlay.caching.local_disk import translating
from overlay.caching.threads import in_thread
from overlay.config.tables import Config
from overlay.domain.errors import InvalidConfig, StoreInUse
from overlay.domain.names import UploadId
from overlay.domain.ports import BlobStore, Documents, ProjectList, StageLedger, Upstream
from overlay.services.access import Access
from overlay.services.downloads import Downloads
from overlay.services.facts import facts_reader
from overlay.services.first_token import ensure_admin_token
from overlay.services.pages import Pages
from overlay.services.projects import Projects
from overlay.services.rebuild import Rebuilt, mark, rebuild
from overlay.services.releases import Releases
from overlay.services.reports import Reports
from overlay.services.sweep import sweep_regularly
from overlay.services.uploads import Uploads, UploadSettings
from overlay.storage.blobs_directory import DirectoryBlobs
from overlay.storage.documents_directory import DirectoryDocuments
from overlay.storage.files import DirectoryLock, empty_spool
from overlay.storage.ledger_memory import MemoryLedger
from overlay.upstream.cached import CachedUpstream
from overlay.upstream.client import UpstreamClient, UpstreamSettings
from overlay.upstream.page_files import PageFiles
from overlay.upstream.project_list import UpstreamProjectList
from overlay.web.context import Services, WebSettings


@dataclass(frozen=True, slots=True)
class Wired:
    """A running overlay without its HTTP server."""

    services: Services
    web: WebSettings
    rebuilt: Rebuilt
    admin_token_file: Path | None
    """Where the admin token of the first start lies; None when the operator brought one."""
    now_s: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Store:
    """The adapters below the services that keep what is staged."""

    root: Path
    spool: Path
    blobs: BlobStore
    documents: Documents
    ledger: StageLedger
    rebuilt: Rebuilt


@contextlib.asynccontextmanager
async def wired(
    config: Config, *, ephemeral: bool = False, now_s: Callable[[], float] = time.time
) -> AsyncIterator[Wired]:
    """Open the store, rebuild the ledger, connect upstream; close everything at the end.

    `ephemeral` only marks the pages for people; `now_s` is the one clock, in seconds since the epoch.
    Raises StoreInUse, RecordCorrupt, StoreUnavailable, InvalidConfig.
    """
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(_opened_store(config, _microseconds(now_s)))
        local = await in_thread(Path(config.server.local_path or config.store.path).absolute)
        client = await stack.enter_async_context(UpstreamClient(_upstream(config), now_s=now_s).open())
        upstream = _cached(config, client, local, now_s)
        stack.push_async_callback(upstream.close)
        project_list = _listed(config, client, local, now_s)
        stack.push_async_callback(project_list.close)
        services = _services(config, store, upstream, project_list, now_s)
        stack.push_async_callback(services.pages.close)
        stack.push_async_callback(services.uploads.close)
        sweeping = asyncio.ensure_future(
            sweep_regularly(store.blobs, store.documents, grace_s=config.uploads.grace_s, now_s=now_s)
        )
        stack.callback(sweeping.cancel)
        token_file = None
        if not config.admin_token:
            token_file = await ensure_admin_token(store.root, services.access, store.ledger)
        yield Wired(services, _web(config, ephemeral=ephemeral), store.rebuilt, token_file, now_s)


@contextlib.asynccontextmanager
async def _opened_store(config: Config, now_us: Callable[[], int]) -> AsyncIterator[_Store]:
    root = await in_thread(Path(config.store.path).absolute)
    with translating(f"opening the store {root} ([store] path)"):
        lock = await in_thread(DirectoryLock, root)
    try:
        spool = await in_thread(empty_spool, root)
        documents, ledger = DirectoryDocuments(root, spool), MemoryLedger(now_us)
        await mark(documents)
        rebuilt = await rebuild(documents, ledger)
        yield _Store(root, spool, DirectoryBlobs(root, spool), documents, ledger, rebuilt)
    finally:
        lock.release()


def _cached(config: Config, client: UpstreamClient, local: Path, now_s: Callable[[], float]) -> CachedUpstream:
    return CachedUpstream(
        client,
        files=PageFiles(local / "pages", config.cache.disk_bytes, config.upstream.url),
        limit_bytes=config.cache.page_bytes // 2,  # the other half is for renditions
        fresh_s=config.upstream.fresh_s,
        stale_s=config.upstream.stale_s,
        now_s=now_s,
    )


def _listed(config: Config, client: UpstreamClient, local: Path, now_s: Callable[[], float]) -> UpstreamProjectList:
    return UpstreamProjectList(
        client, local / "pages", fresh_s=config.upstream.fresh_s, stale_s=config.upstream.stale_s, now_s=now_s
    )


def _services(
    config: Config, store: _Store, upstream: Upstream, project_list: ProjectList, now_s: Callable[[], float]
) -> Services:
    facts_of, reports, now_us = facts_reader(), Reports(store.blobs), _microseconds(now_s)
    return Services(
        access=Access(
            store.ledger,
            store.documents,
            operator_secret=config.admin_token,
            now_s=now_s,
            new_bits=lambda: secrets.randbits(256),
        ),
        uploads=Uploads(
            blobs=store.blobs,
            documents=store.documents,
            ledger=store.ledger,
            upstream=upstream,
            facts_of=facts_of,
            reports=reports,
            settings=_uploads(config, store.spool),
            now_us=now_us,
            new_upload_id=_new_upload_id,
        ),
        pages=Pages(upstream, store.ledger, facts_of, limit_bytes=config.cache.page_bytes // 2),
        projects=Projects(project_list, store.ledger, upstream, facts_of),
        downloads=Downloads(
            blobs=store.blobs,
            documents=store.documents,
            ledger=store.ledger,
            upstream=upstream,
            facts_of=facts_of,
            grace_s=config.uploads.grace_s,
            now_us=now_us,
        ),
        releases=Releases(
            documents=store.documents,
            ledger=store.ledger,
            upstream=upstream,
            facts_of=facts_of,
            reports=reports,
            now_us=now_us,
            fresh_s=config.upstream.fresh_s,
        ),
        blobs=store.blobs,
        documents=store.documents,
        ledger=store.ledger,
        upstream=upstream,
        project_list=project_list,
    )


async def rebuilt_store(config: Config) -> Rebuilt | None:
    """Read all of the store once, to check it, and change nothing; None where its folder is not made yet.

    Raises StoreInUse, RecordCorrupt, StoreUnavailable.
    """
    root = await in_thread(Path(config.store.path).absolute)
    with translating(f"reading {root}"):
        if not await in_thread(root.exists):
            return None
        await in_thread(_refuse_if_locked, root)
        documents = _ReadOnly(DirectoryDocuments(root, root / "spool"))
        await mark(documents)
        return await rebuild(documents, MemoryLedger(_microseconds(time.time)))


def _refuse_if_locked(root: Path) -> None:
    """Look at the store's lock without making it, as DirectoryLock would. Raises StoreInUse."""
    try:
        lock = (root / "lock").open("rb")
    except FileNotFoundError:
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise StoreInUse(str(root), lock.read(32).decode("ascii", "replace").strip()) from err


class _ReadOnly:
    """Documents that can be read; what a rebuild would settle is left for the next start."""

    def __init__(self, documents: Documents) -> None:
        self.get, self.keys, self.scan = documents.get, documents.keys, documents.scan

    async def put(self, key: str, body: bytes) -> None:
        """Write nothing."""

    async def delete(self, key: str) -> None:
        """Delete nothing."""


@contextlib.asynccontextmanager
async def upstream_client(config: Config) -> AsyncIterator[UpstreamClient]:
    """Connect to upstream alone, to check it."""
    async with UpstreamClient(_upstream(config), now_s=time.time).open() as client:
        yield client


def _upstream(config: Config) -> UpstreamSettings:
    password = ""
    if config.upstream.password_file:
        try:
            password = Path(config.upstream.password_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as err:
            raise InvalidConfig((f"[upstream] password_file cannot be read: {err}.",)) from err
    return UpstreamSettings(
        url=config.upstream.url,
        timeout_s=config.upstream.timeout_s,
        username=config.upstream.username,
        password=password,
        ca_file=config.upstream.ca_file,
        proxy=config.upstream.proxy,
        user_agent=f"overlay-index/{__version__}",
    )


def _uploads(config: Config, spool: Path) -> UploadSettings:
    return UploadSettings(
        limit_bytes=config.uploads.limit_bytes,
        quota_bytes=config.uploads.quota_bytes,
        replace=config.uploads.replace,
        strict=config.uploads.strict,
        fresh_s=config.upstream.fresh_s,
        spool=spool,
        inspections=os.cpu_count() or 1,
    )


def _web(config: Config, *, ephemeral: bool) -> WebSettings:
    return WebSettings(
        public_url=config.public_url,
        prefix=urlsplit(config.public_url).path.rstrip("/"),
        upstream_url=config.upstream.url,
        read_open=config.read.open,
        grace_s=config.uploads.grace_s,
        upload_limit_bytes=config.uploads.limit_bytes,
        templates=config.web.templates,
        ephemeral=ephemeral,
    )


def _microseconds(now_s: Callable[[], float]) -> Callable[[], int]:
    return lambda: int(now_s() * 1_000_000)


def _new_upload_id() -> UploadId:
    return UploadId(secrets.token_hex(16))
