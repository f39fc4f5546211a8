"""What keeps the staged files, the same in either form."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from overlay.domain.ledger_port import StageLedger
from overlay.domain.ports import BlobStore, Documents, Presigns
from overlay.services.rebuild import Rebuilt


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The adapters below the services, open."""

    blobs: BlobStore
    documents: Documents
    ledger: StageLedger
    presigns: Presigns | None
    """The store again, where clients may fetch from it themselves."""
    local: Path
    """A folder on local disk that is this process's own."""
    spool: Path
    """An empty one, for uploads under way."""
    rebuilt: Rebuilt | None
    """What the ledger was loaded with; None where it is loaded while the server runs, if at all."""
    token_folder: Path | None
    """Where the admin token of the first start is written; None where nobody could read it."""
    watched: tuple[asyncio.Task[NoReturn], ...] = ()
    """What looks after the ledger; the end of one of these is a failure that nothing else mends."""


async def ended(task: asyncio.Task[NoReturn]) -> None:
    """Cancel the task and wait until it has ended: what it uses is about to be closed."""
    task.cancel()
    await asyncio.wait({task})
