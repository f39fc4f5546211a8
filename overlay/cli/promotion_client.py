"""The overlay as `overlay promote` uses it: its API in the words of `overlay.promote`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

import msgspec

from overlay.cli.client import Answered, Call, Connection, Unreachable
from overlay.cli.outcome import CommandFailed
from overlay.domain.wire import Problem
from overlay.domain.wire_promotions import (
    LOST,
    REFUSED,
    RUNNING,
    JournalOrder,
    LeaseView,
    LookView,
    PlanView,
    PromotedFileView,
    PromotionList,
    PromotionOrder,
    PromotionView,
    RefusedProblem,
    RunningProblem,
    RunOrder,
)
from overlay.promote.answers import decoded
from overlay.promote.errors import (
    Ending,
    PlanRefused,
    PromoteError,
    RunElsewhere,
    RunLost,
    ServerAnswered,
    ServerSilent,
)

Noun = TypeVar("Noun", bound=msgspec.Struct)


class PromotionClient:
    """Implements `overlay.promote.server.PromotionServer` over a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def plan(self, order: PromotionOrder) -> PlanView:
        """Plan, or take up what is under way."""
        return await self._call(Call(method="POST", path="/promotions", order=order), PlanView)

    async def renew(self, promotion: str, fence: int) -> LeaseView:
        """Renew the run's lease."""
        return await self._call(_run(promotion, "lease", fence), LeaseView)

    async def journal(self, promotion: str, upload: str, order: JournalOrder) -> None:
        """Write down how far a file came."""
        path = f"{_path(promotion)}/files/{quote(upload, safe='')}"
        await self._call(Call(method="PUT", path=path, order=order), PromotedFileView)

    async def look(self, promotion: str, fence: int) -> LookView:
        """Read upstream's pages now."""
        return await self._call(_run(promotion, "look", fence), LookView)

    async def end(self, promotion: str, fence: int) -> None:
        """Let the lease go."""
        try:
            await self._call(_run(promotion, "end", fence), PromotionView)
        except RunLost:
            return

    async def abandon(self, promotion: str) -> PromotionView:
        """Give the promotion up."""
        return await self._call(Call(method="DELETE", path=_path(promotion)), PromotionView)

    async def under_way(self, releases: Sequence[str], stage: str) -> PromotionList:
        """Return the promotions of these releases that are under way."""
        query = [("stage", stage), ("limit", "0"), *(("release", release) for release in releases)]
        return await self._call(Call(method="GET", path="/promotions", query=query), PromotionList)

    @asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream the staged bytes at a file's URL."""
        try:
            async with self._connection.stream(url) as pieces:
                yield pieces
        except Unreachable as err:
            raise ServerSilent(str(err)) from err
        except CommandFailed as err:
            raise ServerAnswered(str(err), Ending(err.code)) from err

    async def _call(self, call: Call, noun: type[Noun]) -> Noun:
        try:
            answered = await self._connection.ask(call)
        except Unreachable as err:
            raise ServerSilent(str(err)) from err
        if answered.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._error(answered)
        try:
            return msgspec.json.decode(answered.body, type=noun)
        except msgspec.DecodeError as err:
            raise ServerAnswered(
                "The overlay answered something that is not its API. Is OVERLAY_URL right?", Ending.FAILED
            ) from err

    def _error(self, answered: Answered) -> PromoteError:
        problem = decoded(answered.body, Problem)
        kind = "" if problem is None else problem.type
        if kind == REFUSED and (refused := decoded(answered.body, RefusedProblem)) is not None:
            return PlanRefused(refused.refusals)
        if kind == RUNNING and (running := decoded(answered.body, RunningProblem)) is not None:
            return RunElsewhere(running.detail, leased_until=running.leased_until)
        if kind == LOST and problem is not None:
            return RunLost(problem.detail)
        failure = self._connection.failure(answered)
        if isinstance(failure, Unreachable):
            return ServerSilent(str(failure))
        return ServerAnswered(str(failure), Ending(failure.code))


def _path(promotion: str) -> str:
    return f"/promotions/{quote(promotion, safe='')}"


def _run(promotion: str, what: str, fence: int) -> Call:
    return Call(method="POST", path=f"{_path(promotion)}/{what}", order=RunOrder(fence=fence))
