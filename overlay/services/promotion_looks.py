"""What upstream shows of a promotion's files, and what follows from it.

The server's own look decides that a file is live, never what a run says. Once the journal has begun (something may have
been pushed) it notes every file that is seen; when all are, the promotion has ended, whoever looked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from overlay.caching.threads import in_thread
from overlay.domain import simple_json
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.page import UpstreamPage
from overlay.domain.page_facts import SeenFile
from overlay.domain.ports import Documents, StageLedger, Upstream
from overlay.domain.promotion import (
    FileState,
    JournalEntry,
    Outcome,
    PlannedFile,
    Promotion,
    PromotionReceipt,
    Underway,
)
from overlay.services.promotion_papers import close, put_entry

_INLINE_BYTES: Final = 64 * 1024  # smaller pages are read in less time than a thread switch takes


class Seen(StrEnum):
    """What upstream's page has under a file's name."""

    ABSENT = "absent"
    LIVE = "live"
    OTHER = "other"
    """Other bytes, or such as the page does not say the sha256 of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One file of a plan, and what upstream's page has under its name."""

    file: PlannedFile
    seen: Seen
    on_page: SeenFile | None
    """None where the page does not list the name."""


async def on_page(page: UpstreamPage, filenames: Iterable[str]) -> Mapping[str, SeenFile]:
    """Find files by their names on upstream's page."""
    body, wanted = page.body, frozenset(filenames)
    if body is None or not wanted:
        return {}
    if len(body) <= _INLINE_BYTES:
        return simple_json.seen(body, wanted)
    return await in_thread(simple_json.seen, body, wanted)


async def look(upstream: Upstream, promotion: Promotion, *, no_older_than_s: float) -> tuple[Sight, ...]:
    """Ask upstream for every file of a plan. Raises UpstreamUnavailable, UpstreamCorrupt."""
    listed: dict[NormalizedName, Mapping[str, SeenFile]] = {}
    for project in dict.fromkeys(file.project for file in promotion.files):
        page = await upstream.page(project, no_older_than_s=no_older_than_s)
        listed[project] = await on_page(page, [file.filename for file in promotion.files if file.project == project])
    return tuple(_sight(file, listed[file.project].get(file.filename)) for file in promotion.files)


def _sight(file: PlannedFile, found: SeenFile | None) -> Sight:
    if found is None:
        return Sight(file=file, seen=Seen.ABSENT, on_page=None)
    return Sight(file=file, seen=Seen.LIVE if found.sha256 == file.sha256 else Seen.OTHER, on_page=found)


async def note(
    documents: Documents,
    ledger: StageLedger,
    held: Underway,
    sights: Sequence[Sight],
    *,
    who: str,
    now_us: Callable[[], int],
) -> PromotionReceipt | None:
    """Write down what is live, and end the promotion if all of it is: then return its receipt. May be repeated."""
    live = {sight.file.upload_id for sight in sights if sight.seen is Seen.LIVE}
    entries = {file.upload_id: held.journal.get(file.upload_id) for file in held.promotion.files}
    noted = {
        upload: _live(entry, held.promotion, upload, now_us()) if upload in live else entry
        for upload, entry in entries.items()
    }
    if all(upload in live for upload in entries):
        receipt = PromotionReceipt(
            promotion=held.promotion,
            outcome=Outcome.LIVE,
            ended_at_us=now_us(),
            ended_by=who,
            journal=tuple(entry for entry in noted.values() if entry is not None),
        )
        await close(documents, ledger, receipt)
        return receipt
    if held.journal:
        for upload, entry in noted.items():
            if entry is not None and entry != entries[upload]:
                await put_entry(documents, held.promotion.id, entry)
    return None


def _live(entry: JournalEntry | None, promotion: Promotion, upload: UploadId, at_us: int) -> JournalEntry:
    if entry is None:  # pushed by somebody else, or by a run whose journal never arrived
        return JournalEntry(upload_id=upload, state=FileState.LIVE, at_us=at_us, fence=promotion.fence)
    return entry if entry.state is FileState.LIVE else replace(entry, state=FileState.LIVE, at_us=at_us)
