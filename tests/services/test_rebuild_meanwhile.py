"""A ledger that is lost and rebuilt while an upload is under way, at each of its steps.

The ledger forgets what ended, and its serials; the documents do not. Whatever others do meanwhile, what the history
holds is never staged again, and a rebuild finds what the ledger shows.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from overlay.domain.errors import FileExists, Unavailable
from overlay.domain.layout import record_key
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import UploadId
from overlay.domain.ports import Documents
from overlay.domain.records import Record, encode
from overlay.domain.stage import Reason
from overlay.services.rebuild import rebuild
from overlay.services.reconcile import reconcile_project
from overlay.storage.ledger_memory import MemoryLedger
from tests.fakes.documents import MemoryDocuments
from tests.faults import Steps
from tests.lives import ADDER, ADMIN, DEMO, ONE, START_US, TWO, InlineExecutor, Life, Put, Withdraw, World
from tests.staged import staged_file

pytestmark = pytest.mark.faults


@dataclass(frozen=True)
class Case:
    """An upload, and the rival of its name that stages TWO just before one of its steps ("": there is none)."""

    upload: Put
    rival_before: str = ""
    rival_admitted_first: bool = False
    """Else the rival begins, too, only then: its serial is the greater one."""
    ends: str = "done"
    """How the upload ends when nothing else happens."""


CASES: Final = {
    "an upload": Case(Put(ONE)),
    "an add-only upload": Case(Put(ONE, ADDER)),
    "a replacement": Case(Put(ONE), rival_before="stage", rival_admitted_first=True),
    "an upload that is overtaken": Case(Put(ONE), rival_before="stage"),
    "a refused upload": Case(Put(ONE, ADDER), rival_before="stage", rival_admitted_first=True, ends="refused"),
    "a refused upload that is late": Case(Put(ONE, ADDER), rival_before="stage", ends="refused"),
}


class Others:
    """What happens meanwhile, in the words of the table below. `life` is another worker over the same ledger."""

    def __init__(self, world: World, ledger: StageLedger) -> None:
        self.world = world
        self.ledger = ledger
        self.life: Life = world.worker(ledger, Steps())

    async def lost(self) -> None:
        """Redis is lost, and one worker rebuilds."""
        await rebuild(self.world.documents, self.ledger, self.world.now_us)

    async def replaced(self) -> None:
        """Other bytes of the name are uploaded."""
        await Put(TWO).run(self.life)

    async def withdrawn(self) -> None:
        """What is staged of the release is withdrawn."""
        await Withdraw().run(self.life)

    async def reconciled(self) -> None:
        await reconcile_project(self.world.documents, self.ledger, DEMO)

    async def recorded(self) -> None:
        """Another add-only upload of the name, admitted before anything was staged, came as far as its record."""
        file = staged_file(999, content="in limbo", filename=ONE.filename, serial=2 * START_US)
        body = encode(Record(file=file, form=(), attestations=None, replace=False))
        await self.world.documents.put(record_key(DEMO, file.upload_id), body)


Event = Callable[[Others], Awaitable[None]]
MEANWHILE: Final[tuple[tuple[Event, ...], ...]] = (
    (Others.lost,),
    (Others.lost, Others.replaced),
    (Others.lost, Others.replaced, Others.withdrawn),
    (Others.lost, Others.withdrawn, Others.lost),
    (Others.lost, Others.replaced, Others.lost, Others.withdrawn, Others.lost),
    (Others.replaced, Others.lost, Others.withdrawn),
    (Others.replaced, Others.withdrawn, Others.lost),
    (Others.withdrawn, Others.lost),
    (Others.withdrawn, Others.reconciled),
    (Others.reconciled, Others.withdrawn, Others.lost),
    (Others.reconciled, Others.withdrawn, Others.lost, Others.replaced, Others.lost),
    (Others.recorded, Others.lost),
    (Others.recorded, Others.reconciled),
    (Others.recorded, Others.reconciled, Others.withdrawn),
)


class Run:
    """One case, and what happens before the upload's step `at`."""

    def __init__(self, folder: Path, case: Case, events: tuple[Event, ...], at: int) -> None:
        self.world = World(folder, step_us=0)  # the clock stands, so that two lives give the same serials
        self.ledger = MemoryLedger(self.world.now_us)
        self.others = Others(self.world, self.ledger)
        self.case = case
        self.events = events
        self.at = at
        self.steps = Steps(meanwhile=self._happens)
        self.rival_waits, self.rival_goes = asyncio.Event(), asyncio.Event()
        self.rival: asyncio.Task[str] | None = None

    async def upload(self) -> str:
        """Say how it ended."""
        await self.others.lost()
        if self.case.rival_admitted_first:
            steps = Steps(meanwhile=self._rival_happens)
            self.rival = asyncio.ensure_future(outcome(Put(TWO), self.world.worker(self.ledger, steps)))
            await self.rival_waits.wait()
        ended = await outcome(self.case.upload, self.world.worker(self.ledger, self.steps))
        await self._rival_stages()
        return ended

    async def _rival_happens(self, _number: int, name: str) -> None:
        if name == "stage":
            self.rival_waits.set()
            await self.rival_goes.wait()

    async def _rival_stages(self) -> None:
        self.rival_goes.set()
        if self.rival is not None:
            await self.rival

    async def _happens(self, number: int, name: str) -> None:
        if name == self.case.rival_before:
            await (self._rival_stages() if self.case.rival_admitted_first else self.others.replaced())
        for event in self.events if number == self.at else ():
            await event(self.others)
            await self.check()

    async def check(self) -> set[UploadId]:
        """Return what is staged: nothing that ended."""
        staged = {file.upload_id for file in (await self.ledger.index()).files}
        assert not staged & set(await self.world.history()), "what ended is staged"
        return staged

    async def check_end(self, ended: str) -> None:
        """Look at the ledger, at what rebuilds make of the documents, and at a repeat of the upload."""
        staged = await self.check()
        history = (await self.world.history()).values()
        shown = {gone.file.sha256 for gone in history if gone.reason is not Reason.REFUSED}
        if ended == "done":
            assert ONE.sha256 in shown | await self.sha256s(), "an acknowledged upload left no trace"
        if ended != "unknown" and self.case.rival_before == "":
            assert await rebuilt(self.world.documents) == staged, "a rebuild changes what was settled"
        await rebuild(self.world.documents, self.ledger, self.world.now_us)
        again = await self.check()
        assert await rebuilt(self.world.documents) == again
        assert ended != "refused" or ONE.sha256 not in await self.sha256s(), "what was refused is staged"
        await Put(ONE, ADMIN).run(self.others.life)
        await self.check()
        assert await self.sha256s() == {ONE.sha256}

    async def sha256s(self) -> set[str]:
        return {file.sha256 for file in (await self.ledger.index()).files}


async def outcome(upload: Put, life: Life) -> str:
    """Upload, and say how it ended."""
    try:
        await upload.run(life)
    except FileExists:
        return "refused"
    except Unavailable:
        return "unknown"
    return "done"


async def rebuilt(documents: Documents) -> set[UploadId]:
    """Say what rebuilds find, whatever the order in which documents are read."""
    assert isinstance(documents, MemoryDocuments)
    found = []
    for held in (list(documents.held.items()), list(documents.held.items())[::-1]):
        copy, ledger = MemoryDocuments(), MemoryLedger(lambda: 1)
        copy.held = dict(held)
        await rebuild(copy, ledger, lambda: 1)
        found.append({file.upload_id for file in (await ledger.index()).files})
    assert found[0] == found[1], "the order of reading decides"
    return found[0]


@pytest.fixture(autouse=True)
async def without_threads() -> None:
    asyncio.get_running_loop().set_default_executor(InlineExecutor(1))


@pytest.mark.parametrize("events", MEANWHILE, ids=lambda events: ", ".join(event.__name__ for event in events))
@pytest.mark.parametrize("case", CASES)
async def test_what_ended_is_never_staged_again(case: str, events: tuple[Event, ...], tmp_path: Path) -> None:
    """Before each step of the upload, and after its last one: it is staged, or ended, or unknown to its caller."""
    for at in count():
        run = Run(tmp_path / str(at), CASES[case], events, at)
        ended = await run.upload()
        try:
            await run.check_end(ended)
        except AssertionError as err:
            err.add_note(f"before step {at} of {run.steps.names}, {ended=}")
            raise
        if at >= len(run.steps.names):
            assert ended == CASES[case].ends
            break
