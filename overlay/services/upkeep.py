"""Keep the ledger true to the documents while the index runs; every worker runs one `Upkeep`.

Each looks at the ledger's state every `look_s`. Not ready (a Redis that is new, was flushed, or lost its memory): it is
rebuilt. Another server than the one that was reconciled last (a replica took over and may lack the last answers), or
`reconcile_s` after the last reconcile: it is reconciled. The lead makes one worker do it; what was done stands in the
ledger, so the others see that nothing is left to do.

    missing ready ─► rebuild under the lead, unless ready by now
    rebuilt, other server, or time ─► list documents and ledger ─► projects that disagree ─► each: re-read, then heal

The lists are no moment's truth: uploads go on meanwhile. They only say where to look; healing reads again and writes
through `overlay.services.reconcile`, which an upload that is between its two steps bears (design §5). Freezes that the
ledger lost come last (`overlay.services.freezes`).
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NoReturn

from overlay.domain.errors import Corrupt, DocumentNotFound, LedgerBusy, Unavailable
from overlay.domain.layout import HISTORY, RECORDS, TOKENS, token_key, upload_of_document
from overlay.domain.ledger_port import Lead, LedgerState, StageLedger
from overlay.domain.measures import NO_MEASURES, Measures
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.ports import Documents
from overlay.domain.records import TokenDocument, decode
from overlay.domain.rights import Token
from overlay.services.freezes import LEASE_S, freeze_again
from overlay.services.listings import listed
from overlay.services.rebuild import rebuild_missing
from overlay.services.reconcile import end_again, reconcile_project

LOOK_S: Final = 0.5
_MICROSECONDS: Final = 1_000_000

_log = logging.getLogger(__name__)


class Duty(Enum):
    """What the ledger's state asks for."""

    NOTHING = "nothing"
    REBUILD = "rebuild"
    RECONCILE = "reconcile"


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a reconcile found: projects and tokens that disagreed and were looked at again."""

    projects: int
    tokens: int


def duty(state: LedgerState, *, now_us: int, reconcile_s: float) -> Duty:
    """Decide what the ledger needs."""
    if not state.epoch:
        return Duty.REBUILD
    # A time to come was written by a host whose clock ran ahead: it says nothing.
    overdue = not 0 <= now_us - state.reconciled_at_us < reconcile_s * _MICROSECONDS
    return Duty.RECONCILE if overdue or state.server != state.reconciled_server else Duty.NOTHING


def disagreeing(
    recorded: Mapping[UploadId, NormalizedName],
    ended: Iterable[UploadId],
    staged: Mapping[UploadId, NormalizedName],
) -> tuple[NormalizedName, ...]:
    """Return the projects, sorted, whose records, history and ledger entries do not fit each other.

    That is: a record that is neither staged nor ended, an ending that is still staged or still has its record.
    """
    dead = set(ended)
    unknown = {project for upload, project in recorded.items() if upload not in staged or upload in dead}
    undead = {project for upload, project in staged.items() if upload in dead}
    return tuple(sorted(unknown | undead))


_NOTHING_FOUND: Final = Reconciled(0, 0)


async def reconcile(documents: Documents, ledger: StageLedger) -> Reconciled:
    """Heal every project whose documents and ledger disagree, freezes and tokens.

    Raises LedgerUnavailable, StoreUnavailable, RecordCorrupt. The ledger is read last: what it shows was recorded
    before, so an upload under way is rarely looked at twice.
    """
    recorded = {upload_of_document(key): _project_of(key) for key in await listed(documents, RECORDS)}
    ended = [upload_of_document(key) for key in await listed(documents, HISTORY)]
    staged = {file.upload_id: file.project for file in (await ledger.index()).files}
    projects = disagreeing(recorded, ended, staged)
    for project in projects:
        await reconcile_project(documents, ledger, project)
    for upload in staged.keys() & set(ended) - recorded.keys():  # a rebuild had read the record before it was deleted
        await end_again(documents, ledger, staged[upload], upload)
    await freeze_again(documents, ledger)  # at last: what was lost of a release is staged again before
    return Reconciled(len(projects), await _reconcile_tokens(documents, ledger))


async def _reconcile_tokens(documents: Documents, ledger: StageLedger) -> int:
    """Put the tokens that the ledger lacks and drop those that were revoked; a lost revocation must not stay lost."""
    kept = {str(upload_of_document(key)) async for key in documents.keys(TOKENS)}
    held = {token.id for token in await ledger.tokens()}
    healed = 0
    for token_id in sorted(held ^ kept):
        key = token_key(token_id)
        token = await _token(documents, key)
        if token is not None:
            await ledger.put_token(token)
            token = await _token(documents, key)
        if token is None:  # revoked; also while it was put: whoever deletes the document later drops the token later
            await ledger.drop_token(token_id)
        healed += 1
    return healed


async def _token(documents: Documents, key: str) -> Token | None:
    try:
        return decode(key, await documents.get(key), TokenDocument).token
    except DocumentNotFound:
        return None


class Upkeep:
    """Looks after the ledger; `wait` takes seconds and may return early, `now_us` is the clock.

    `lease_s` is how long who runs a promotion has to go on after a rebuild.
    """

    def __init__(
        self,
        documents: Documents,
        ledger: StageLedger,
        *,
        reconcile_s: float,
        now_us: Callable[[], int],
        wait: Callable[[float], Awaitable[None]],
        lease_s: float = LEASE_S,
        measures: Measures = NO_MEASURES,
    ) -> None:
        self._documents = documents
        self._ledger = ledger
        self._reconcile_s = reconcile_s
        self._now_us = now_us
        self._wait = wait
        self._lease_s = lease_s
        self._measures = measures
        self._said = ""

    async def run(self) -> NoReturn:
        """Look, mend and wait until cancelled. What fails is said once and tried again at the next look."""
        while True:
            await self.look()
            await self._wait(LOOK_S)

    async def look(self) -> Duty:
        """Do what the ledger needs now, and return it; NOTHING also when another worker does it or nobody can."""
        try:
            done = await self._mend()
        except LedgerBusy:
            return Duty.NOTHING
        except (Unavailable, Corrupt) as err:
            if self._said != str(err):
                _log.warning("The ledger waits for a rebuild or a reconcile: %s", err)
            self._said = str(err)
            return Duty.NOTHING
        self._said = ""
        return done

    async def _mend(self) -> Duty:
        needed = duty(await self._ledger.state(), now_us=self._now_us(), reconcile_s=self._reconcile_s)
        if needed is Duty.REBUILD:
            rebuilt = await rebuild_missing(self._documents, self._ledger, self._now_us, lease_s=self._lease_s)
            if rebuilt is None:
                return Duty.NOTHING
            self._measures.rebuilt(rebuilt.took_s)
            _log.warning("The ledger was rebuilt: %d files in %.1f s.", rebuilt.files, rebuilt.took_s)
        elif needed is Duty.RECONCILE:
            async with self._ledger.lead() as lead:
                return await self._reconcile(lead)
        return needed

    async def _reconcile(self, lead: Lead) -> Duty:
        state, now_us = await self._ledger.state(), self._now_us()
        if duty(state, now_us=now_us, reconcile_s=self._reconcile_s) is not Duty.RECONCILE:
            return Duty.NOTHING  # another worker did it, a moment ago
        began_s = time.perf_counter()
        reconciled = await reconcile(self._documents, self._ledger)
        await lead.reconciled(state.server, now_us)
        self._measures.reconciled(time.perf_counter() - began_s)
        if reconciled != _NOTHING_FOUND:
            _log.warning(
                "The ledger was reconciled: %d projects and %d tokens had to be looked at.",
                reconciled.projects,
                reconciled.tokens,
            )
        return Duty.RECONCILE


def _project_of(key: str) -> NormalizedName:
    return NormalizedName(key.split("/")[1])
