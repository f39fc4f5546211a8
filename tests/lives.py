"""Processes that upload and withdraw over a world that outlives them, step by step."""

import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from overlay.domain.errors import UnknownRelease
from overlay.domain.layout import HISTORY, RECORDS, upload_of_document
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import ABSENT, MAIN, NormalizedName, UploadId
from overlay.domain.page import UpstreamPage
from overlay.domain.ports import BlobStore, Documents
from overlay.domain.records import HistoryEntry, Record, decode
from overlay.domain.rights import Right, Token
from overlay.domain.stage import Gone, StagedFile
from overlay.services.access import local_operator
from overlay.services.facts import facts_reader
from overlay.services.intake import Field, FilePart
from overlay.services.rebuild import rebuild
from overlay.services.releases import Releases
from overlay.services.reports import Reports
from overlay.services.uploads import Uploads, UploadSettings
from overlay.storage.blobs_directory import DirectoryBlobs
from overlay.storage.documents_directory import DirectoryDocuments
from overlay.storage.files import empty_spool
from overlay.storage.ledger_memory import MemoryLedger
from tests.builders import Built, metadata, sdist, wheel
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
from tests.faults import Fault, FaultyBlobs, FaultyDocuments, FaultyLedger, Steps, Turns
from tests.staged import token

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

DEMO: Final = NormalizedName("demo")
VERSION: Final = "1.0"
# Plain text: rendering reStructuredText would take most of the time of these runs.
METADATA: Final = metadata("demo", VERSION, extra_lines=("Description-Content-Type: text/plain",))
ONE: Final = wheel("demo", VERSION, payload=b"one", metadata_body=METADATA)
TWO: Final = wheel("demo", VERSION, payload=b"two", metadata_body=METADATA)
SOURCE: Final = sdist("demo", VERSION, files={"PKG-INFO": METADATA})
ADMIN: Final = local_operator()
ADDER: Final = token(Right.ADD, label="adder")
START_US: Final = 1_700_000_000_000_000


class InlineExecutor(ThreadPoolExecutor):
    """Runs at once what is submitted: no thread decides the order of steps, so a number names the same one again."""

    def submit(
        self, fn: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        future: Future[Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as err:  # noqa: BLE001 - the caller gets it, as from a thread
            future.set_exception(err)
        return future


class NothingUpstream:
    """An upstream that answers, and has nothing."""

    trouble = ""

    async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:  # noqa: ARG002
        return UpstreamPage(project=project, body=None, validator=ABSENT, fetched_at_s=0)

    def in_hand(self, project: NormalizedName) -> UpstreamPage | None:  # noqa: ARG002
        return None

    async def known(self, project: NormalizedName) -> UpstreamPage | None:
        return await self.page(project)


class World:
    """What outlives a process: the bytes, the documents, the clock."""

    def __init__(self, folder: Path, *, on_disk: bool = False, step_us: int = 1000) -> None:
        self.spool = empty_spool(folder)
        self.blobs: BlobStore = DirectoryBlobs(folder, self.spool) if on_disk else MemoryBlobs()
        self.documents: Documents = DirectoryDocuments(folder, self.spool) if on_disk else MemoryDocuments()
        self._us = START_US
        self._step_us = step_us
        self._ids = 0

    def now_us(self) -> int:
        self._us += self._step_us
        return self._us

    def new_upload_id(self) -> UploadId:
        self._ids += 1
        return UploadId(f"{self._ids:032x}")

    async def start(self, fault: Fault | None = None, turns: Turns | None = None) -> "Life":
        """Start a process: a new ledger, rebuilt from the documents."""
        ledger = MemoryLedger(self.now_us)
        await rebuild(self.documents, ledger, self.now_us)
        return self.worker(ledger, Steps(fault, turns))

    def worker(self, ledger: StageLedger, steps: Steps) -> "Life":
        """Make a worker over a ledger that several may share."""
        blobs, documents = FaultyBlobs(self.blobs, steps), FaultyDocuments(self.documents, steps)
        faulty, upstream, facts_of = FaultyLedger(ledger, steps), NothingUpstream(), facts_reader()
        reports = Reports(blobs)
        settings = UploadSettings(
            limit_bytes=1 << 20,
            quota_bytes=0,
            replace=True,
            strict=False,
            fresh_s=60,
            spool=self.spool,
            inspections=1,
        )
        uploads = Uploads(
            blobs=blobs,
            documents=documents,
            ledger=faulty,
            upstream=upstream,
            facts_of=facts_of,
            reports=reports,
            settings=settings,
            now_us=self.now_us,
            new_upload_id=self.new_upload_id,
        )
        releases = Releases(
            documents=documents,
            ledger=faulty,
            upstream=upstream,
            facts_of=facts_of,
            reports=reports,
            now_us=self.now_us,
            fresh_s=60,
        )
        return Life(self, steps, faulty, documents, uploads, releases)

    async def records(self) -> dict[UploadId, Record]:
        return {upload_of_document(key): decode(key, body, Record) async for key, body in self.documents.scan(RECORDS)}

    async def history(self) -> dict[UploadId, Gone]:
        return {
            upload_of_document(key): decode(key, body, HistoryEntry).gone
            async for key, body in self.documents.scan(HISTORY)
        }


@dataclass
class Life:
    """One process, from its start to its end."""

    world: World
    steps: Steps
    ledger: FaultyLedger
    documents: FaultyDocuments
    uploads: Uploads
    releases: Releases

    async def staged(self) -> dict[str, StagedFile]:
        return {file.filename: file for file in (await self.ledger.index()).files}


@dataclass(frozen=True)
class Put:
    """Upload a file."""

    built: Built
    caller: Token = ADMIN

    async def run(self, life: Life) -> None:
        await life.uploads.receive(self.caller, MAIN, _parts(self.built))


@dataclass(frozen=True)
class Withdraw:
    """Withdraw the release."""

    async def run(self, life: Life) -> None:
        with contextlib.suppress(UnknownRelease):  # it happened before
            await life.releases.withdraw(ADMIN, DEMO, VERSION)


Operation = Put | Withdraw


async def _parts(built: Built) -> AsyncIterator[Field | FilePart]:
    yield Field("name", "demo")
    yield Field("version", VERSION)
    yield Field("sha256_digest", built.sha256)
    yield FilePart(built.filename, _once(built.body))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
