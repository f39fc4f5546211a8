"""Promise 3, step by step: killed or failing at any write of an upload or a withdrawal, nothing acknowledged is lost.

Each run brings one fault about at one step of one operation, goes on in one of several ways, and is compared with a
model after every further step. The model knows per filename which digests may be listed: one after an answer, two after
a question that got none.
"""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from pathlib import Path
from typing import Final

import pytest

from overlay.domain.errors import FileExists, NotAuthenticated, Unavailable, UnknownToken
from overlay.domain.layout import blob_key, sidecar_key, upload_of
from overlay.domain.ports import BlobStore
from overlay.domain.records import Record, encode
from overlay.domain.stage import Reason
from overlay.services.access import Access, TokenRequest
from overlay.services.rebuild import rebuild
from overlay.services.sweep import sweep
from overlay.services.upkeep import reconcile
from overlay.storage.ledger_memory import MemoryLedger
from tests.faults import (
    OWNER,
    Fault,
    FaultyBlobs,
    FaultyDocuments,
    FaultyLedger,
    Killed,
    Steps,
    Turns,
    full,
    killed,
    silent,
)
from tests.lives import (
    ADDER,
    ADMIN,
    DEMO,
    ONE,
    SOURCE,
    START_US,
    TWO,
    InlineExecutor,
    Life,
    Operation,
    Put,
    Withdraw,
    World,
)

pytestmark = pytest.mark.faults

LATER_S: Final = 4e9  # later than any clock here: that of the world, and that of the disk


@pytest.fixture(autouse=True)
async def without_threads() -> None:
    asyncio.get_running_loop().set_default_executor(InlineExecutor(1))


@dataclass
class Model:
    """Per filename the digests that may be listed now; None: it may be missing."""

    may: dict[str, set[str | None]] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)

    async def run(self, life: Life, operation: Operation) -> str:
        """Run an operation, note what it allows from now on, and say how it ended."""
        try:
            await operation.run(life)
        except FileExists:
            return "refused"
        except (Unavailable, Killed):
            self._note(operation, known=False)
            return "unknown"
        self._note(operation, known=True)
        return "done"

    def _note(self, operation: Operation, *, known: bool) -> None:
        match operation:
            case Put(built):
                held = self.may.get(built.filename, {None})
                self.may[built.filename] = {built.sha256} if known else held | {built.sha256}
                if known:
                    self.acknowledged.add(built.sha256)
            case Withdraw():
                self.may = {name: {None} if known else held | {None} for name, held in self.may.items()}

    async def check(self, life: Life) -> None:
        """Compare what is staged, and its bytes, with the model; from here on the state is known."""
        staged = await life.staged()
        for name, held in self.may.items():
            found = staged[name].sha256 if name in staged else None
            assert found in held, f"{name}: {_short(found)} is staged, {[_short(one) for one in held]} would be right"
        for file in staged.values():
            assert file.filename in self.may
            blobs = life.world.blobs
            assert await _sha256(blobs, blob_key(file.upload_id, file.filename)) == file.sha256
            assert await _sha256(blobs, sidecar_key(file.upload_id, file.filename)) == file.metadata_sha256

    async def settle(self, life: Life) -> None:
        """Take what a restart made of the unknown for known."""
        await self.check(life)
        staged = await life.staged()
        self.may = {name: {staged[name].sha256 if name in staged else None} for name in self.may}


async def _sha256(blobs: BlobStore, key: str) -> str:
    digest = hashlib.sha256()
    async for chunk in blobs.read(key):  # type: ignore[arg-type]
        digest.update(chunk)
    return digest.hexdigest()


def _short(sha256: str | None) -> str:
    names = {ONE.sha256: "one", TWO.sha256: "two", SOURCE.sha256: "sdist", None: "nothing"}
    return names.get(sha256, str(sha256))


async def check_swept(world: World, model: Model) -> None:
    """Sweep all there is, and compare bytes, records and history with what is staged."""
    life = await world.start()
    await model.settle(life)
    await sweep(world.blobs, world.documents, ended_before_s=LATER_S, orphaned_before_s=LATER_S)
    await model.check(life)
    staged = await life.staged()
    records, history = await world.records(), await world.history()
    ids = {file.upload_id for file in staged.values()}
    assert {upload_of(info.key) async for info in world.blobs.infos()} == ids
    assert len([info async for info in world.blobs.infos()]) == 2 * len(ids)
    assert set(records) == ids
    assert not set(records) & set(history)
    listed = {file.sha256 for file in staged.values()}
    assert model.acknowledged <= listed | {gone.file.sha256 for gone in history.values()}, "a digest left no trace"
    again = await (await world.start()).staged()
    assert {file.upload_id for file in again.values()} == ids


# Each: what is staged before, and the operation that meets the fault.
SCENARIOS: Final[dict[str, tuple[tuple[Operation, ...], Operation]]] = {
    "new upload": ((), Put(ONE)),
    "new upload beside another": ((Put(SOURCE),), Put(ONE)),
    "replacement": ((Put(ONE),), Put(TWO)),
    "the same bytes again": ((Put(ONE),), Put(ONE)),
    "withdrawal of two files": ((Put(ONE), Put(SOURCE)), Withdraw()),
    "new upload by an add-only token": ((), Put(ONE, ADDER)),
    "add-only token refused": ((Put(ONE),), Put(TWO, ADDER)),
}
FAULTS: Final[dict[str, Callable[[str], BaseException]]] = {"killed": killed, "silent": silent, "full": full}
# What happens after the fault; None: the process is started anew.
THEN: Final[dict[str, tuple[Operation | None, ...]]] = {
    "repeat": (),  # the operation itself comes last in every run
    "restart": (None,),
    "withdraw, restart": (Withdraw(), None),
    "upload again, restart": (Put(ONE), None),
    "upload by an add-only token, withdraw, restart": (Put(TWO, ADDER), Withdraw(), None),
    "upload other bytes, withdraw, restart": (Put(TWO), Withdraw(), None),
}


async def _clean_run(world: World, before: tuple[Operation, ...], operation: Operation) -> tuple[int, str]:
    """Say how many steps the operation has without a fault, and how it ends."""
    model = Model()
    for one in before:
        assert await model.run(await world.start(), one) == "done"
    life = await world.start()
    ended = await model.run(life, operation)
    await check_swept(world, model)
    return len(life.steps.names), ended


async def _faulty_run(world: World, scenario: str, fault: Fault, then: str) -> None:
    before, operation = SCENARIOS[scenario]
    model = Model()
    for one in before:
        assert await model.run(await world.start(), one) == "done"
    life = await world.start(fault)
    await model.run(life, operation)
    assert len(life.steps.names) > fault.at
    if life.steps.dead:
        life = await world.start()
        await model.settle(life)
    life.steps.armed = False
    await model.check(life)
    for further in THEN[then]:
        if further is None:
            life = await world.start()
            await model.settle(life)
        else:
            assert await model.run(life, further) in {"done", "refused"}
            await model.check(life)
    assert await model.run(life, operation) in {"done", "refused"}
    await model.check(life)
    await check_swept(world, model)


@pytest.mark.parametrize("error", FAULTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_fault_at_any_step_loses_nothing_acknowledged(
    scenario: str, error: str, tmp_path: Path, *, full: bool
) -> None:
    """Killed, silent or full, before or after any step took effect: what was answered holds, the rest is whole or not.

    Then the same operation succeeds, and a sweep leaves exactly what is staged.
    """
    count, _ = await _clean_run(World(tmp_path / "clean"), *SCENARIOS[scenario])
    assert count > 0
    for number, (at, took_effect, then) in enumerate(product(range(count), (False, True), THEN)):
        fault = Fault(at, took_effect, FAULTS[error])
        # The directory's own honesty is the conformance suite's business; here it only has to be the same.
        for on_disk in (False, True) if full and number % _ON_DISK_EVERY == 0 else (False,):
            world = World(tmp_path / f"{number}{on_disk}", on_disk=on_disk)
            try:
                await _faulty_run(world, scenario, fault, then)
            except AssertionError as err:
                when = "after" if took_effect else "before"
                err.add_note(f"{error} {when} step {at}, then: {then}, {on_disk=}")
                raise


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_steps_are_those_of_the_design(scenario: str, tmp_path: Path) -> None:
    """Design §5: bytes, sidecar, admit, record, stage; the history after it, of a withdrawn one before forget.

    A step that comes or goes is seen here, and thought about.
    """
    world, (before, operation) = World(tmp_path), SCENARIOS[scenario]
    for one in before:
        await one.run(await world.start())
    life = await world.start()
    await Model().run(life, operation)
    blob = ["open", "write"]
    sidecar = ["open", "write", "commit"]
    expected = {
        "new upload": [*blob, "admit", "commit", *sidecar, "admit", "put records", "stage"],
        "replacement": [
            *blob,
            *["admit", "commit", *sidecar, "admit", "put records", "stage", "put history", "delete records"],
        ],
        "the same bytes again": [*blob, "admit", "admit"],
        "withdrawal of two files": ["put history", "put history", "forget", "delete records", "delete records"],
        "new upload by an add-only token": [
            *blob,
            *["admit", "commit", *sidecar, "admit", "put records", "stage", "put records"],
        ],
        "add-only token refused": [*blob, "admit"],
    }
    expected["new upload beside another"] = expected["new upload"]
    assert life.steps.names == expected[scenario]


RACES: Final[dict[str, tuple[Put, Put]]] = {
    "two replace": (Put(ONE), Put(TWO)),
    "one may only add": (Put(ONE), Put(TWO, ADDER)),
    "both may only add": (Put(ONE, ADDER), Put(TWO, replace(ADDER, id="other", label="other"))),
    "the same bytes": (Put(ONE), Put(ONE)),
}
_RACING_STEPS: Final = frozenset({"admit", "put records", "stage", "put history", "delete records"})
_STEPS_EACH: Final = 5
_RACES_SAMPLED: Final = 60
_ON_DISK_EVERY: Final = 4


def _orders() -> list[str]:
    """All ways to merge two uploads' steps from the second admit on."""
    places = combinations(range(2 * _STEPS_EACH), _STEPS_EACH)
    return ["".join("X" if at in chosen else "Y" for at in range(2 * _STEPS_EACH)) for chosen in places]


async def _race(world: World, racers: tuple[Put, Put], order: str, fault: Fault | None) -> int:
    turns = Turns(order, steps=_RACING_STEPS)
    life = await world.start(fault, turns)
    ended: dict[str, str] = {}

    async def run(owner: str, put: Put) -> None:
        OWNER.set(owner)
        ended[owner] = await Model().run(life, put)
        await turns.finish(owner)

    async with asyncio.TaskGroup() as tasks:
        for owner, put in zip("XY", racers, strict=True):
            tasks.create_task(run(owner, put))
    await life.uploads.close()
    await _check_race(world, life, dict(zip("XY", racers, strict=True)), ended)
    return len(life.steps.names)


async def _check_race(world: World, life: Life, racers: dict[str, Put], ended: dict[str, str]) -> None:
    records, history = await world.records(), await world.history()
    living = [(record.replace, record.file) for upload, record in records.items() if upload not in history]
    acknowledged = {racers[owner].built.sha256 for owner in ended if ended[owner] == "done"}
    may = {put.built.sha256 for owner, put in racers.items() if ended.get(owner) != "refused"}
    if not life.steps.dead:
        staged = await life.staged()
        assert {file.sha256 for file in staged.values()} <= may
    restarted = await (await world.start()).staged()
    shown = {file.sha256 for file in restarted.values()}
    assert shown <= may, "a refused upload came back"
    assert shown or not acknowledged, "an acknowledged upload is lost"
    replacers = {put.built.sha256 for put in racers.values() if put.caller is ADMIN}
    if any(file.sha256 in acknowledged - shown for _, file in living):  # it was shown until the restart
        assert shown <= replacers, "an add-only token replaced an acknowledged upload"
    if shown:
        _, greatest = max(living, key=lambda one: (one[0], one[1].serial))
        assert shown == {greatest.sha256}, "not the greatest serial"
    model = Model({ONE.filename: {None, *may}}, acknowledged)
    await check_swept(world, model)
    life = await world.start()
    for put in racers.values():  # both once more: each is answered, and the state is one of the two, whole
        assert await model.run(life, put) in {"done", "refused"}
        await model.check(life)
    await check_swept(world, model)


@pytest.mark.parametrize("race", RACES)
async def test_two_uploads_of_one_name_end_as_one_of_them(race: str, tmp_path: Path, *, full: bool) -> None:
    """In every order of their steps, and killed or failing at any of them: one, whole; the greatest serial wins.

    But an add-only token never takes a name from an acknowledged upload.
    """
    dice = random.Random(f"race {race}")
    orders = _orders()
    plain = orders if full else dice.sample(orders, _RACES_SAMPLED)
    for number, order in enumerate(plain):
        count = await _race(World(tmp_path / f"plain{number}"), RACES[race], order, None)
        faults = [
            Fault(at, effect, error) for at in range(count) for effect in (False, True) for error in (killed, silent)
        ]
        for fault in dice.sample(faults, min(len(faults), 1 if full else 2)):
            world = World(tmp_path / f"{number}-{fault.at}{fault.took_effect}{fault.error.__name__}")
            try:
                await _race(world, RACES[race], order, fault)
            except AssertionError as err:
                err.add_note(f"{order=} {fault=}")
                raise


async def _late(world: World, fault: Fault | None) -> tuple[MemoryLedger, list[str]]:
    """Let an add-only upload meet, where it is to be staged, other bytes that came past it; return its steps, too."""
    ledger = MemoryLedger(world.now_us)
    await rebuild(world.documents, ledger, world.now_us)

    async def meanwhile(_number: int, name: str) -> None:
        if name == "stage":
            await Put(ONE).run(world.worker(ledger, Steps()))

    steps = Steps(fault, meanwhile=meanwhile)
    ended = await Model().run(world.worker(ledger, steps), Put(TWO, ADDER))
    assert ended == ("refused" if fault is None else "unknown")
    return ledger, steps.names


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("error", FAULTS)
async def test_an_add_only_upload_that_came_too_late_never_returns(
    error: str, tmp_path: Path, *, restarts: bool
) -> None:
    """Whatever step of its refusal failed: not when the name is free again, not by a reconcile, not by a restart."""
    _, names = await _late(World(tmp_path / "clean"), None)
    for at, took_effect in product(range(names.index("stage"), len(names)), (False, True)):
        world = World(tmp_path / f"{at}{took_effect}")
        ledger, _ = await _late(world, Fault(at, took_effect, FAULTS[error]))
        life = await world.start() if restarts else world.worker(ledger, Steps())
        await Withdraw().run(life)
        for _ in range(2):
            await reconcile(world.documents, life.ledger)
            assert await life.staged() == {}, f"{error} at {names[at]}, {took_effect=}"
        model = Model({ONE.filename: {None}}, {ONE.sha256})
        await check_swept(world, model)


async def _interrupted_replacement(world: World) -> Model:
    """Leave a replacement without its history, as a kill between `stage` and it does."""
    model = Model()
    for put, at in ((Put(ONE), None), (Put(SOURCE), None), (Put(TWO), 9)):
        life = await world.start(None if at is None else Fault(at, took_effect=True, error=killed))
        await model.run(life, put)
    assert {_short(record.file.sha256) for record in (await world.records()).values()} == {"one", "two", "sdist"}
    return model


@pytest.mark.parametrize("error", FAULTS)
async def test_a_fault_in_a_rebuild_is_settled_by_the_next(error: str, tmp_path: Path) -> None:
    """A rebuild that is killed or meets a full disk while it settles losers has lost nothing."""
    for at, took_effect in product(range(2), (False, True)):
        world = World(tmp_path / f"{at}{took_effect}")
        model = await _interrupted_replacement(world)
        model.may[ONE.filename] = {TWO.sha256}  # the greater serial wins
        steps = Steps(Fault(at, took_effect, FAULTS[error]))
        documents, ledger = FaultyDocuments(world.documents, steps), MemoryLedger(world.now_us)
        with pytest.raises((Killed, Unavailable)):
            await rebuild(documents, ledger, world.now_us)
        await check_swept(world, model)
        assert [gone.reason for gone in (await world.history()).values()] == [Reason.REPLACED]


@pytest.mark.parametrize("error", FAULTS)
async def test_a_fault_in_a_sweep_deletes_nothing_that_is_staged(error: str, tmp_path: Path) -> None:
    """A sweep may end at any of its deletions; the next one finishes it."""
    for at, took_effect in product(range(3), (False, True)):
        world = World(tmp_path / f"{at}{took_effect}")
        model = await _interrupted_replacement(world)
        life = await world.start()
        await model.settle(life)
        gone = (await life.releases.history(DEMO))[0]
        await world.documents.put(  # a kill before its deletion left the record beside the history
            f"records/demo/{gone.file.upload_id}.json", encode(Record(file=gone.file, form=(), attestations=None))
        )
        steps = Steps(Fault(at, took_effect, FAULTS[error]))
        blobs, documents = FaultyBlobs(world.blobs, steps), FaultyDocuments(world.documents, steps)
        with pytest.raises((Killed, Unavailable)):
            await sweep(blobs, documents, ended_before_s=LATER_S, orphaned_before_s=LATER_S)
        await check_swept(world, model)


async def test_a_sweep_spares_what_is_young(tmp_path: Path) -> None:
    """An upload whose blob was seen and whose record comes later is younger than `older_than_s`."""
    world = World(tmp_path)
    life = await world.start(Fault(8, took_effect=False, error=killed))  # all bytes, no record
    await Model().run(life, Put(ONE))
    held = len([info async for info in world.blobs.infos()])
    assert held > 0
    now_s = START_US / 1e6 + 100
    assert (
        await sweep(world.blobs, world.documents, ended_before_s=now_s - 101, orphaned_before_s=now_s - 101)
    ).blobs == 0
    assert (
        await sweep(
            world.blobs, world.documents, ended_before_s=now_s - 100, orphaned_before_s=now_s - 100, dry_run=True
        )
    ).blobs == held
    assert (
        await sweep(world.blobs, world.documents, ended_before_s=now_s - 100, orphaned_before_s=now_s - 100)
    ).blobs == held


@pytest.mark.parametrize("took_effect", [False, True])
@pytest.mark.parametrize("at", [0, 1])
async def test_a_revocation_that_failed_succeeds_when_repeated(at: int, took_effect: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Whatever step of it failed, after an answer the token opens nothing, now and after a restart."""
    world = World(tmp_path)
    life = await world.start()
    life.steps.armed = False
    steps = Steps(Fault(at, took_effect, silent))
    made = _access(life.documents, life.ledger)
    token, text = await made.create(
        TokenRequest(label="ada", rights=["stage"], projects=["demo"], stages=["main"], expires_at_s=None)
    )
    assert await made.authenticate(text) == token
    inner = FaultyDocuments(world.documents, steps), FaultyLedger(life.ledger, steps)
    access = _access(*inner)
    with pytest.raises(Unavailable):
        await access.revoke(token.id)
    with contextlib.suppress(UnknownToken):  # it had happened
        await access.revoke(token.id)
    with pytest.raises(NotAuthenticated):
        await access.authenticate(text)
    life = await world.start()
    with pytest.raises(NotAuthenticated):
        await _access(life.documents, life.ledger).authenticate(text)


def _access(documents: FaultyDocuments, ledger: FaultyLedger) -> Access:
    return Access(ledger, documents, operator_secret="", now_s=lambda: START_US / 1e6, new_bits=lambda: 7)
