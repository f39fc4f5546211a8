"""What readers and writers may be answered, when (design §8), and what the answers of all of them say together."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.soak.history import NO_ANSWER, Act, History, Shown
from tests.soak.register import PRESENT, Step, first_unexplained
from tests.soak.scenario import Project

GONE_LIMIT_S: Final = 1.0
"""Design §8: while Redis is gone a page is a 503 within 1 s."""
SLACK_S: Final = 5.0
"""What one answer may take longer on a machine that has other things to do; half of them must be near the limit."""
MEDIAN_SLACK_S: Final = 1.0
UNEXPLAINED_SHARE: Final = 0.003
"""Of all acts may be a 503 for no fault: a worker that got no processor for 0.7 s gives Redis up."""

_GOOD: Final = {
    "page": {200, 304, 404, 503},
    "list": {200, 503},
    "file": {200, 404, 503},
    "upload": {200, 503},
    "add": {200, 400, 503},
    "withdraw": {200, 404, 503},
}
_NEEDS: Final = {
    "page": {"redis"},
    "list": {"redis"},
    "file": {"redis", "s3"},
    "upload": {"redis", "s3"},
    "add": {"redis", "s3"},
    "withdraw": {"redis", "s3"},
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A promise that was broken, and the acts that show it."""

    sentence: str
    acts: tuple[Act, ...]


def problems(history: History, projects: Sequence[Project]) -> Iterator[Problem]:
    """Yield everything that is wrong in a history of these projects."""
    yield from _answers(history, {project.name for project in projects if project.live is not None})
    yield from _times(history)
    yield from _uploads(history)
    for filename, steps in _registers(history, projects).items():
        step = first_unexplained(steps)
        if step is not None:
            yield Problem(
                f"{filename}: no order of all that happened explains {_said(step)}", (history.acts[step.number],)
            )


def _answers(history: History, live: set[str]) -> Iterator[Problem]:
    """Each answer by itself: right on its face, and of a status that the faults of its time excuse."""
    for act in history.acts:
        sentence = act.wrong or _unfit(history, act, live)
        if sentence:
            yield Problem(sentence, (act,))
    refused = [
        act for act in history.acts if act.status == 503 and not _excused(history, act, _NEEDS[act.kind] | {act.host})
    ]
    if len(refused) > max(3, UNEXPLAINED_SHARE * len(history.acts)):
        yield Problem(f"{len(refused)} answers of 503 though nothing was down", tuple(refused))
    for fault in history.faults:
        if math.isinf(fault.well_s):
            yield Problem(f"not all was well again after: {fault.kind} at {fault.began_s:.2f} s", ())


def _unfit(history: History, act: Act, live: set[str]) -> str:
    """Say why the status is none that this act may get; "" where it is."""
    if act.status == NO_ANSWER:
        parts = {act.host, "s3"} if act.kind == "file" else {act.host}  # the store may break off within a file
        return "" if _excused(history, act, parts) else "no whole answer, though nothing happened to the host"
    if act.status not in _GOOD[act.kind]:
        return f"{act.status} is no answer to this"
    if act.kind == "list" and act.word == "live" and act.status != 200:
        return "upstream's list of projects needs nothing but upstream"
    if act.kind == "page" and act.status == 404 and act.project in live and act.word != "staged":
        return "a project that upstream has is not found"
    return ""


def _excused(history: History, act: Act, parts: set[str]) -> bool:
    return any(
        fault.began_s <= act.ended_s and act.began_s <= fault.well_s and parts & set(fault.hits)
        for fault in history.faults
    )


def _times(history: History) -> Iterator[Problem]:
    """While Redis is gone readers hear so soon, and see nothing; while only S3 is gone pages go on."""
    refused = []
    for act in history.acts:
        if act.kind not in {"page", "file"} or act.status == NO_ANSWER:
            continue
        down = _down(history, act)
        if _excused(history, act, {act.host}):
            continue
        if "redis" in down and act.status != 503:
            yield Problem("an answer while nobody could know what is staged", (act,))
        elif "redis" in down:
            refused.append(act)
        elif "s3" in down and act.kind == "file" and act.status == 200:
            yield Problem("a file that nobody could read", (act,))
    late = [act for act in refused if act.took_s > GONE_LIMIT_S + SLACK_S]
    if late:
        yield Problem("a 503 that came too late", tuple(late))
    if refused and median(act.took_s for act in refused) > GONE_LIMIT_S + MEDIAN_SLACK_S:
        yield Problem("while Redis was gone the answers came too late", tuple(refused))


def _down(history: History, act: Act) -> set[str]:
    """Say what was down all the while."""
    return {
        name
        for fault in history.faults
        for name, (from_s, to_s) in fault.down.items()
        if from_s <= act.began_s and act.ended_s <= to_s
    }


def _uploads(history: History) -> Iterator[Problem]:
    """An upload id that was replaced or withdrawn is never shown again, and a file denied is never served again."""
    pages: Mapping[str, list[tuple[Act, Shown | None]]] = _shown(history)
    files: dict[str, list[Act]] = defaultdict(list)
    for act in history.acts:
        if act.kind == "file":
            files[act.upload].append(act)
    ended = {upload: act for act in history.acts for upload in act.ended if act.status == 200}
    for filename, seen in pages.items():
        for upload in {shown.upload for _, shown in seen if shown is not None}:
            yield from _one_upload(history, filename, upload, seen, files[upload], ended.get(upload))


def _one_upload(
    history: History,
    filename: str,
    upload: str,
    seen: list[tuple[Act, Shown | None]],
    files: list[Act],
    withdrawn: Act | None,
) -> Iterator[Problem]:
    showing = [act for act, shown in seen if shown is not None and shown.upload == upload]
    first = min(showing, key=lambda act: act.ended_s)
    last = max(showing, key=lambda act: act.began_s)
    for act, shown in seen:
        other = shown is None or shown.upload != upload
        if other and act.began_s > first.ended_s and act.ended_s < last.began_s:
            yield Problem(f"{filename}: {upload} was shown, then was not, then was again", (first, act, last))
            break
    denials = [act for act in files if act.status == 404] + ([withdrawn] if withdrawn is not None else [])
    if not denials:
        return
    denied = min(denials, key=lambda act: act.ended_s)
    again = [act for act in (*showing, *(one for one in files if one.status == 200)) if act.began_s > denied.ended_s]
    if again:
        yield Problem(f"{filename}: {upload} ended and came back", (denied, again[0]))
    if denied.kind == "file" and not any(
        act.kind == "withdraw" and act.filename == filename and act.status != 404 and act.began_s < denied.ended_s
        for act in history.acts
    ):
        yield Problem(f"{filename}: {upload} is not found, though nobody withdrew it", (denied,))


def _shown(history: History) -> dict[str, list[tuple[Act, Shown | None]]]:
    found: dict[str, list[tuple[Act, Shown | None]]] = defaultdict(list)
    for act in history.acts:
        for filename, shown in act.shown.items():
            found[filename].append((act, shown))
    return found


def _registers(history: History, projects: Sequence[Project]) -> Mapping[str, list[Step]]:
    """Read the history as writes, clears and reads of each filename."""
    registers: dict[str, list[Step]] = defaultdict(list)
    names = {project.name: project.filenames for project in projects}
    for act in history.acts:
        for filename, step in _steps(history, act, names):
            registers[filename].append(step)
    return registers


def _steps(history: History, act: Act, names: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Step]]:
    times = act.began_s, act.ended_s
    if act.kind == "upload":
        passed_over = _met_by_an_addition(history, act)
        known = act.status == 200
        yield act.filename, Step(act.number, "write", act.sha256, *times, known=known, passed_over=passed_over)
    elif act.kind == "add" and act.status == 400:
        yield act.filename, Step(act.number, "read", PRESENT, *times)
    elif act.kind == "add":
        # A store that was away may have done later what it was asked for; so may a server that gave no answer.
        settles = act.status == 503 and not _excused(history, act, {"s3"})
        known = act.status == 200
        yield act.filename, Step(act.number, "write", act.sha256, *times, known=known, adds=True, settles=settles)
    elif act.kind == "withdraw" and act.status == 404:  # nothing was staged
        yield act.filename, Step(act.number, "read", None, *times)
    elif act.kind == "withdraw":
        yield act.filename, Step(act.number, "clear", None, *times, known=act.status == 200)
    for filename, shown in act.shown.items():
        yield filename, Step(act.number, "read", None if shown is None else shown.sha256, *times)
    for project, listed in act.names.items():
        if not listed:
            yield from ((name, Step(act.number, "read", None, *times)) for name in names[project])
        elif len(names[project]) == 1:  # of two names nobody knows which one it is
            yield names[project][0], Step(act.number, "read", PRESENT, *times)


def _met_by_an_addition(history: History, upload: Act) -> bool:
    """Say whether an upload that was told of its successor may have been shown at no time.

    Both were admitted while the name was free, the one of an add-only token later; and that one was staged first, as
    new. It took the name from nobody: the other one had no answer yet.
    """
    return upload.word == "superseded" and any(
        act.kind == "add"
        and act.status == 200
        and act.filename == upload.filename
        # In each other's time.
        and act.began_s < upload.ended_s
        and upload.began_s < act.ended_s
        for act in history.acts
    )


def _said(step: Step) -> str:
    match step.kind:
        case "read":
            return f"that {step.value or 'nothing'} was shown"
        case "write":
            return f"that {step.value} was staged"
        case "clear":
            return "that it was withdrawn"
