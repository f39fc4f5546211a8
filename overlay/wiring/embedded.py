"""The embedded form: a directory, and the ledger in this process, rebuilt from the records at every start."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from overlay.caching.local_disk import translating
from overlay.caching.threads import in_thread
from overlay.config.tables import Config
from overlay.services.rebuild import Rebuilt, mark, rebuild
from overlay.storage.blobs_directory import DirectoryBlobs
from overlay.storage.documents_directory import DirectoryDocuments
from overlay.storage.files import DirectoryLock, empty_spool, refuse_if_locked
from overlay.storage.ledger_memory import MemoryLedger
from overlay.wiring.store import Store


@contextlib.asynccontextmanager
async def directory_store(config: Config, now_us: Callable[[], int]) -> AsyncIterator[Store]:
    """Lock the directory and load the ledger. Raises StoreInUse, RecordCorrupt, StoreUnavailable."""
    root = await in_thread(Path(config.store.path).absolute)
    with translating(f"opening the store {root} ([store] path)"):
        lock = await in_thread(DirectoryLock, root)
    try:
        spool = await in_thread(empty_spool, root)
        documents, ledger = DirectoryDocuments(root, spool), MemoryLedger(now_us)
        await mark(documents)
        yield Store(
            blobs=DirectoryBlobs(root, spool),
            documents=documents,
            ledger=ledger,
            presigns=None,
            local=await in_thread(Path(config.server.local_path).absolute) if config.server.local_path else root,
            spool=spool,
            rebuilt=await rebuild(documents, ledger, now_us, lease_s=config.promote.lease_s),
            token_folder=root,
        )
    finally:
        lock.release()


async def read_directory(config: Config, now_us: Callable[[], int]) -> Rebuilt | None:
    """Read all of the store once, to check it, and change nothing; None where its folder is not made yet.

    Raises StoreInUse, RecordCorrupt, StoreUnavailable.
    """
    root = await in_thread(Path(config.store.path).absolute)
    with translating(f"reading {root}"):
        if not await in_thread(root.exists):
            return None
        await in_thread(refuse_if_locked, root)
        documents = _ReadOnly(DirectoryDocuments(root, root / "spool"))
        await mark(documents)
        return await rebuild(documents, MemoryLedger(now_us), now_us)


class _ReadOnly:
    """Documents that can be read; what a rebuild would settle is left for the next start."""

    def __init__(self, documents: DirectoryDocuments) -> None:
        self.get, self.keys, self.scan, self.parts = documents.get, documents.keys, documents.scan, documents.parts

    async def put(self, key: str, body: bytes) -> None:
        """Write nothing."""

    async def delete(self, key: str) -> None:
        """Delete nothing."""
