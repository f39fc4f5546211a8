"""A promotion that begins while an upload or a withdrawal is under way, at each of its steps, and then perhaps a fault.

From its freeze on the release stays as it is, whatever the other does, wherever that is killed or gets no answer, and
whatever a rebuild, a reconcile or a sweep makes of what it left. After the promotion everything goes on as ever.
"""

import asyncio
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path
from typing import Final

import pytest

from overlay.domain.errors import Conflict, Unavailable
from overlay.domain.layout import sidecar_key, upload_of
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import UploadId
from overlay.domain.promotion import FileState, JournalEntry, PlannedFile, Promotion, PromotionId
from overlay.domain.promotion_errors import ReleaseFrozen, StagedChanged
from overlay.domain.stage import StagedFile
from overlay.services.promotion_papers import clear, put_entry, put_plan
from overlay.services.rebuild import rebuild
from overlay.services.sweep import sweep
from overlay.services.upkeep import reconcile
from overlay.storage.ledger_memory import MemoryLedger
from tests.builders import wheel
from tests.faults import Fault, Killed, Steps, killed, silent
from tests.lives import (
    DEMO,
    METADATA,
    ONE,
    SOURCE,
    START_US,
    TWO,
    VERSION,
    InlineExecutor,
    Life,
    Operation,
    Put,
    Withdraw,
    World,
)
from tests.staged import GIVEN_UP

pytestmark = pytest.mark.faults

LATER_S: Final = 4e9
LEASE_S: Final = 10_000
PROMOTION: Final = PromotionId("f" * 32)
MORE: Final = wheel("demo", VERSION, tag="cp311-none-any", payload=b"more", metadata_body=METADATA)

FAULTS: Final = tuple(product((killed, silent), (True, False)))
OPERATIONS: Final[dict[str, Operation]] = {
    "a new name": Put(MORE),
    "other bytes": Put(TWO),
    "the same bytes": Put(ONE),
    "a withdrawal": Withdraw(),
}


@dataclass
class Case:
    """One world; `frozen` are the files of the release when the promotion began, None until then."""

    world: World
    ledger: MemoryLedger
    begun: bool
    """Whether something may have been pushed."""
    frozen: tuple[StagedFile, ...] | None = None
    names: list[str] = field(default_factory=list)

    async def promote(self) -> None:
        """Begin: freeze, plan, journal. Fails where the release is gone."""
        files = await release(self.ledger)
        if not files:
            return
        plan = plan_of(files, self.world.now_us())
        try:
            await self.ledger.freeze(plan.freeze(until_us=START_US + LEASE_S * 1_000_000, durable=self.begun))
        except StagedChanged:
            return
        await put_plan(self.world.documents, plan)
        if self.begun:
            entry = JournalEntry(upload_id=files[0].upload_id, state=FileState.PUSHING, at_us=START_US, fence=1)
            await put_entry(self.world.documents, PROMOTION, entry)
        self.frozen = files

    async def check(self) -> None:
        """Look at the release, and at its bytes."""
        if self.frozen is not None:
            assert [freeze.promotion for freeze in await self.ledger.freezes()] == [PROMOTION]
            assert await release(self.ledger) == self.frozen
            listed = {info.key async for info in self.world.blobs.infos()}
            assert {sidecar_key(file.upload_id, file.filename) for file in self.frozen} <= listed

    async def lose_the_ledger(self) -> None:
        """Rebuild it, and look. Before the first push the plan may be over: what is unknown was taken for done."""
        self.ledger = MemoryLedger(self.world.now_us)
        await rebuild(self.world.documents, self.ledger, self.world.now_us, lease_s=LEASE_S)
        if self.frozen is not None and not self.begun:
            found = await release(self.ledger)
            frozen = await self.ledger.freezes() != ()
            assert frozen is (set(self.frozen) <= set(found))
            self.frozen = found if frozen else None

    async def mend(self) -> None:
        """Reconcile and sweep."""
        await reconcile(self.world.documents, self.ledger)
        await sweep(self.world.blobs, self.world.documents, ended_before_s=LATER_S, orphaned_before_s=0)
        if self.begun:
            await self.check_history()

    async def check_history(self) -> None:
        """See that none of its files ended."""
        assert not {file.upload_id for file in self.frozen or ()} & set(await self.world.history())


def plan_of(files: tuple[StagedFile, ...], at_us: int) -> Promotion:
    planned = [
        PlannedFile(
            project=file.project,
            version=file.version,
            filename=file.filename,
            kind=file.kind,
            upload_id=file.upload_id,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
            wave=1,
        )
        for file in files
    ]
    return Promotion(
        id=PROMOTION,
        stage=files[0].stage,
        target="https://upload.example/legacy/",
        files=tuple(planned),
        who="ci",
        token_id="t1",
        planned_at_us=at_us,
        holder="run",
        fence=1,
    )


async def release(ledger: StageLedger) -> tuple[StagedFile, ...]:
    files = [file for file in (await ledger.index()).files if file.project == DEMO]
    return tuple(sorted(files, key=lambda file: file.filename))


async def outcome(operation: Operation, life: Life) -> str:
    try:
        await operation.run(life)
    except Conflict:
        return "refused"
    except (Unavailable, Killed):
        return "unknown"
    return "done"


async def run(folder: Path, operation: Operation, at: int, fault: Fault | None, *, begun: bool) -> Case:
    """Stage a release, run the operation, and begin the promotion before its step `at`, or after its last one."""
    world = World(folder)
    ledger = MemoryLedger(world.now_us)
    await rebuild(world.documents, ledger, world.now_us)
    case = Case(world, ledger, begun)
    for built in (ONE, SOURCE):
        await Put(built).run(world.worker(ledger, Steps()))

    async def meanwhile(number: int, _name: str) -> None:
        if number == at:
            await case.promote()

    steps = Steps(fault, meanwhile=meanwhile)
    ended = await outcome(operation, world.worker(ledger, steps))
    case.names = steps.names
    if at >= len(steps.names):
        await case.promote()
    if fault is None:
        assert ended in {"done", "refused"}
        await case.check_history()
    return case


async def check_end(case: Case, operation: Operation, *, lost: bool) -> None:
    """Reconcile and sweep while the promotion goes on, and after it; then the operation goes through."""
    world = case.world
    await case.check()
    if lost:
        await case.lose_the_ledger()
    for _ in range(2):
        await case.check()
        await case.mend()
    await case.check()
    if case.frozen is not None:
        promoted = {file.sha256 for file in case.frozen}
        expected = "done" if TWO.sha256 in promoted else "refused"
        assert await outcome(Put(TWO), world.worker(case.ledger, Steps())) == expected
        steps = Steps()
        with pytest.raises(ReleaseFrozen):
            await Withdraw().run(world.worker(case.ledger, steps))
        assert not [name for name in steps.names if name.startswith(("put", "delete"))], "it is refused first"
        await case.check()
    await clear(world.documents, case.ledger, PROMOTION, GIVEN_UP)
    case.frozen = None
    await case.mend()
    assert await outcome(operation, world.worker(case.ledger, Steps())) == "done"
    await case.mend()
    staged = await check_clean(world, case.ledger)
    fresh = MemoryLedger(world.now_us)
    await rebuild(world.documents, fresh, world.now_us)
    assert await check_clean(world, fresh) == staged


async def check_clean(world: World, ledger: StageLedger) -> set[UploadId]:
    """Sweep all there is: what is left is what is staged."""
    await sweep(world.blobs, world.documents, ended_before_s=LATER_S, orphaned_before_s=LATER_S)
    staged = {file.upload_id for file in await release(ledger)}
    assert set(await world.records()) == staged
    assert not staged & set(await world.history())
    assert {upload_of(info.key) async for info in world.blobs.infos()} == staged
    return staged


@pytest.fixture(autouse=True)
async def without_threads() -> None:
    asyncio.get_running_loop().set_default_executor(InlineExecutor(1))


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_promotion_may_begin_at_any_step(operation: str, tmp_path: Path, *, begun: bool) -> None:
    """What was staged then is promoted as it was, and the other one is told the truth."""
    for at in count():
        steps = 0
        for lost in (True, False):
            case = await run(tmp_path / f"{at}{lost}", OPERATIONS[operation], at, None, begun=begun)
            await check_end(case, OPERATIONS[operation], lost=lost)
            steps = len(case.names)
        if at >= steps:
            break


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_fault_after_it_began_changes_nothing_of_it(
    operation: str, tmp_path: Path, *, begun: bool, full: bool
) -> None:
    """Killed or without an answer at any step of the other, before or after the step took effect."""
    work = OPERATIONS[operation]
    for at in count():
        names = (await run(tmp_path / f"clean{at}", work, at, None, begun=begun)).names
        faults = product(range(at, len(names)), FAULTS, (True, False))
        for number, (fault_at, (error, took_effect), lost) in enumerate(faults):
            if number % (2 if full else 7):
                continue
            case = await run(tmp_path / f"{at}-{number}", work, at, Fault(fault_at, took_effect, error), begun=begun)
            try:
                await check_end(case, work, lost=lost)
            except AssertionError as err:
                err.add_note(f"begun before step {at} of {names}; {error.__name__} {fault_at} {took_effect=} {lost=}")
                raise
        if at >= len(names):
            break
