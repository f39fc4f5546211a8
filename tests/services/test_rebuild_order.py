"""What is written while a rebuild reads the documents is found, or is known to have ended."""

from collections.abc import AsyncIterator
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.layout import HISTORY, RECORDS, history_key, parts, record_key, record_prefix
from overlay.domain.names import project_name
from overlay.domain.records import HistoryEntry, Record, encode
from overlay.domain.stage import Gone, Reason, StagedFile
from overlay.services.rebuild import rebuild
from overlay.storage.ledger_memory import MemoryLedger
from tests.fakes.documents import MemoryDocuments
from tests.staged import staged_file

OLD: Final = staged_file(1)
NEW: Final = staged_file(2, content="other")
KEPT: Final = staged_file(3, filename="demo-1.0.tar.gz")
_PATIENCE_S: Final = 30


class Documents(MemoryDocuments):
    """The records of these files; `meanwhile` happens when the history was listed."""

    def __init__(self, *files: StagedFile) -> None:
        super().__init__()
        for file in files:
            self.record(file)

    def record(self, file: StagedFile, *, live_since_us: int | None = None) -> None:
        record = Record(file=file, form=(), attestations=None, live_since_us=live_since_us)
        self.held[record_key(file.project, file.upload_id)] = encode(record)

    def end(self, file: StagedFile) -> None:
        gone = Gone(file, Reason.REPLACED, NEW.staged_at_us, "ada")
        self.held[history_key(file.project, file.upload_id)] = encode(HistoryEntry(gone=gone))
        self.held.pop(record_key(file.project, file.upload_id), None)

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        async for key in super().keys(prefix):
            yield key
        if prefix == parts(HISTORY)[-1]:
            self.meanwhile()

    def meanwhile(self) -> None:
        """Nothing, here."""


async def rebuilt(documents: MemoryDocuments) -> set[StagedFile]:
    ledger = MemoryLedger(lambda: 1)
    await rebuild(documents, ledger, lambda: 1)
    return set((await ledger.index()).files)


class ReplacedMeanwhile(Documents):
    """The new record comes before the old one's history, as replacing writes them."""

    def meanwhile(self) -> None:
        self.record(NEW)
        self.end(OLD)


async def test_a_file_replaced_while_documents_are_read_keeps_its_name() -> None:
    """The old one is known to have ended, so the new one must be known, too."""
    assert await rebuilt(ReplacedMeanwhile(OLD, KEPT)) == {NEW, KEPT}


class EndedLater(Documents):
    """Right after the history was listed."""

    def meanwhile(self) -> None:
        self.end(OLD)


async def test_what_ends_after_the_history_was_listed_is_not_staged() -> None:
    """Its record is gone by then."""
    assert await rebuilt(EndedLater(OLD, KEPT)) == {KEPT}


class MarkedLive(Documents):
    """Whoever ends a promotion marks what is live in its record, where Redis was lost beside."""

    def meanwhile(self) -> None:
        self.record(OLD, live_since_us=1)


async def test_what_is_marked_live_while_documents_are_read_is_live() -> None:
    """Else it could be withdrawn, or lose its name, until somebody looks upstream again."""
    ledger = MemoryLedger(lambda: 1)
    await rebuild(MarkedLive(OLD, KEPT), ledger, lambda: 1)
    assert await ledger.marked_live() == {OLD.upload_id}


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True))
def test_every_project_is_in_one_part_of_the_list(raw: str) -> None:
    assert sum(record_prefix(project_name(raw)).startswith(part) for part in parts(RECORDS)) == 1
