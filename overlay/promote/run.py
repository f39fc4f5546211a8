"""The whole promotion, run in the CI job.

    plan       the overlay checks, freezes and says what is to do; its refusals end it here, and so does a plan that is
               not exactly what was pledged (`plan_check`)
    settle     what an earlier run may have pushed is looked for until it is live, or believed absent; what upstream
               accepted is never pushed again, only waited for
    prepare    a credential that fits, and upstream can be reached; every file fetched and proven, its form made: all of
               them before any push
    push       wave after wave (`pushing`)
    verify     until upstream shows every name with its digest

What fails before the first push ends with REFUSED and leaves nothing behind; what fails later ends with FAILED, and the
same command takes it up again. Whatever happens, the lease is let go at the end; a run that is cancelled ends so, too,
with its result. One that is cancelled before it has its plan has none, and takes back what the plan froze.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from overlay.caching.threads import in_thread, uninterrupted
from overlay.domain.names import UploadId
from overlay.domain.promotion import FileState
from overlay.domain.wire_promotions import PlanView, PromotedFileView, PromotionOrder, PromotionView
from overlay.promote import form, hosts
from overlay.promote.course import Course, Options
from overlay.promote.errors import (
    Ending,
    Failed,
    PlanRefused,
    PromoteError,
    Refused,
    RunElsewhere,
    RunLost,
    ServerAnswered,
)
from overlay.promote.fetch import fetch
from overlay.promote.lease import Lease, patiently, while_leased
from overlay.promote.plan_check import require_pledged
from overlay.promote.push import Package
from overlay.promote.pushing import Pushing
from overlay.promote.result import Result, Standings, live_files
from overlay.promote.tools import Credential, Tools

_PLAN_PATIENCE_S: Final = 30.0
# A dead run's lease lapses by itself; a living one renews it within a third of the lease, and is seen to.
_ELSEWHERE_PAUSE_S: Final = 2.0
_ELSEWHERE_PATIENCE_S: Final = 900.0
_PARTING_S: Final = 10.0
# GitHub's runner sends SIGTERM 7.5 s after SIGINT, and kills 2.5 s later.
_TAKEN_BACK_S: Final = 5.0


async def promote(order: PromotionOrder, options: Options, tools: Tools) -> Result:
    """Run a promotion to its end. Raises PromoteError only while there is no plan that is ours: nothing was pushed."""
    plan, sent_s = await _plan(order, tools)
    try:
        require_pledged(order, plan)
    except Refused:
        if plan.promotion is not None:
            await uninterrupted(_part(_course(plan, plan.promotion, sent_s, options, tools)))
        raise
    tools.progress.planned(plan)
    for warning in plan.warnings:
        tools.progress.warned(warning)
    if plan.promotion is None:
        return Result(ending=Ending.DONE, promotion=None, target="", files=live_files(plan), dry_run=options.dry_run)
    return await _run(_course(plan, plan.promotion, sent_s, options, tools))


def _course(plan: PlanView, promotion: PromotionView, sent_s: float, options: Options, tools: Tools) -> Course:
    return Course(
        plan=plan,
        promotion=promotion,
        lease=Lease(
            tools.server,
            tools.clock,
            promotion=promotion.id,
            fence=plan.fence,
            lease_s=plan.lease_s,
            sent_s=sent_s,
        ),
        standings=Standings(promotion),
        tools=tools,
        options=options,
    )


async def _plan(order: PromotionOrder, tools: Tools) -> tuple[PlanView, float]:
    """Plan, waiting for a dead run's lease to lapse; return the plan and when it was asked for, on the run's clock."""
    clock, seen = tools.clock, ""
    until_s = clock.passed_s() + _ELSEWHERE_PATIENCE_S
    while True:
        sent_s = clock.passed_s()
        asking = asyncio.ensure_future(patiently(lambda: tools.server.plan(order), clock, within_s=_PLAN_PATIENCE_S))
        try:
            return await asyncio.shield(asking), sent_s
        except asyncio.CancelledError:
            await uninterrupted(_take_back(asking, tools))
            raise
        except RunElsewhere as err:
            if seen not in {"", err.leased_until} or sent_s >= until_s:
                raise
            seen = err.leased_until
            tools.progress.waiting((), str(err))
        await clock.sleep(_ELSEWHERE_PAUSE_S)


async def _take_back(asking: asyncio.Future[PlanView], tools: Tools) -> None:
    """End what a plan that nobody wants any more has frozen.

    The overlay goes on with a plan whose asker is gone: so its answer is waited for, not cut off. To ask a second time
    would freeze a second time, perhaps after the end.
    """
    try:
        async with asyncio.timeout(_TAKEN_BACK_S):
            try:
                plan = await asking
            except (PlanRefused, RunElsewhere, ServerAnswered):
                return  # nothing was planned
            if plan.promotion is not None:
                await tools.server.end(plan.promotion.id, plan.fence)
    except (PromoteError, TimeoutError):
        tools.progress.warned(
            "The overlay did not say in time that nothing is planned any more: another run may have to wait until the "
            "lease of this one lapses."
        )


async def _run(course: Course) -> Result:
    problem: PromoteError | None = None
    try:
        await while_leased(course.lease, _work(course))
    except RunLost as err:
        problem = None if await _ended(course) else err
    except PromoteError as err:
        problem = err
    except asyncio.CancelledError:
        _stay()  # whoever stops a run wants to know how far it came
        problem = Failed("Stopped.")
    finally:
        if not course.standings.ended:
            await uninterrupted(_part(course))
    return _result(course, problem)


async def _work(course: Course) -> None:
    target = hosts.target(course.promotion.target)
    await _settle(course)
    if left := course.files(FileState.PLANNED, FileState.PUSHING):
        credential = await course.tools.find_credential(target, course.plan)
        async with course.tools.pushing(target) as push:
            packages = await _prepare(course, left, credential)
            if course.options.dry_run:
                return
            await Pushing(course=course, target=target, push=push, credential=credential).all(packages)
    if course.options.wait and not course.options.dry_run:
        await _verify(course)


async def _settle(course: Course) -> None:
    """Look for what an earlier run may have pushed until it is shown, or believed absent; it may be pushed again then.

    What upstream accepted is not: an index that takes its time would get it twice.
    """
    if doubtful := course.files(FileState.PUSHING):
        why = "an earlier run may have pushed this file"
        await course.shown_within(_uploads(doubtful), course.plan.absent_s, why)


async def _prepare(course: Course, files: Sequence[PromotedFileView], credential: Credential) -> list[Package]:
    """Fetch and prove every file, then make its form. Raises Refused."""
    tools = course.tools
    paths = [
        await fetch(file, tools.server, tools.folder, progress=tools.progress, clock=tools.clock) for file in files
    ]
    return [await _package(course, file, path, credential) for file, path in zip(files, paths, strict=True)]


async def _package(course: Course, file: PromotedFileView, path: Path, credential: Credential) -> Package:
    fields = await in_thread(form.build, file, path)
    attestations = await course.tools.attest(file, path, credential.identity, dry_run=course.options.dry_run)
    if attestations.words:
        course.standings.note_attestations(UploadId(file.upload_id), attestations.words)
        course.tools.progress.warned(f"{file.filename}: {attestations.words}")
    if attestations.text is not None:
        fields = (*fields, ("attestations", attestations.text))
    return Package(file=file, path=path, fields=fields)


async def _verify(course: Course) -> None:
    """Wait until upstream shows everything. Raises Failed after `timeout_s`, and for other bytes."""
    timeout_s = course.options.timeout_s
    uploads = _uploads(course.promotion.files)
    if not await course.shown_within(uploads, timeout_s, "upstream accepted it and does not show it yet"):
        missing = ", ".join(course.standings.not_live())
        raise Failed(
            f"Upstream accepted everything, but {timeout_s:.0f} s later its page does not show {missing}. The same "
            "command goes on waiting, and pushes none of it again. If upstream has dropped it, "
            f"`overlay promote --abandon {course.releases}` gives this promotion up; the next one pushes it."
        )


def _stay() -> None:
    """Take back that this task is cancelled."""
    if (task := asyncio.current_task()) is not None:
        task.uncancel()


async def _ended(course: Course) -> bool:
    """Say whether a lost run lost nothing: all was live, and the promotion was closed before the run heard of it."""
    with contextlib.suppress(PromoteError):
        await course.look(patience_s=0.0)
    return course.standings.ended


async def _part(course: Course) -> None:
    """Let the lease go."""
    try:
        async with asyncio.timeout(_PARTING_S):
            await course.tools.server.end(course.promotion.id, course.lease.fence)
    except (PromoteError, TimeoutError):
        course.tools.progress.warned(
            "The overlay could not be told that this run ended: another one has to wait until its lease lapses "
            f"({course.lease.lease_s:.0f} s)."
        )


def _result(course: Course, problem: PromoteError | None) -> Result:
    ending = Ending.DONE if problem is None else problem.ending
    return Result(
        ending=Ending.FAILED if problem is not None and course.standings.touched else ending,
        promotion=course.promotion.id,
        target=course.promotion.target,
        files=course.standings.files() + live_files(course.plan),
        problem="" if problem is None else str(problem),
        dry_run=course.options.dry_run,
        who=course.promotion.who,
        planned_at=course.promotion.planned_at,
        ignored=course.promotion.ignored,
        ended=course.standings.ended,
    )


def _uploads(files: Sequence[PromotedFileView]) -> frozenset[UploadId]:
    return frozenset(UploadId(file.upload_id) for file in files)
