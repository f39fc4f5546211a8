"""What upstream shows of a promotion's files, and what follows from it.

The server's own look decides that a file is live, never what a run says. Once the journal has begun (something may have
been pushed) it notes every file that is seen; when all are, the promotion has ended, whoever looked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from overlay.domain import simple_json
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.page import UpstreamPage
from overlay.domain.page_facts import SeenFile
from overlay.domain.ports import Documents, Upstream
from overlay.domain.promotion import (
    FileState,
    JournalEntry,
    Outcome,
    PlannedFile,
    Promotion,
    PromotionReceipt,
    Underway,
)
from overlay.services.facts import read_body
from overlay.services.live_copies import keep_live
from overlay.services.promotion_papers import Journal, close, put_entry


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
    return await read_body(simple_json.seen, body, wanted)


async def look(upstream: Upstream, promotion: Promotion, *, no_older_than_s: float) -> tuple[Sight, ...]:
    """Ask upstream for every file of a plan. Raises UpstreamUnavailable, UpstreamCorrupt."""
    projects = dict.fromkeys(file.project for file in promotion.files)
    return await see(
        promotion, {project: await upstream.page(project, no_older_than_s=no_older_than_s) for project in projects}
    )


async def see(promotion: Promotion, pages: Mapping[NormalizedName, UpstreamPage]) -> tuple[Sight, ...]:
    """Find every file of a plan on upstream's pages, which are in hand for all its projects."""
    listed: dict[NormalizedName, Mapping[str, SeenFile]] = {}
    for project, page in pages.items():
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
    """Write down what is live, and end the promotion if all of it is: then return its receipt. May be repeated.

    Where somebody else has ended it since, that is the receipt of that.
    """
    live = {sight.file.upload_id for sight in sights if sight.seen is Seen.LIVE}
    urls = {sight.file.upload_id: sight.on_page.url for sight in sights if sight.on_page and sight.seen is Seen.LIVE}
    found = noted(held, sights, now_us=now_us())
    if all(file.upload_id in live for file in held.promotion.files):
        receipt = PromotionReceipt(
            promotion=held.promotion,
            outcome=Outcome.LIVE,
            ended_at_us=now_us(),
            ended_by=who,
            journal=tuple(found.values()),
        )
        return await close(documents, ledger, receipt, urls=urls)
    if held.journal:
        new = {
            file.upload_id: file.project
            for file in held.promotion.files
            if file.upload_id in live and found[file.upload_id] != held.journal.get(file.upload_id)
        }
        await keep_live(documents, ledger, new, urls=urls, at_us=now_us())
        for upload, entry in found.items():
            if entry != held.journal.get(upload):
                await put_entry(documents, held.promotion.id, entry)
    return None


def noted(held: Underway, sights: Iterable[Sight], *, now_us: int) -> Journal:
    """Return the journal with what is seen live, in the order of the files; changes nothing."""
    live = {sight.file.upload_id for sight in sights if sight.seen is Seen.LIVE}
    entries = [
        _live(held.journal.get(file.upload_id), held.promotion, file.upload_id, now_us)
        if file.upload_id in live
        else held.journal.get(file.upload_id)
        for file in held.promotion.files
    ]
    return {entry.upload_id: entry for entry in entries if entry is not None}


def _live(entry: JournalEntry | None, promotion: Promotion, upload: UploadId, at_us: int) -> JournalEntry:
    if entry is None:  # pushed by somebody else, or by a run whose journal never arrived
        return JournalEntry(upload_id=upload, state=FileState.LIVE, at_us=at_us, fence=promotion.fence)
    return entry if entry.state is FileState.LIVE else replace(entry, state=FileState.LIVE, at_us=at_us)
