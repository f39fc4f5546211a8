"""Push what is to be pushed: wave after wave, a journal entry before every POST, a look before every repetition.

Once one file of a wave has failed, no other one is begun; what is on its way is let finish, for a cut leaves a file of
which nobody knows whether it is out. Only a lost lease cuts: then another run may look, and push, at this moment.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, assert_never

from overlay.domain.names import UploadId
from overlay.domain.promotion import FileState
from overlay.promote.answers import Accepted, Answer, NotSent, Refused, Taken, Unknown
from overlay.promote.course import Course
from overlay.promote.errors import Failed, FileFailed, PromoteError, RunLost
from overlay.promote.hosts import Target
from overlay.promote.push import Package, Push
from overlay.promote.tools import Credential

_FIRST_PAUSE_S: Final = 2.0
_FORBIDDEN: Final = 403


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
        """Push one file until upstream has it. Raises FileFailed, and what the credential or the overlay says."""
        options, said = self.course.options, ""
        for attempt in range(options.most_attempts):
            answer = await self._attempt(package)
            if await self._settled(package, answer):
                return
            said = answer.said
            if self.problems:
                break
            if isinstance(answer, NotSent) and attempt + 1 < options.most_attempts:
                await self._pause(package, _FIRST_PAUSE_S * 2**attempt, said)
        raise FileFailed(
            package.file.filename,
            f"{package.file.filename} did not get through to {self.target.host}: {said or 'there was no answer'}",
        )

    async def _attempt(self, package: Package) -> Answer:
        """Send the file once. The journal says so before the first byte goes out."""
        course, progress, filename = self.course, self.course.tools.progress, package.file.filename
        authorization = await self.credential.authorization()
        await course.journal(package.file, FileState.PUSHING)
        course.lease.require()
        return await self.push(package, authorization, lambda done_bytes: progress.pushing(filename, done_bytes))

    async def _settled(self, package: Package, answer: Answer) -> bool:
        """Act on an answer; False: upstream does not have the file, and it may be sent again. Raises FileFailed."""
        course, file = self.course, package.file
        match answer:
            case Accepted(status, said):
                course.tools.progress.pushed(file.filename)
                await course.journal(file, FileState.PUSHED, status, said)
                return True
            case Refused(status, said):
                await course.journal(file, FileState.PUSHING, status, said)
                raise self._refused(package, status, said)
            case Taken(status, said):
                await course.journal(file, FileState.PUSHING, status, said)
                if await self._shown(package, course.plan.absent_s, "upstream says that it has this file"):
                    return True
                raise self._refused(package, status, said)
            case Unknown(status, said, retry_after_s):
                await course.journal(file, FileState.PUSHING, status, said)
                # Nobody waits longer for a refusal than for a success.
                within_s = max(float(course.plan.absent_s), min(retry_after_s, course.options.timeout_s))
                return await self._shown(package, within_s, said or "upstream may or may not have this file")
            case NotSent():
                return False
            case _:
                assert_never(answer)

    async def _shown(self, package: Package, within_s: float, why: str) -> bool:
        return await self.course.shown_within({UploadId(package.file.upload_id)}, within_s, why)

    async def _pause(self, package: Package, pause_s: float, why: str) -> None:
        self.course.tools.progress.waiting([package.file.filename], why)
        await self.course.tools.clock.sleep(pause_s)

    def _refused(self, package: Package, status: int, said: str) -> FileFailed:
        filename = package.file.filename
        words = said or f"it answered {status}"
        sentence = f"{self.target.host} refused {filename}: {words}"
        return FileFailed(filename, f"{sentence}\n{self._advice()}" if status == _FORBIDDEN else sentence)

    def _advice(self) -> str:
        identity = self.credential.identity
        if identity is None:
            return f"It was sent with {self.credential.words}: look whether that may upload to this project."
        return (
            "It was sent by Trusted Publishing: the project's publishing settings must name this job's publisher "
            f"({identity})."
        )


def _joined(problems: Sequence[PromoteError]) -> PromoteError:
    return problems[0] if len(problems) == 1 else Failed("\n".join(str(problem) for problem in problems))


def _first(group: BaseExceptionGroup[RunLost]) -> RunLost:
    found = group.exceptions[0]
    return found if isinstance(found, RunLost) else _first(found)
