"""Push what is to be pushed: wave after wave, a journal entry before every POST, a look before every repetition.

Once one file of a wave has failed, no other one is begun; what is on its way is let finish, for a cut leaves a file of
which nobody knows whether it is out. Only a lost lease cuts: then another run may look, and push, at this moment.

Where upstream certainly has nothing of a file, because it refused every attempt or no byte was sent, the journal takes
its `pushing` back: the next run need not wait for it, and people are told that nothing is out.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import groupby
from typing import Final, assert_never

from overlay.domain.names import UploadId
from overlay.domain.promotion import FileState
from overlay.promote import errors
from overlay.promote.answers import Accepted, Answer, NotSent, Refused, Taken, Unknown
from overlay.promote.clock import pause_s
from overlay.promote.course import Course, Journalled
from overlay.promote.errors import Failed, PromoteError, RunLost
from overlay.promote.hosts import Target
from overlay.promote.push import Package, Push
from overlay.promote.tools import Credential

# What other indexes than PyPI say of a credential is as often the first.
_BY_CREDENTIAL: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One file on its way."""

    package: Package
    doubtful: bool
    """Upstream may have it, from this run or an earlier one."""
    attempt: int = 0
    """Counts the attempts of this run, from 1."""
    authorization: str = ""
    """What the last one carried."""
    renewed: bool = False
    """It was sent once more because the credential had run out on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushing:
    """Where this run pushes, how, and as whom."""

    course: Course
    target: Target
    push: Push
    credential: Credential
    problems: list[PromoteError] = field(default_factory=list)
    """Why no further file is begun."""

    async def all(self, packages: Sequence[Package]) -> None:
        """Push the packages by their waves. Raises what kept one from going out; RunLost at once."""
        for _, wave in groupby(packages, key=lambda package: package.file.wave):
            await self._wave(list(wave))
            if self.problems:
                raise _joined(self.problems)

    async def _wave(self, packages: Sequence[Package]) -> None:
        gate = asyncio.Semaphore(self.course.options.at_once)
        try:
            async with asyncio.TaskGroup() as group:
                for package in packages:
                    group.create_task(self._in_turn(gate, package))
        except* RunLost as lost:
            raise _first(lost) from None

    async def _in_turn(self, gate: asyncio.Semaphore, package: Package) -> None:
        async with gate:
            if self.problems:
                return
            try:
                await self._file(package)
            except RunLost:
                raise
            except PromoteError as err:
                self.problems.append(err)

    async def _file(self, package: Package) -> None:
        """Push one file until upstream has it. Raises Failed, and what the credential or the overlay says."""
        course, most, said = self.course, self.course.options.most_attempts, ""
        may_be_there = course.standings.state(UploadId(package.file.upload_id)) is FileState.PUSHING
        turn = _Turn(package=package, doubtful=may_be_there)
        while turn.attempt < most and not (said and self.problems):
            answer = await self._attempt(turn)
            if await self._settled(turn, answer):
                return
            said = answer.said or "there was no answer"
            if isinstance(answer, NotSent) and turn.attempt < most:
                await self._pause(turn, said)
        sentence = f"{package.file.filename} did not get through to {self.target.host}: {said}"
        raise Failed(f"{sentence}{self._left(turn)}")

    async def _attempt(self, turn: _Turn) -> Answer:
        """Send the file once. The journal says so before the first byte goes out."""
        course, progress, package = self.course, self.course.tools.progress, turn.package
        turn.authorization = await self.credential.authorization()
        turn.attempt += 1
        await self._journal(turn, FileState.PUSHING)
        course.lease.require()
        try:
            return await self.push(
                package,
                turn.authorization,
                lambda done_bytes: progress.pushing(package.file.filename, done_bytes),
            )
        except errors.Refused as err:  # before a byte was sent
            await self._came_to_nothing(turn, None, str(err))
            raise

    async def _settled(self, turn: _Turn, answer: Answer) -> bool:
        """Act on an answer; False: upstream does not have the file, and it may be sent again. Raises Failed."""
        course = self.course
        match answer:
            case Accepted(status, said):
                course.tools.progress.pushed(turn.package.file.filename)
                await self._journal(turn, FileState.PUSHED, status, said)
                return True
            case Refused(status, said):
                await self._came_to_nothing(turn, status, said)
                if self._ran_out(turn, status):
                    return False
                raise self._refused(turn, status, said)
            case Taken(status, said):
                turn.doubtful = True
                await self._journal(turn, FileState.PUSHING, status, said)
                if await self._shown(turn, course.plan.absent_s, "upstream may have this file already"):
                    return True
                raise self._refused(turn, status, said)
            case Unknown(status, said, retry_after_s):
                turn.doubtful = True
                await self._journal(turn, FileState.PUSHING, status, said)
                # Nobody waits longer for a refusal than for a success.
                within_s = max(float(course.plan.absent_s), min(retry_after_s, course.options.timeout_s))
                return await self._shown(turn, within_s, said or "upstream may or may not have this file")
            case NotSent(said):
                await self._came_to_nothing(turn, None, said)
                return False
            case _:
                assert_never(answer)

    async def _journal(self, turn: _Turn, state: Journalled, status: int | None = None, said: str = "") -> None:
        await self.course.journal(turn.package.file, state, attempt=turn.attempt, status=status, said=said)

    async def _came_to_nothing(self, turn: _Turn, status: int | None, said: str) -> None:
        """Write down that nothing of this attempt is upstream; that nothing at all is, only where that is certain."""
        await self._journal(turn, FileState.PUSHING if turn.doubtful else FileState.PLANNED, status, said)

    def _ran_out(self, turn: _Turn, status: int) -> bool:
        """Say whether the credential ran out while the file was sent: then it is sent once more, with a new one."""
        if status not in _BY_CREDENTIAL or turn.renewed:
            return False
        turn.renewed = self.credential.has_ended(turn.authorization)
        return turn.renewed

    async def _shown(self, turn: _Turn, within_s: float, why: str) -> bool:
        return await self.course.shown_within({UploadId(turn.package.file.upload_id)}, within_s, why)

    async def _pause(self, turn: _Turn, why: str) -> None:
        self.course.tools.progress.waiting([turn.package.file.filename], why)
        await self.course.tools.clock.sleep(pause_s(turn.attempt))

    def _refused(self, turn: _Turn, status: int, said: str) -> Failed:
        words = said or f"it answered {status}"
        sentence = f"{self.target.host} refused {turn.package.file.filename}: {words}"
        advice = f"\n{self._advice()}" if status in _BY_CREDENTIAL else ""
        return Failed(f"{sentence}{advice}{self._left(turn)}")

    def _left(self, turn: _Turn) -> str:
        """Say what is left of a file that failed, and how to go on."""
        if turn.doubtful:
            return (
                f"\n{turn.package.file.filename} was not seen there, and may still come. The same command looks again "
                f"and goes on; `overlay promote --abandon {self.course.releases}` gives this promotion up."
            )
        return (
            f"\nNothing of {turn.package.file.filename} is out. The same command goes on once the cause is mended; if "
            f"the file itself has to change, `overlay promote --abandon {self.course.releases}` gives this promotion "
            "up, and the file can be staged again."
        )

    def _advice(self) -> str:
        identity = self.credential.identity
        if identity is None:
            return f"It was sent with {self.credential.words}: look whether that may upload to this project."
        return (
            "It was sent by Trusted Publishing: the project's publishing settings must name this job's publisher "
            f"({identity})."
        )


def _joined(problems: Sequence[PromoteError]) -> PromoteError:
    """Say every problem once; refusals together are one."""
    said = "\n".join(dict.fromkeys(map(str, problems)))
    if len(problems) == 1:
        return problems[0]
    return errors.Refused(said) if all(isinstance(one, errors.Refused) for one in problems) else Failed(said)


def _first(group: BaseExceptionGroup[RunLost]) -> RunLost:
    found = group.exceptions[0]
    return found if isinstance(found, RunLost) else _first(found)
