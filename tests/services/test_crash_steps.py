"""Promise 3, step by step: killed or failing at any write of an upload or a withdrawal, nothing acknowledged is lost.

Each run brings one fault about at one step of one operation, goes on in one of several ways, and is compared with a
model after every further step. The model knows per filename which digests may be listed: one after an answer, two after
a question that got none.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from pathlib import Path
from typing import Final

import pytest

from overlay.domain.errors import DocumentNotFound, FileExists, NotAuthenticated, Unavailable, UnknownRelease
from overlay.domain.layout import HISTORY, RECORDS, blob_key, sidecar_key, upload_of, upload_of_document
from overlay.domain.names import ABSENT, MAIN, NormalizedName, UploadId
from overlay.domain.page import UpstreamPage
from overlay.domain.ports import BlobStore, Documents
from overlay.domain.records import HistoryEntry, Record, decode
from overlay.domain.rights import Right, Token
from overlay.domain.stage import Gone, Reason, StagedFile
from overlay.services.access import Access, TokenRequest, local_operator
from overlay.services.facts import facts_reader
from overlay.services.intake import Field, FilePart
from overlay.services.rebuild import rebuild
from overlay.services.releases import Releases
from overlay.services.reports import Reports
from overlay.services.sweep import sweep
from overlay.services.uploads import Uploads, UploadSettings
from overlay.storage.blobs_directory import DirectoryBlobs
from overlay.storage.documents_directory import DirectoryDocuments
from overlay.storage.files import empty_spool
from overlay.storage.ledger_memory import MemoryLedger
from tests.builders import Built, sdist, wheel
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
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
from tests.staged import token

DEMO: Final = NormalizedName("demo")
VERSION: Final = "1.0"
ONE: Final = wheel("demo", VERSION, payload=b"one")
TWO: Final = wheel("demo", VERSION, payload=b"two")
SOURCE: Final = sdist("demo", VERSION)
ADMIN: Final = local_operator()
ADDER: Final = token(Right.ADD, label="adder")
START_US: Final = 1_700_000_000_000_000


class NothingUpstream:
    """An upstream that answers, and has nothing."""

    async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:  # noqa: ARG002
        return UpstreamPage(project=project, body=None, validator=ABSENT, fetched_at_s=0)

    async def known(self, project: NormalizedName) -> UpstreamPage | None:
        return await self.page(project)


class World:
    """What outlives a process: the bytes, the documents, the clock."""

    def __init__(self, folder: Path, *, on_disk: bool = False) -> None:
        self.spool = empty_spool(folder)
        self.blobs: BlobStore = DirectoryBlobs(folder, self.spool) if on_disk else MemoryBlobs()
        self.documents: Documents = DirectoryDocuments(folder, self.spool) if on_disk else MemoryDocuments()
        self._us = START_US
        self._ids = 0

    def now_us(self) -> int:
        self._us += 1000
        return self._us

    def new_upload_id(self) -> UploadId:
        self._ids += 1
        return UploadId(f"{self._ids:032x}")

    async def start(self, fault: Fault | None = None, turns: Turns | None = None) -> "Life":
        """Start a process: a new ledger, rebuilt from the documents."""
        steps = Steps(fault, turns)
        ledger = MemoryLedger(self.now_us)
        await rebuild(self.documents, ledger)
        blobs, documents = FaultyBlobs(self.blobs, steps), FaultyDocuments(self.documents, steps)
        faulty, upstream, facts_of = FaultyLedger(ledger, steps), NothingUpstream(), facts_reader()
        reports = Reports(blobs)
        settings = UploadSettings(
            limit_bytes=1 << 20, quota_bytes=0, replace=True, strict=False, fresh_s=60, spool=self.spool
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
        try:
            await life.releases.withdraw(ADMIN, DEMO, VERSION)
        except UnknownRelease:
            pass  # the one before it had happened


Operation = Put | Withdraw


async def _parts(built: Built) -> AsyncIterator[Field | FilePart]:
    yield Field("name", "demo")
    yield Field("version", VERSION)
    yield Field("sha256_digest", built.sha256)
    yield FilePart(built.filename, _once(built.body))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


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
    await sweep(world.blobs, world.documents, now_s=world.now_us() / 1e6 + 3600, older_than_s=0)
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
    for one in THEN[then]:
        if one is None:
            life = await world.start()
            await model.settle(life)
        else:
            assert await model.run(life, one) in {"done", "refused"}
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
        for on_disk in (False, True) if full else (False,):
            world = World(tmp_path / f"{number}{on_disk}", on_disk=on_disk)
            try:
                await _faulty_run(world, scenario, fault, then)
            except AssertionError as err:
                when = "after" if took_effect else "before"
                err.add_note(f"{error} {when} step {at}, then: {then}, {on_disk=}")
                raise


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_steps_are_those_of_the_design(scenario: str, tmp_path: Path) -> None:
    """Design §5: bytes; sidecar; admit; record; stage; history of the replaced one after it, of a withdrawn one before
    forget. A step that comes or goes is seen here, and thought about."""
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
    ended_ones = [(True, gone.file) for gone in history.values() if gone.reason is not Reason.REFUSED]
    order = [(record.replace, record.file) for record in records.values()] + ended_ones
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
    if acknowledged - shown:  # the name may only have gone to somebody who may replace
        assert shown <= acknowledged | replacers, "an add-only token replaced an acknowledged upload"
    if shown:
        _, greatest = max(order, key=lambda one: (one[0], one[1].serial))
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
    """In every order of their steps, and killed or failing at any of them: one, whole; the greatest serial wins, but
    an add-only token never takes a name from an acknowledged upload."""
    dice = random.Random(f"race {race}")
    orders = _orders()
    plain = orders if full else dice.sample(orders, _RACES_SAMPLED)
    for number, order in enumerate(plain):
        count = await _race(World(tmp_path / f"plain{number}"), RACES[race], order, None)
        faults = [
            Fault(at, effect, error) for at in range(count) for effect in (False, True) for error in (killed, silent)
        ]
        for fault in faults if full else dice.sample(faults, 2):
            world = World(tmp_path / f"{number}-{fault.at}{fault.took_effect}{fault.error.__name__}")
            try:
                await _race(world, RACES[race], order, fault)
            except AssertionError as err:
                err.add_note(f"{order=} {fault=}")
                raise
