"""An overlay in memory, as a run of `overlay promote` sees it.

It keeps the protocol's promises (`overlay.promote.server`): one run at a time by lease and fence, a freeze that
outlives its lease once something may have been pushed, a journal that says so beforehand.
"""

import contextlib
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from overlay.domain.filenames import parse
from overlay.domain.names import UploadId
from overlay.domain.promotion import FileState, JournalEntry, further
from overlay.domain.wire_promotions import (
    JournalOrder,
    LeaseView,
    LiveFileView,
    LookedAtView,
    LookView,
    PlanView,
    PromotedFileView,
    PromotionList,
    PromotionOrder,
    PromotionView,
    RefusalView,
)
from overlay.promote.errors import Ending, PlanRefused, RunElsewhere, RunLost, ServerAnswered
from tests.builders import Built
from tests.fakes.pushed_index import FakeUpstream
from tests.fakes.virtual_time import VirtualTime

TARGET: Final = "https://upload.index.test/legacy/"
LEASE_S: Final = 60
ABSENT_S: Final = 90


@dataclass
class _Run:
    promotion: PromotionView
    order: PromotionOrder
    fence: int
    holder: str
    until_s: float
    journal: dict[str, JournalEntry] = field(default_factory=dict)

    @property
    def durable(self) -> bool:
        return bool(self.journal)


class FakePromotions:
    """The overlay; implements `PromotionServer` over staged files."""

    def __init__(self, staged: Sequence[Built], upstream: FakeUpstream, time: VirtualTime) -> None:
        self.staged = {built.filename: built.body for built in staged}
        self.served: dict[str, bytes] = {}
        """What lies in the store instead, by filename."""
        self.attestations: dict[str, str] = {}
        self.warnings: tuple[str, ...] = ()
        self.new_projects: tuple[str, ...] = ()
        self.target = TARGET
        self.absent_s = ABSENT_S
        self.ended: list[str] = []
        """The outcomes of the promotions that ended."""
        self.calls: list[str] = []
        self._upstream = upstream
        self._time = time
        self._numbers = itertools.count(1)
        self._run: _Run | None = None
        self._receipts: list[PromotionView] = []

    @property
    def frozen(self) -> bool:
        """Say whether uploads would be kept out."""
        return self._run is not None and (self._run.durable or self._time.now_s < self._run.until_s)

    def overtake(self) -> None:
        """Let another run take the promotion over, as after a lapsed lease."""
        assert self._run is not None
        self._run.fence += 1

    async def plan(self, order: PromotionOrder) -> PlanView:
        self.calls.append("plan")
        if not self.frozen:
            self._run = None
        if self._run is None:
            return self._planned(order)
        if order.pledges != self._run.order.pledges:
            raise PlanRefused([RefusalView(rule="other", filename="", sentence="Another promotion is under way.")])
        if self._time.now_s < self._run.until_s and order.holder != self._run.holder:
            raise RunElsewhere("Another run goes on.", leased_until=str(self._run.until_s))
        if order.holder != self._run.holder:
            self._run.fence += 1
            self._run.holder = order.holder
        self._run.until_s = self._time.now_s + LEASE_S
        return self._plan(self._view(self._run), (), self._run.fence)

    async def renew(self, promotion: str, fence: int) -> LeaseView:
        self.calls.append("renew")
        run = self._led(promotion, fence)
        run.until_s = max(run.until_s, self._time.now_s + LEASE_S)
        return LeaseView(leased_until=str(run.until_s))

    async def journal(self, promotion: str, upload: str, order: JournalOrder) -> None:
        self.calls.append(f"{order.state} {self._name(upload)}")
        run = self._led(promotion, order.fence)
        run.until_s = max(run.until_s, self._time.now_s + LEASE_S)
        said = JournalEntry(
            upload_id=UploadId(upload),
            state=FileState(order.state),
            at_us=int(self._time.now_s * 1e6),
            fence=order.fence,
            attempt=order.attempt,
            status=order.status,
            said=order.said,
        )
        run.journal[upload] = further(run.journal.get(upload), said)

    async def look(self, promotion: str, fence: int) -> LookView:
        self.calls.append("look")
        for receipt in self._receipts:
            if receipt.id == promotion and receipt.state == "live":
                return self._looked(receipt, ended=True)
        run = self._led(promotion, fence)
        looked = self._looked(run.promotion, ended=False)
        if any(file.seen != "live" for file in looked.files):
            return looked
        self._close("live")
        return LookView(files=looked.files, ended=True)

    async def end(self, promotion: str, fence: int) -> None:
        self.calls.append("end")
        with contextlib.suppress(RunLost):
            run = self._led(promotion, fence)
            run.until_s = self._time.now_s
            if not run.durable:
                self._run = None

    async def abandon(self, promotion: str) -> PromotionView:
        if self._run is None or self._run.promotion.id != promotion:
            raise ServerAnswered("No promotion has this id.", Ending.FAILED)
        self._close("abandoned")
        return self._receipts[-1]

    async def under_way(self, releases: Sequence[str], stage: str) -> PromotionList:
        known = [] if self._run is None else [self._view(self._run)]
        return PromotionList(promotions=tuple(one for one in known if one.stage == stage and releases))

    @contextlib.asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        name = url.rpartition("/")[2]
        self.calls.append(f"open {name}")
        yield _pieces(self.served.get(name, self.staged[name]))

    def _planned(self, order: PromotionOrder) -> PlanView:
        shown = {
            name: digest for name, digest in self._upstream.stored.items() if name not in self._upstream.other_bytes
        }
        wanted = {pledge.filename: pledge.sha256 for pledge in order.pledges}
        live = {name for name, digest in wanted.items() if shown.get(name) == digest}
        refusals = [
            RefusalView(rule="not-staged", filename=name, sentence=f"{name} is not staged with these bytes.")
            for name, digest in wanted.items()
            if name not in live and hashlib.sha256(self.staged.get(name, b"")).hexdigest() != digest
        ]
        if refusals:
            raise PlanRefused(refusals)
        already = tuple(
            LiveFileView(filename=name, sha256=wanted[name], url=f"https://files.test/{name}") for name in sorted(live)
        )
        if not wanted.keys() - live:
            return self._plan(None, already, 0)
        promotion = self._promotion(sorted(wanted.keys() - live, key=_place))
        self._run = _Run(promotion, order, 1, order.holder, self._time.now_s + LEASE_S)
        return self._plan(promotion, already, 1)

    def _promotion(self, names: Sequence[str]) -> PromotionView:
        number = next(self._numbers)
        return PromotionView(
            id=f"{number:032x}",
            stage="main",
            target=self.target,
            who="ada",
            planned_at="2027-01-15T08:00:00Z",
            state="running",
            files=tuple(self._file(name, index, names) for index, name in enumerate(names)),
        )

    def _file(self, name: str, index: int, names: Sequence[str]) -> PromotedFileView:
        """Place a file: the first alone, then the other wheels at once, then each sdist."""
        named, body = parse(name), self.staged[name]
        wheels = sum(1 for other in names if other.endswith(".whl"))
        return PromotedFileView(
            project=named.project,
            version=named.version,
            filename=name,
            kind=named.kind,
            upload_id=hashlib.sha256(name.encode()).hexdigest()[:32],
            sha256=hashlib.sha256(body).hexdigest(),
            size_bytes=len(body),
            wave=0 if index == 0 else 1 if index < wheels else 2 + index,
            url=f"https://overlay.test/files/{name}",
            state="planned",
            attestations=self.attestations.get(name),
        )

    def _plan(self, promotion: PromotionView | None, live: tuple[LiveFileView, ...], fence: int) -> PlanView:
        return PlanView(
            promotion=promotion,
            already_live=live,
            warnings=self.warnings,
            new_projects=self.new_projects,
            upstream="https://index.test/simple/",
            fence=fence,
            lease_s=LEASE_S,
            absent_s=self.absent_s,
        )

    def _view(self, run: _Run) -> PromotionView:
        entries = [run.journal.get(file.upload_id) for file in run.promotion.files]
        files = tuple(
            file
            if entry is None
            else msgspec.structs.replace(file, state=entry.state, status=entry.status, said=entry.said)
            for file, entry in zip(run.promotion.files, entries, strict=True)
        )
        return msgspec.structs.replace(run.promotion, files=files)

    def _looked(self, promotion: PromotionView, *, ended: bool) -> LookView:
        shown = self._upstream.shown()
        files = tuple(
            LookedAtView(
                filename=file.filename,
                upload_id=file.upload_id,
                seen="absent"
                if file.filename not in shown
                else "live"
                if shown[file.filename] == file.sha256
                else "other",
                sha256=shown.get(file.filename),
                url=f"https://files.test/{file.filename}" if file.filename in shown else None,
            )
            for file in promotion.files
        )
        return LookView(files=files, ended=ended)

    def _led(self, promotion: str, fence: int) -> _Run:
        run = self._run
        if run is None or run.promotion.id != promotion or run.fence != fence or not self.frozen:
            raise RunLost("This run does not lead the promotion any more.")
        return run

    def _close(self, outcome: str) -> None:
        assert self._run is not None
        self.ended.append(outcome)
        self._receipts.append(msgspec.structs.replace(self._view(self._run), state=outcome))
        self._run = None

    def _name(self, upload: str) -> str:
        names = {} if self._run is None else {file.upload_id: file.filename for file in self._run.promotion.files}
        return names.get(upload, upload)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


def _place(name: str) -> tuple[bool, str]:
    return not name.endswith(".whl"), name
