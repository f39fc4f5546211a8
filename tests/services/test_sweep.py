"""A sweep deletes what nothing names, once an hour however many processes there are."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from overlay.domain.errors import StoreUnavailable
from overlay.domain.layout import RECORDS, SWEEP_MARK, blob_key, history_key, record_key
from overlay.domain.ports import BlobKey
from overlay.domain.records import HistoryEntry, encode
from overlay.domain.stage import Gone, Reason
from overlay.services.sweep import EVERY_S, Swept, sweep, sweep_if_due, sweep_regularly
from overlay.storage.blobs_s3 import S3Blobs
from overlay.storage.documents_s3 import S3Documents
from overlay.storage.s3_client import Bucket, open_bucket
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
from tests.s3_server import S3Server
from tests.staged import staged_file, upload_of

NOW_S = 1_800_000_000.0
DAY_S = 86_400
KEY = BlobKey("0123456789abcdef0123456789abcdef/demo-1.0.tar.gz")


class Orphans(MemoryBlobs):
    """Blobs that nothing names, older than any upload; `at_delete` runs before each deletion."""

    def __init__(self, count: int, at_delete: Callable[[BlobKey], Awaitable[None]] | None = None) -> None:
        super().__init__(now_s=NOW_S - 2 * DAY_S)
        self.held = {blob_key(upload_of(number), "demo-1.0.tar.gz"): b"abc" for number in range(count)}
        self._at_delete = at_delete

    async def delete(self, key: BlobKey) -> None:
        if self._at_delete is not None:
            await self._at_delete(key)
        await super().delete(key)


async def swept_all(blobs: MemoryBlobs) -> Swept:
    return await sweep(blobs, MemoryDocuments(), ended_before_s=NOW_S, orphaned_before_s=NOW_S)


async def test_a_few_blobs_are_deleted_at_once() -> None:
    """More than one, for a store across a network; few, for those who use it meanwhile."""
    now = most = 0

    async def at_delete(_: BlobKey) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    blobs = Orphans(50, at_delete)
    assert await swept_all(blobs) == Swept(50, 150, dry_run=False, abandoned=0)
    assert not blobs.held
    assert 1 < most <= 8


async def test_a_deletion_that_fails_is_told_when_none_is_under_way() -> None:
    """Nothing goes on behind the back of whoever is told."""
    ended: list[BlobKey] = []

    async def at_delete(key: BlobKey) -> None:
        if len(ended) == 0 and key == first:
            raise StoreUnavailable("The store did not answer (a fault of the test).")
        await asyncio.sleep(0)
        ended.append(key)

    blobs = Orphans(50, at_delete)
    first = next(iter(blobs.held))
    with pytest.raises(StoreUnavailable):
        await swept_all(blobs)
    held = set(blobs.held)
    assert first in held
    for _ in range(10):
        await asyncio.sleep(0)
    assert set(blobs.held) == held
    assert (await swept_all(blobs)).blobs == len(held)


async def test_many_processes_sweep_once_an_hour() -> None:
    """Whoever looks next in the same hour passes; the first one after it sweeps."""
    documents, blobs = MemoryDocuments(), Orphans(1)
    due = [
        await sweep_if_due(blobs, documents, grace_s=DAY_S, at_s=NOW_S + at_s)
        for at_s in (0, 1, EVERY_S - 1, EVERY_S, EVERY_S + 1, 2 * EVERY_S)
    ]
    assert [swept is not None for swept in due] == [True, False, False, True, False, True]
    assert [swept.blobs for swept in due if swept is not None] == [1, 0, 0]


@pytest.mark.parametrize("body", [b"", b'{"schema":9}', b'{"begun_at_us":9000000000000000,"schema":1}'])
async def test_a_mark_that_makes_no_sense_does_not_end_all_sweeping(body: bytes) -> None:
    """Broken, of a newer program, or of a clock that went wrong: it only saves work."""
    documents = MemoryDocuments()
    await documents.put(SWEEP_MARK, body)
    assert await sweep_if_due(Orphans(1), documents, grace_s=DAY_S, at_s=NOW_S) is not None
    assert await sweep_if_due(Orphans(1), documents, grace_s=DAY_S, at_s=NOW_S + 1) is None


async def test_sweeps_at_the_same_moment_do_no_harm() -> None:
    """They delete the same."""
    blobs, documents = Orphans(20), MemoryDocuments()
    await asyncio.gather(*(sweep(blobs, documents, ended_before_s=NOW_S, orphaned_before_s=NOW_S) for _ in range(4)))
    assert not blobs.held


class Read(MemoryDocuments):
    """Documents that note which ones are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    async def get(self, key: str) -> bytes:
        self.read.append(key)
        return await super().get(key)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        async for key, body in super().scan(prefix):
            self.read.append(key)
            yield key, body


async def test_of_the_history_only_what_matters_is_read() -> None:
    """It only grows: what ended long ago has neither blob nor record, and would be read every hour for ever."""
    documents, blobs = Read(), MemoryBlobs()
    files = [staged_file(number, filename=f"demo-{number}.tar.gz") for number in range(100)]
    for file in files:
        gone = Gone(file, Reason.WITHDRAWN, int((NOW_S - 2 * DAY_S) * 1_000_000), "bob")
        documents.held[history_key(file.project, file.upload_id)] = encode(HistoryEntry(gone=gone))
    for file in files[:20]:
        blobs.held[blob_key(file.upload_id, file.filename)] = b"abc"
    for file in files[10:30]:
        documents.held[record_key(file.project, file.upload_id)] = b"never read"
    swept = await sweep(blobs, documents, ended_before_s=NOW_S - DAY_S, orphaned_before_s=0)
    assert swept.blobs == 20
    assert not blobs.held
    assert not [key for key in documents.held if key.startswith(RECORDS)]
    assert sorted(documents.read) == sorted(history_key(file.project, file.upload_id) for file in files[:30])


async def test_a_blob_is_kept_for_a_while_after_its_upload_ended() -> None:
    """Whoever read the page before may still fetch it; a dry run deletes nothing at all.

    So is its record: what is written before the ledger is asked is taken away again where the ledger refuses.
    """
    documents, blobs, file = MemoryDocuments(), MemoryBlobs(), staged_file()
    gone = Gone(file, Reason.WITHDRAWN, int(NOW_S * 1_000_000), "bob")
    documents.held[history_key(file.project, file.upload_id)] = encode(HistoryEntry(gone=gone))
    documents.held[record_key(file.project, file.upload_id)] = b"left by a killed process"
    blobs.held[blob_key(file.upload_id, file.filename)] = b"abc"
    for ended_before_s, dry_run, deleted in ((NOW_S + 1, True, 1), (NOW_S - 1, False, 0), (NOW_S + 1, False, 1)):
        held = len(documents.held), len(blobs.held)
        swept = await sweep(blobs, documents, ended_before_s=ended_before_s, orphaned_before_s=NOW_S, dry_run=dry_run)
        assert swept.blobs == deleted
        left = len(documents.held), len(blobs.held)
        assert left == (held if dry_run or not deleted else (1, 0))
    assert not blobs.held


class Hours:
    """Waits without time: moves a clock, and cancels whoever waits beyond the end."""

    def __init__(self, end_s: float) -> None:
        self.now_s = NOW_S
        self.waited_s: list[float] = []
        self._end_s = NOW_S + end_s

    async def __call__(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        self.now_s += seconds
        if self.now_s > self._end_s:
            raise asyncio.CancelledError


@pytest.mark.parametrize("spread", [0.0, 0.25, 1.0])
async def test_a_process_sweeps_every_hour_from_a_moment_of_its_own(spread: float) -> None:
    """What fails is logged; the next hour tries again."""
    hours, swept_at_s = Hours(5 * EVERY_S), list[float]()

    async def at_delete(_: BlobKey) -> None:
        swept_at_s.append(hours.now_s)
        raise StoreUnavailable("The store did not answer (a fault of the test).")

    with pytest.raises(asyncio.CancelledError):
        await sweep_regularly(
            Orphans(1, at_delete),
            MemoryDocuments(),
            grace_s=DAY_S,
            now_s=lambda: hours.now_s,
            spread=spread,
            wait=hours,
        )
    assert EVERY_S / 2 <= hours.waited_s[0] <= EVERY_S
    assert swept_at_s == [NOW_S + hours.waited_s[0] + EVERY_S * hour for hour in range(len(swept_at_s))]
    assert len(swept_at_s) >= 4


@pytest.fixture
async def bucket(s3_server: S3Server, tmp_path: Path) -> AsyncIterator[Bucket]:
    async with open_bucket(s3_server.settings(tmp_path.name), s3_server.session) as opened:
        yield opened


async def test_uploads_that_a_killed_process_left_in_the_bucket_are_ended(bucket: Bucket) -> None:
    """No list of blobs shows their parts, which are paid for; a dry run tells of none and ends none."""
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key=bucket.full(f"blobs/{KEY}"))
    blobs, documents, later_s = S3Blobs(bucket), S3Documents(bucket), time.time() + 3600
    dry = await sweep(blobs, documents, ended_before_s=later_s, orphaned_before_s=later_s, dry_run=True)
    assert dry == Swept(0, 0, dry_run=True, abandoned=0)
    for orphaned_before_s, abandoned in ((later_s - 7200, 0), (later_s, 1), (later_s, 0)):
        swept = await sweep(blobs, documents, ended_before_s=later_s, orphaned_before_s=orphaned_before_s)
        assert swept == Swept(0, 0, dry_run=False, abandoned=abandoned)
