"""A server's side of promotions over memory: staged files, an upstream, a clock that is set forward by hand."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from overlay.domain.layout import ENDED, record_key, sidecar_key
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import MAIN, ReleaseName, StageId
from overlay.domain.ports import Documents
from overlay.domain.promotion import FileState, PlannedFile, PromotionId, Underway
from overlay.domain.promotion_plan import Rules
from overlay.domain.records import Record, encode
from overlay.domain.rights import Right, Token
from overlay.domain.stage import StagedFile
from overlay.services.facts import facts_reader
from overlay.services.promotion_orders import Planned, PromotionSettings, Wanted
from overlay.services.promotion_planning import Planning
from overlay.services.promotion_survey import Survey
from overlay.services.promotions import Promotions, Step
from overlay.services.rebuild import rebuild
from overlay.services.reports import Reports
from overlay.services.settling import Settling
from overlay.storage.ledger_memory import MemoryLedger
from tests.builders import metadata
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
from tests.fakes.upstream import MemoryUpstream
from tests.ledgers import stage
from tests.staged import staged_file, token

NOW_US = 1_800_000_000_000_000
LEASE_S = 60
STALE_S = 86_400
SECOND_US = 1_000_000
TARGET = "https://upload.example/legacy/"

CI = token(Right.PROMOTE, projects=("demo", "other"), label="ci")
ADMIN = token(Right.ADMIN, label="admin")
WHEEL = staged_file(1)
SOURCE = staged_file(2, filename="demo-1.0.tar.gz", content="source")
RELEASE = ReleaseName(WHEEL.project, WHEEL.version)
PUSHING = Step(state=FileState.PUSHING, status=None, said="")
PUSHED = Step(state=FileState.PUSHED, status=200, said="")


class Desk:
    """What lasts when processes come and go; `promotions` is the service of one process."""

    def __init__(self, *, target: str = TARGET, rules: Rules = Rules.PLAIN) -> None:
        self.now_us = NOW_US
        self.documents = MemoryDocuments()
        self.blobs = MemoryBlobs()
        self.upstream = MemoryUpstream()
        self.ledger = MemoryLedger(lambda: self.now_us)
        self.settings = PromotionSettings(target=target, rules=rules, lease_s=LEASE_S, absent_s=90)
        self._ids = itertools.count(1)
        self.promotions = self.process(self.documents, self.ledger)
        self.settling = self.settler(self.documents, self.ledger)

    def process(self, documents: Documents, ledger: StageLedger) -> Promotions:
        """Make the service of one process, over its view of documents and ledger."""
        survey = Survey(ledger=ledger, upstream=self.upstream, facts_of=facts_reader(), reports=Reports(self.blobs))
        planning = Planning(
            documents=documents,
            ledger=ledger,
            survey=survey,
            settings=self.settings,
            now_us=lambda: self.now_us,
            new_id=lambda: PromotionId(f"{next(self._ids):032x}"),
        )
        return Promotions(
            documents=documents,
            ledger=ledger,
            upstream=self.upstream,
            survey=survey,
            planning=planning,
            settings=self.settings,
            now_us=lambda: self.now_us,
        )

    def settler(self, documents: Documents, ledger: StageLedger) -> Settling:
        """Make what settles in one process."""
        return Settling(
            documents=documents,
            ledger=ledger,
            upstream=self.upstream,
            facts_of=facts_reader(),
            stale_s=STALE_S,
            now_us=lambda: self.now_us,
        )

    async def stage(
        self, *files: StagedFile, attestations: str | None = None, requires: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Stage files: record, core metadata, ledger. `requires` has the Requires-Dist of projects."""
        for file in files:
            record = Record(file=file, form=(), attestations=attestations)
            await self.documents.put(record_key(file.project, file.upload_id), encode(record))
            body = metadata(file.project, file.version, requires=(requires or {}).get(file.project, ()))
            self.blobs.held[sidecar_key(file.upload_id, file.filename)] = body
            await stage(self.ledger, file)

    def pass_s(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND_US)

    async def plan(self, *files: StagedFile, caller: Token = CI, run: str = "a", **changes: object) -> Planned:
        """Plan with these files as the pledges."""
        return await self.promotions.plan(caller, wanted(*files, run=run, **changes))

    async def held(self, *files: StagedFile, caller: Token = CI, run: str = "a") -> Underway:
        """Plan, and expect something to push."""
        planned = await self.plan(*files, caller=caller, run=run)
        assert planned.held is not None
        return planned.held

    async def push(self, held: Underway, file: PlannedFile, *, promotions: Promotions | None = None) -> None:
        """Push one file as a run does: the journal before, upstream, the journal after."""
        assert held.freeze is not None
        fence, service = held.freeze.fence, promotions or self.promotions
        await service.journal(CI, held.promotion.id, file.upload_id, fence, PUSHING)
        self.upstream.listed.setdefault(file.project, {})[file.filename] = file.sha256
        await service.journal(CI, held.promotion.id, file.upload_id, fence, PUSHED)

    async def rebuild(self) -> None:
        """Lose the ledger, and load it from the documents."""
        await rebuild(self.documents, self.ledger, lambda: self.now_us, lease_s=LEASE_S)

    def papers(self) -> set[str]:
        """The documents of promotions under way."""
        return {key for key in self.documents.held if key.startswith("state/promotions/")}

    def receipts(self) -> set[str]:
        return {key for key in self.documents.held if key.startswith("receipts/") and not key.startswith(ENDED)}


def wanted(*files: StagedFile, run: str = "a", **changes: object) -> Wanted:
    """An order that pledges these files as they are."""
    order = Wanted(
        releases=frozenset(ReleaseName(file.project, file.version) for file in files),
        pledges={file.filename: file.sha256 for file in files},
        holder=holder(run),
        stage=MAIN,
    )
    return replace(order, **changes)  # type: ignore[arg-type]


def holder(run: str) -> str:
    return hashlib.sha256(run.encode()).hexdigest()[:32]


def other_bytes(file: StagedFile, *, number: int, stage: StageId = MAIN) -> StagedFile:
    """The same name with other bytes, as a later upload."""
    later = staged_file(number, filename=file.filename, content=f"other bytes {number}", stage=stage)
    return replace(later, project=file.project, version=file.version)
