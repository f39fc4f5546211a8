"""A rebuild reads records while it lists the history, and finds what it would find one after the other."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import StoreUnavailable
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
    """The history is listed only once every record was read; then `meanwhile` happens first."""

    def __init__(self, *files: StagedFile) -> None:
        super().__init__()
        self.scanned = asyncio.Event()
        for file in files:
            self.record(file)

    def record(self, file: StagedFile) -> None:
        self.held[record_key(file.project, file.upload_id)] = encode(Record(file=file, form=(), attestations=None))

    def end(self, file: StagedFile) -> None:
        gone = Gone(file, Reason.REPLACED, NEW.staged_at_us, "ada")
        self.held[history_key(file.project, file.upload_id)] = encode(HistoryEntry(gone=gone))
        self.held.pop(record_key(file.project, file.upload_id), None)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        async for found in super().scan(prefix):
            yield found
        if prefix == RECORDS:
            self.scanned.set()

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        if prefix.startswith(HISTORY):
            async with asyncio.timeout(_PATIENCE_S):
                await self.scanned.wait()
            self.meanwhile()
        async for key in super().keys(prefix):
            yield key

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


async def test_records_are_read_while_the_history_is_listed() -> None:
    """Else this waits for ever; a listing of the history takes longer every year."""
    assert await rebuilt(Documents(OLD, KEPT)) == {OLD, KEPT}


async def test_a_file_replaced_while_documents_are_read_keeps_its_name() -> None:
    """The old one is known to have ended, so the new one must be known, too."""
    assert await rebuilt(ReplacedMeanwhile(OLD, KEPT)) == {NEW, KEPT}


class EndedLater(Documents):
    """Right after the history was listed."""

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        async for key in super().keys(prefix):
            yield key
        if prefix == parts(HISTORY)[-1]:
            self.end(OLD)


async def test_what_ends_after_the_history_was_listed_is_not_staged() -> None:
    """Its record is gone by then."""
    assert await rebuilt(EndedLater(OLD, KEPT)) == {KEPT}


class Unlisted(Documents):
    """The history cannot be listed; the last record never comes."""

    def __init__(self) -> None:
        super().__init__(OLD)
        self.left = False

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        try:
            async for found in super().scan(prefix):
                yield found
                await asyncio.Event().wait()
        finally:
            self.left = True

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        if prefix.startswith(HISTORY):
            raise StoreUnavailable("The history cannot be listed (a fault of the test).")
        async for key in super().keys(prefix):
            yield key


async def test_a_rebuild_that_fails_reads_no_further() -> None:
    """The next one begins anew."""
    documents = Unlisted()
    with pytest.raises(StoreUnavailable):
        await rebuilt(documents)
    assert documents.left


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True))
def test_every_project_is_in_one_part_of_the_list(raw: str) -> None:
    assert sum(record_prefix(project_name(raw)).startswith(part) for part in parts(RECORDS)) == 1
