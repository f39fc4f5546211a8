"""Faults by wrapping a protocol: kill or fail at the n-th write step, and decide whose step comes next.

Every wrapper *is* its protocol. All wrappers of one life share one `Steps`, so that a number names one instant of it.
After a kill every call raises, as a dead process does nothing more.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from overlay.domain.errors import LedgerUnavailable, OverlayError, StoreFull, StoreUnavailable
from overlay.domain.events import EventFeed
from overlay.domain.ledger_port import Ending, Lead, LedgerState, StageLedger
from overlay.domain.names import NormalizedName, Revision, StageId, UploadId
from overlay.domain.ports import BlobInfo, BlobKey, BlobStore, BlobWriter, Documents
from overlay.domain.promotion import Freeze, PromotionEnding, PromotionId
from overlay.domain.rights import Token
from overlay.domain.stage import (
    Admitted,
    AlreadyStaged,
    Claim,
    Entry,
    Gone,
    LatestProjects,
    Staged,
    StagedFile,
    StageIndex,
    StageSnapshot,
    Totals,
)

Result = TypeVar("Result")

_LEDGER_STEPS: Final = frozenset(
    {"admit", "stage", "forget", "mark live", "freeze", "renew", "overtake", "thaw", "put token", "drop token"}
)

OWNER: ContextVar[str] = ContextVar("OWNER", default="")
"""Whose work a step is, for `Turns`; tasks inherit it."""


class Killed(BaseException):
    """The process ended here. No `except Exception` sees it, as nothing sees kill -9."""


@dataclass(frozen=True)
class Fault:
    """What happens at step `at` (from 0): an error before the step took effect, or after (a lost answer)."""

    at: int
    took_effect: bool
    error: Callable[[str], BaseException]
    """From the step's name to what it raises."""


def killed(step: str) -> BaseException:  # noqa: ARG001 - one shape for all faults
    """End the process."""
    return Killed()


def silent(step: str) -> BaseException:
    """The ledger or the store does not answer."""
    if step in _LEDGER_STEPS:
        return LedgerUnavailable("The ledger did not answer (a fault of the test).")
    return StoreUnavailable("The store did not answer (a fault of the test).")


def full(step: str) -> BaseException:
    """The store takes no more; deleting and the ledger need no space."""
    if step in _LEDGER_STEPS or step.startswith("delete"):
        return silent(step)
    return StoreFull("The disk is full (a fault of the test).")


Meanwhile = Callable[[int, str], Awaitable[None]]
"""What others do just before a step, given its number (from 0) and its name."""


class Turns:
    """Lets two owners' steps happen in a given order, `"XXYX…"`; free when the order is used up."""

    def __init__(self, order: str, *, steps: frozenset[str]) -> None:
        self._order = list(order)
        self._steps = steps
        self._done: set[str] = set()
        self._looked: set[str] = set()
        self._changed = asyncio.Condition()

    async def take(self, name: str) -> bool:
        """Wait for the owner's turn; False for a step that needs none."""
        owner = OWNER.get()
        if name not in self._steps or not owner:
            return False
        if name == "admit" and owner not in self._looked:  # the first one is only a look
            self._looked.add(owner)
            return False
        async with self._changed:
            await self._changed.wait_for(lambda: self._next() in {owner, ""})
        return True

    async def give(self) -> None:
        """End the turn."""
        async with self._changed:
            if self._next():
                self._order.pop(0)
            self._changed.notify_all()

    async def finish(self, owner: str) -> None:
        """Skip the turns that the owner did not need."""
        async with self._changed:
            self._done.add(owner)
            self._changed.notify_all()

    def _next(self) -> str:
        while self._order and self._order[0] in self._done:
            self._order.pop(0)
        return self._order[0] if self._order else ""


class Steps:
    """Counts the write steps of one life and brings about its fault, or what others do meanwhile."""

    def __init__(
        self, fault: Fault | None = None, turns: Turns | None = None, meanwhile: Meanwhile | None = None
    ) -> None:
        self.names: list[str] = []
        self.dead = False
        self.armed = True
        self._fault = fault
        self._turns = turns
        self._meanwhile = meanwhile

    def alive(self) -> None:
        """Raise Killed in a dead process."""
        if self.dead:
            raise Killed

    async def take(self, name: str, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do one step of work, unless its number is the fault's."""
        self.alive()
        waited = self._turns is not None and await self._turns.take(name)
        try:
            self.alive()
            return await self._take(name, work)
        finally:
            if waited and self._turns is not None:
                await self._turns.give()

    async def _take(self, name: str, work: Callable[[], Awaitable[Result]]) -> Result:
        fault, number = self._fault, len(self.names)
        if not self.armed:
            return await work()
        self.names.append(name)
        if self._meanwhile is not None:
            await self._meanwhile(number, name)
        if fault is None or number != fault.at:
            return await work()
        if fault.took_effect:
            with contextlib.suppress(OverlayError):  # a refusal is an answer, too
                await work()
        error = fault.error(name)
        self.dead = isinstance(error, Killed)
        raise error


class FaultyWriter:
    """A BlobWriter whose writes are steps."""

    def __init__(self, inner: BlobWriter, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    @property
    def path(self) -> Path | None:
        return self._inner.path

    async def write(self, chunk: bytes) -> None:
        await self._steps.take("write", lambda: self._inner.write(chunk))


class FaultyBlobs:
    """A BlobStore: opening, writing, committing and deleting a blob are steps."""

    def __init__(self, inner: BlobStore, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    @contextlib.asynccontextmanager
    async def create(self, key: BlobKey) -> AsyncIterator[FaultyWriter]:
        context = self._inner.create(key)
        opened: list[BlobWriter] = []

        async def enter() -> BlobWriter:
            opened.append(await context.__aenter__())
            return opened[0]

        try:
            writer = await self._steps.take("open", enter)
        except BaseException as err:
            if opened:  # this process lives on, and has to close what it opened
                await context.__aexit__(type(err), err, err.__traceback__)
            raise
        try:
            yield FaultyWriter(writer, self._steps)
        except BaseException as err:
            await context.__aexit__(type(err), err, err.__traceback__)
            raise
        committed = False

        async def commit() -> None:
            nonlocal committed
            committed = True
            await context.__aexit__(None, None, None)

        try:
            await self._steps.take("commit", commit)
        except BaseException as err:
            if not committed:
                with contextlib.suppress(type(err)):
                    await context.__aexit__(type(err), err, err.__traceback__)
            raise

    async def size(self, key: BlobKey) -> int:
        self._steps.alive()
        return await self._inner.size(key)

    async def read(self, key: BlobKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        self._steps.alive()
        async with contextlib.aclosing(self._inner.read(key, start, stop)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def locate(self, key: BlobKey) -> Path | None:
        self._steps.alive()
        return await self._inner.locate(key)

    async def delete(self, key: BlobKey) -> None:
        await self._steps.take("delete blob", lambda: self._inner.delete(key))

    async def infos(self) -> AsyncIterator[BlobInfo]:
        self._steps.alive()
        async for info in self._inner.infos():
            yield info

    async def abandon(self, *, begun_before_s: float) -> int:
        return await self._steps.take("abandon", lambda: self._inner.abandon(begun_before_s=begun_before_s))


class FaultyDocuments:
    """Documents: putting and deleting one are steps, named with the folder."""

    def __init__(self, inner: Documents, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    async def put(self, key: str, body: bytes) -> None:
        await self._steps.take(f"put {key.partition('/')[0]}", lambda: self._inner.put(key, body))

    async def get(self, key: str) -> bytes:
        self._steps.alive()
        return await self._inner.get(key)

    async def delete(self, key: str) -> None:
        await self._steps.take(f"delete {key.partition('/')[0]}", lambda: self._inner.delete(key))

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        self._steps.alive()
        async for key in self._inner.keys(prefix):
            yield key

    def parts(self, prefix: str) -> Sequence[str]:
        return self._inner.parts(prefix)

    async def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        self._steps.alive()
        async for found in self._inner.scan(prefix):
            yield found


class FaultyLedger:
    """A StageLedger: admit, stage, forget and what changes freezes are steps; so are the two that change tokens."""

    def __init__(self, inner: StageLedger, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    async def load(
        self,
        files: Sequence[StagedFile],
        tokens: Sequence[Token],
        freezes: Sequence[Freeze] = (),
        live: Sequence[UploadId] = (),
    ) -> None:
        self._steps.alive()
        await self._inner.load(files, tokens, freezes, live)

    async def state(self) -> LedgerState:
        self._steps.alive()
        return await self._inner.state()

    def lead(self) -> AbstractAsyncContextManager[Lead]:
        self._steps.alive()
        return self._inner.lead()

    async def revisions(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[Revision, ...]:
        self._steps.alive()
        return await self._inner.revisions(project, stages)

    async def snapshot(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[StageSnapshot, ...]:
        self._steps.alive()
        return await self._inner.snapshot(project, stages)

    async def entries(self, project: NormalizedName, uploads: Sequence[UploadId]) -> tuple[Entry, ...]:
        self._steps.alive()
        return await self._inner.entries(project, uploads)

    async def index(self) -> StageIndex:
        self._steps.alive()
        return await self._inner.index()

    async def latest(self, stage: StageId, *, most_projects: int, most_files: int) -> LatestProjects:
        self._steps.alive()
        return await self._inner.latest(stage, most_projects=most_projects, most_files=most_files)

    async def names(self, stages: Sequence[StageId]) -> tuple[Revision, tuple[NormalizedName, ...]]:
        self._steps.alive()
        return await self._inner.names(stages)

    async def totals(self) -> Totals:
        self._steps.alive()
        return await self._inner.totals()

    async def bytes_staged_by(self, token_id: str) -> int:
        self._steps.alive()
        return await self._inner.bytes_staged_by(token_id)

    async def admit(self, claim: Claim) -> Admitted | AlreadyStaged:
        return await self._steps.take("admit", lambda: self._inner.admit(claim))

    async def stage(self, file: StagedFile, *, replace: bool, epoch: str) -> Staged:
        return await self._steps.take("stage", lambda: self._inner.stage(file, replace=replace, epoch=epoch))

    async def forget(self, project: NormalizedName, uploads: Sequence[UploadId], gone: Ending) -> tuple[Gone, ...]:
        return await self._steps.take("forget", lambda: self._inner.forget(project, uploads, gone))

    async def mark_live(self, uploads: Sequence[UploadId]) -> None:
        await self._steps.take("mark live", lambda: self._inner.mark_live(uploads))

    async def marked_live(self) -> frozenset[UploadId]:
        self._steps.alive()
        return await self._inner.marked_live()

    async def freeze(self, wanted: Freeze) -> Freeze:
        return await self._steps.take("freeze", lambda: self._inner.freeze(wanted))

    async def renew(self, promotion: PromotionId, *, fence: int, until_us: int, durable: bool = False) -> Freeze:
        return await self._steps.take(
            "renew", lambda: self._inner.renew(promotion, fence=fence, until_us=until_us, durable=durable)
        )

    async def overtake(self, promotion: PromotionId) -> bool:
        return await self._steps.take("overtake", lambda: self._inner.overtake(promotion))

    async def thaw(self, promotion: PromotionId, ending: PromotionEnding, *, unless_durable: bool = False) -> bool:
        return await self._steps.take(
            "thaw", lambda: self._inner.thaw(promotion, ending, unless_durable=unless_durable)
        )

    async def freezes(self) -> tuple[Freeze, ...]:
        self._steps.alive()
        return await self._inner.freezes()

    async def spend(self, token_id: str, *, per_minute: int) -> float:
        self._steps.alive()
        return await self._inner.spend(token_id, per_minute=per_minute)

    async def events(self, after: int) -> EventFeed:
        self._steps.alive()
        return await self._inner.events(after)

    async def token(self, sha256: str) -> Token | None:
        self._steps.alive()
        return await self._inner.token(sha256)

    async def tokens(self) -> tuple[Token, ...]:
        self._steps.alive()
        return await self._inner.tokens()

    async def put_token(self, token: Token) -> None:
        await self._steps.take("put token", lambda: self._inner.put_token(token))

    async def drop_token(self, token_id: str) -> None:
        await self._steps.take("drop token", lambda: self._inner.drop_token(token_id))
