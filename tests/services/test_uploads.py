"""Uploads: answers that tell the truth, and work that leaves room for readers."""

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from overlay.domain import archive
from overlay.domain.errors import NotGranted, RateExceeded, StoreUnavailable, TooLarge
from overlay.domain.layout import record_key
from overlay.domain.ledger_port import Ending
from overlay.domain.names import ABSENT, MAIN, NormalizedName, Serial, UploadId
from overlay.domain.page import UpstreamPage
from overlay.domain.ports import BlobKey
from overlay.domain.records import Record, decode, encode
from overlay.domain.rights import Right, Token
from overlay.domain.stage import Reason, Staged, StagedFile
from overlay.services.access import local_operator
from overlay.services.facts import facts_reader
from overlay.services.intake import Field, FilePart
from overlay.services.reports import Reports
from overlay.services.uploads import Receipt, Uploads, UploadSettings, UploadStatus
from overlay.storage.ledger_memory import MemoryLedger
from tests.builders import Built, metadata, wheel
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
from tests.staged import digest, token

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# Plain text: rendering reStructuredText would take most of the time of these runs.
_METADATA = metadata("demo", "1.0", extra_lines=("Description-Content-Type: text/plain",))
NEW = wheel("demo", "1.0", metadata_body=_METADATA.replace(b"Summary:", b"Classifier: No :: Such\nSummary:"))


class NothingUpstream:
    trouble = ""

    async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:  # noqa: ARG002
        return UpstreamPage(project=project, body=None, validator=ABSENT, fetched_at_s=0)

    def in_hand(self, project: NormalizedName) -> UpstreamPage | None:  # noqa: ARG002
        return None

    async def known(self, project: NormalizedName) -> UpstreamPage | None:
        return await self.page(project)


class UnreadableBlobs(MemoryBlobs):
    """Takes everything and gives nothing back."""

    async def read(self, key: BlobKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:  # noqa: ARG002
        raise StoreUnavailable("The test's store does not answer.")
        yield b""


class OvertakenLedger(MemoryLedger):
    """Before an upload is shown, a rival of its name with a greater serial is."""

    def __init__(self, rival_sha256: str, *, withdrawn: bool = False) -> None:
        super().__init__(lambda: 1)
        self.rival_sha256 = rival_sha256
        self.withdrawn = withdrawn

    async def stage(self, file: StagedFile, *, replace: bool, epoch: str) -> Staged:
        rival = rival_of(file, self.rival_sha256)
        await super().stage(rival, replace=True, epoch=epoch)
        staged = await super().stage(file, replace=replace, epoch=epoch)
        if self.withdrawn:
            await self.forget(rival.project, [rival.upload_id], Ending(Reason.WITHDRAWN, 1, "ada"))
        return staged


def rival_of(file: StagedFile, sha256: str) -> StagedFile:
    return replace(file, upload_id=UploadId("f" * 32), serial=Serial(file.serial + 1), sha256=sha256)


async def uploads_over(
    folder: Path,
    *,
    blobs: MemoryBlobs | None = None,
    documents: MemoryDocuments | None = None,
    ledger: MemoryLedger | None = None,
    inspections: int = 2,
    quota_bytes: int = 0,
    token_quota_bytes: int = 0,
    token_uploads_per_minute: int = 0,
) -> Uploads:
    blobs = MemoryBlobs() if blobs is None else blobs
    ledger = MemoryLedger(lambda: 1) if ledger is None else ledger
    await ledger.load((), ())
    numbers = iter(range(1000))
    return Uploads(
        blobs=blobs,
        documents=MemoryDocuments() if documents is None else documents,
        ledger=ledger,
        upstream=NothingUpstream(),
        facts_of=facts_reader(),
        reports=Reports(blobs),
        settings=UploadSettings(
            limit_bytes=1 << 20,
            quota_bytes=quota_bytes,
            token_quota_bytes=token_quota_bytes,
            token_uploads_per_minute=token_uploads_per_minute,
            replace=True,
            strict=False,
            fresh_s=60,
            spool=folder,
            inspections=inspections,
        ),
        now_us=lambda: 1,
        new_upload_id=lambda: UploadId(f"{next(numbers):032x}"),
    )


async def parts(built: Built) -> AsyncIterator[Field | FilePart]:
    for name, value in (("name", "demo"), ("version", "1.0"), ("sha256_digest", built.sha256)):
        yield Field(name, value)
    yield FilePart(built.filename, _once(built.body))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def upload(uploads: Uploads, built: Built = NEW, caller: Token | None = None) -> Receipt:
    return await uploads.receive(caller or local_operator(), MAIN, parts(built))


async def test_a_report_that_fails_does_not_turn_a_staged_upload_into_an_error(tmp_path: Path) -> None:
    """The findings come from the metadata in hand; the store is not read for the answer."""
    receipt = await upload(await uploads_over(tmp_path, blobs=UnreadableBlobs()))
    assert receipt.status is UploadStatus.STAGED
    assert receipt.findings


async def test_the_answer_to_an_overtaken_upload_names_the_bytes_that_are_staged(tmp_path: Path) -> None:
    """Not its own digest, under which nothing is shown; and a report that cannot be read is left out."""
    uploads = await uploads_over(tmp_path, ledger=OvertakenLedger(digest("rival")), blobs=UnreadableBlobs())
    receipt = await upload(uploads)
    assert receipt.status is UploadStatus.SUPERSEDED
    assert receipt.file is not None
    assert (receipt.file.upload_id, receipt.file.sha256) == ("f" * 32, digest("rival"))
    assert receipt.findings == ()


async def test_an_upload_overtaken_by_its_own_bytes_is_already_staged(tmp_path: Path) -> None:
    """Two jobs brought the same file: both are told of the one that is shown."""
    receipt = await upload(await uploads_over(tmp_path, ledger=OvertakenLedger(NEW.sha256)))
    assert receipt.status is UploadStatus.ALREADY_STAGED
    assert receipt.file is not None
    assert receipt.file.upload_id == "f" * 32


async def test_an_overtaken_upload_whose_winner_is_gone_names_no_file(tmp_path: Path) -> None:
    """Withdrawn in the same moment: nothing is staged, and the answer says no digest."""
    receipt = await upload(await uploads_over(tmp_path, ledger=OvertakenLedger(digest("rival"), withdrawn=True)))
    assert (receipt.status, receipt.file) == (UploadStatus.SUPERSEDED, None)


class CountingExecutor(ThreadPoolExecutor):
    """Counts how many archives are being read, or wait for a thread, at once."""

    def __init__(self) -> None:
        super().__init__(8)
        self.lock = threading.Lock()
        self.inspecting = self.most = self.total = 0

    def submit(
        self, fn: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        future: Future[Result]
        if not (isinstance(fn, functools.partial) and fn.func is archive.inspect):
            return super().submit(fn, *args, **kwargs)
        with self.lock:
            self.inspecting += 1
            self.total += 1
            self.most = max(self.most, self.inspecting)
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: "Future[Result]") -> None:
        with self.lock:
            self.inspecting -= 1


@pytest.mark.parametrize("inspections", [1, 3])
async def test_archives_are_read_few_at_a_time(tmp_path: Path, inspections: int) -> None:
    """Readers' pages and the store's fsyncs run in the same threads, and must find one free."""
    executor = CountingExecutor()
    asyncio.get_running_loop().set_default_executor(executor)
    uploads = await uploads_over(tmp_path, inspections=inspections)
    many = [wheel("demo", "1.0", payload=bytes([number]), metadata_body=_METADATA) for number in range(20)]
    await asyncio.gather(*(upload(uploads, one) for one in many))
    assert executor.total == 20
    assert executor.most <= inspections


# Limits

ADA, BOB = token(label="ada"), token(label="bob")
OTHER = wheel("demo", "1.0", payload=b"other", metadata_body=_METADATA)
THIRD = wheel("demo", "1.0", payload=b"third", metadata_body=_METADATA)
SECOND = wheel("demo", "1.0", tag="py2-none-any", metadata_body=_METADATA)


async def unread() -> AsyncIterator[Field | FilePart]:
    raise AssertionError("the body was read")
    yield Field("name", "demo")


async def test_a_token_that_sends_too_many_is_told_when_to_come_back(tmp_path: Path) -> None:
    """Before its body is read. Others, and the operator, go on."""
    uploads = await uploads_over(tmp_path, token_uploads_per_minute=2)
    for built in (NEW, SECOND):
        await upload(uploads, built, ADA)
    with pytest.raises(RateExceeded, match=r"'ada' may send 2 uploads a minute\. .* again in 30 seconds") as refused:
        await uploads.receive(ADA, MAIN, unread())
    assert refused.value.wait_s == 30
    await upload(uploads, OTHER, BOB)
    for _ in range(5):
        await upload(uploads, OTHER)


async def test_every_upload_counts_whatever_becomes_of_it(tmp_path: Path) -> None:
    """Also one that is broken; but not one of a token that may not stage at all."""
    uploads = await uploads_over(tmp_path, token_uploads_per_minute=1)
    reader = token(Right.READ, label="ada")
    with pytest.raises(NotGranted):
        await uploads.receive(reader, MAIN, unread())
    with pytest.raises(AssertionError, match="the body was read"):
        await uploads.receive(ADA, MAIN, unread())
    with pytest.raises(RateExceeded):
        await uploads.receive(ADA, MAIN, unread())


async def test_a_token_stages_no_more_than_its_quota(tmp_path: Path) -> None:
    """What it has staged already and this file; refused, nothing of it is left. Others have a quota of their own."""
    blobs = MemoryBlobs()
    uploads = await uploads_over(tmp_path, blobs=blobs, token_quota_bytes=len(NEW.body) + len(SECOND.body) - 1)
    await upload(uploads, NEW, ADA)
    held = dict(blobs.held)
    with pytest.raises(TooLarge, match=r"the token 'ada' has staged, .* Withdraw some of it.* token_quota_bytes"):
        await upload(uploads, SECOND, ADA)
    assert blobs.held == held
    await upload(uploads, SECOND, BOB)


async def test_replacing_ones_own_file_frees_its_bytes(tmp_path: Path) -> None:
    """Another's file that is replaced was never of one's quota, so it frees nothing of it."""
    one_file_bytes = max(len(built.body) for built in (NEW, SECOND, OTHER, THIRD))
    uploads = await uploads_over(tmp_path, token_quota_bytes=one_file_bytes)
    await upload(uploads, NEW, ADA)
    assert (await upload(uploads, OTHER, ADA)).status is UploadStatus.REPLACED
    await upload(uploads, SECOND, BOB)
    with pytest.raises(TooLarge):
        await upload(uploads, THIRD, BOB)
    assert (await upload(uploads, THIRD, ADA)).status is UploadStatus.REPLACED


async def test_the_operator_has_no_quota_but_that_of_everything(tmp_path: Path) -> None:
    """OVERLAY_ADMIN_TOKEN, and the files that a server is started with."""
    uploads = await uploads_over(tmp_path, quota_bytes=len(NEW.body) + len(SECOND.body) - 1, token_quota_bytes=1)
    await upload(uploads, NEW)
    with pytest.raises(TooLarge, match=r"^What is staged, .* Withdraw releases.* \[uploads\] quota_bytes"):
        await upload(uploads, SECOND)
    assert (await upload(uploads, OTHER)).status is UploadStatus.REPLACED


async def test_bytes_that_are_staged_already_are_acknowledged_only_when_a_rebuild_would_keep_them(
    tmp_path: Path,
) -> None:
    """An add-only upload without an answer yields to every other at a rebuild; its bytes, answered for, do not."""
    documents = MemoryDocuments()
    uploads = await uploads_over(tmp_path, documents=documents)
    adder = token(Right.ADD, label="adder")
    receipt = await upload(uploads, NEW, adder)
    assert receipt.file is not None
    key = record_key(receipt.file.project, receipt.file.upload_id)
    record = decode(key, documents.held[key], Record)
    documents.held[key] = encode(replace(record, replace=False))  # as if it had been killed before its answer
    assert (await upload(uploads, NEW, adder)).status is UploadStatus.ALREADY_STAGED
    assert decode(key, documents.held[key], Record).replace
