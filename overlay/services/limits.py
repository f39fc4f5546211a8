"""How much, and how often, tokens may stage: limits that all workers share through the ledger.

The limits per token are for issued tokens. Who holds OVERLAY_ADMIN_TOKEN, or starts a server with files to stage, is
whoever sets the limits: of those only the one of everything holds for them.
"""

from overlay.domain.errors import RateExceeded, TooLarge
from overlay.domain.ledger_port import StageLedger
from overlay.domain.rights import Token
from overlay.domain.stage import StagedFile
from overlay.services.access import OPERATOR


async def spend_upload(ledger: StageLedger, caller: Token, *, per_minute: int) -> None:
    """Take one of the caller's uploads a minute; 0: no limit. Raises RateExceeded, LedgerUnavailable."""
    if not per_minute or caller.id == OPERATOR:
        return
    wait_s = await ledger.spend(caller.id, per_minute=per_minute)
    if wait_s > 0:
        raise RateExceeded(caller.label, per_minute=per_minute, wait_s=wait_s)


async def check_quotas(
    ledger: StageLedger, file: StagedFile, held: StagedFile | None, *, quota_bytes: int, token_quota_bytes: int
) -> None:
    """Refuse a file that does not fit beside what is staged; 0: no quota. `held` would be replaced by it.

    Raises TooLarge, LedgerUnavailable. Uploads under way together may exceed a quota by what they bring.
    """
    if quota_bytes:
        replaced_bytes = held.size_bytes if held is not None else 0
        staged_bytes = (await ledger.totals()).size_bytes - replaced_bytes
        if staged_bytes + file.size_bytes > quota_bytes:
            raise TooLarge(
                "What is staged, with this file,",
                quota_bytes,
                "Withdraw releases, or have the operator raise [uploads] quota_bytes.",
            )
    if token_quota_bytes and file.token_id != OPERATOR:
        replaced_bytes = held.size_bytes if held is not None and held.token_id == file.token_id else 0
        staged_bytes = await ledger.bytes_staged_by(file.token_id) - replaced_bytes
        if staged_bytes + file.size_bytes > token_quota_bytes:
            raise TooLarge(
                f"What the token {file.who!r} has staged, with this file,",
                token_quota_bytes,
                "Withdraw some of it, or have the operator raise [uploads] token_quota_bytes.",
            )
