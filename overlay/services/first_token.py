"""Where the first admin token comes from.

Embedded: a file that only its owner can read, written at the first start.
Deleting the file and starting again makes a new one; a file whose token was revoked is replaced at the next start.
Nobody is ever locked out of a directory they can write. Distributed: from the operator, until one is stored.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from overlay.caching.threads import in_thread
from overlay.domain.errors import InvalidConfig
from overlay.domain.layout import TOKENS
from overlay.domain.ledger_port import StageLedger
from overlay.domain.ports import Documents
from overlay.domain.records import TokenDocument, decode
from overlay.domain.rights import Right
from overlay.services.access import FIRST_START, Access, TokenRequest

FILENAME: Final = "admin-token"


async def ensure_admin_token(folder: Path, access: Access, ledger: StageLedger) -> Path:
    """Return the file with a valid admin token, made (mode 0600) if there is none."""
    path = folder / FILENAME
    held = await in_thread(_read, path)
    if held is not None and await ledger.token(hashlib.sha256(held.encode()).hexdigest()) is not None:
        return path
    for token in await ledger.tokens():
        if token.label == FIRST_START:
            await access.revoke(token.id)
    request = TokenRequest(label=FIRST_START, rights=[Right.ADMIN], projects=["*"], stages=["*"], expires_at_s=None)
    _, text = await access.create(request)
    await in_thread(_write, path, text)
    return path


async def require_stored_admin(documents: Documents, *, now_s: Callable[[], float]) -> None:
    """Refuse to start where nobody could ever make a token. Raises InvalidConfig, StoreUnavailable, RecordCorrupt."""
    async for key, body in documents.scan(TOKENS):
        token = decode(key, body, TokenDocument).token
        if token.allows(Right.ADMIN) and not token.expired(now_s()):
            return
    sentence = (
        "No admin token is stored yet: set OVERLAY_ADMIN_TOKEN to ovl_ and at least 28 random characters, the same for "
        "every worker. It may be taken away once an admin token was made with it."
    )
    raise InvalidConfig((sentence,))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
