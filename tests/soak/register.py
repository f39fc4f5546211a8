"""Decide whether what clients saw of one filename can be explained by changes that happened one at a time.

A filename is a register: uploads write it, withdrawals clear it, pages read it. Each act takes effect at one instant
between its begin and its end (linearizability). One that got no good answer may have taken effect at any later time,
or never; but what is late respects the order of the ledger: a 503 ends an upload's work, so its serial is smaller than
that of every upload that begins later, and a withdrawal ends only what it found.

An upload by a token that may only add takes the name from no other bytes: it takes effect only while the name is free.
Where it was refused, something else was there. And a withdrawal settles first what was left before it began, so a late
one of these takes effect before it, or never: it may not lie in wait for the name to be free.

All explanations are followed at once, through the begins and ends of all acts in order of time. A change happens only
when a read needs it or when its act ends, never sooner than it must. What was still open when the last change happened
may, later on, be taken to have happened just before that one: there it needs no instant of its own. So few states are
left, where trying all orders of concurrent acts would make thousands.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

PRESENT: Final = "anything"
"""Read from a list of projects: something is there."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one act did to the register: wrote `value` (a digest), cleared it, or read `value` (None: nothing)."""

    number: int
    kind: Literal["write", "clear", "read"]
    value: str | None
    began_s: float
    ended_s: float
    known: bool = True
    """Whether its answer says that it was done. A read is always known."""
    adds: bool = False
    """Of a write: whether it takes the name from no other bytes."""
    passed_over: bool = False
    """Of a write: whether its answer says that another one took its place, so that it may have happened at no time."""
    settles: bool = False
    """Of a write that is not known: whether a withdrawal that began after its end has found all that it left."""


class _State(NamedTuple):
    """One way it may be: what the register holds and since which event, and what has begun and not happened yet."""

    held: Step | None
    since: int
    changes: frozenset[Step]
    """Known ones: they will have happened when they end."""
    reads: frozenset[Step]
    maybe: frozenset[Step]
    """Changes of which nobody knows whether they ever happen."""

    def without(self, step: Step) -> "_State":
        """Leave out a step that happens, and what a withdrawal settles; reads may have seen that just before."""
        withdrawn = step.kind == "clear" and step.known
        settled = {one for one in self.maybe if withdrawn and one.settles and one.ended_s < step.began_s}
        reads = frozenset(read for read in self.reads if not any(_fits(read, one) for one in settled))
        return self._replace(changes=self.changes - {step}, reads=reads - {step}, maybe=self.maybe - {step} - settled)


def first_unexplained(steps: Iterable[Step]) -> Step | None:
    """Return the first act, by its end, after which no explanation is left; None where all can be explained."""
    states = {_State(None, -1, frozenset(), frozenset(), frozenset())}
    began: dict[Step, int] = {}
    for now, (step, begins) in enumerate(_events(steps)):
        if begins:
            began[step] = now
            states = {_opened(state, step) for state in states}
        elif step.known:
            states = _pruned({after for state in states for after in _ended(state, step, now, began)}, began)
            if not states:
                return step
    return None


def _events(steps: Iterable[Step]) -> Iterator[tuple[Step, bool]]:
    """Order begins and ends by time; at one instant the begins come first, which forgives more."""
    events = [(step.began_s, 0, step.number, step, True) for step in steps]
    events += [(step.ended_s, 1, step.number, step, False) for _, _, _, step, _ in events]
    for _, _, _, step, begins in sorted(events, key=lambda event: event[:3]):
        yield step, begins


def _opened(state: _State, step: Step) -> _State:
    if step.kind == "read":
        return state if _fits(step, state.held) else state._replace(reads=state.reads | {step})
    if step.known:
        return state._replace(changes=state.changes | {step})
    return state._replace(maybe=state.maybe | {step})


def _ended(state: _State, step: Step, now: int, began: dict[Step, int]) -> Iterator[_State]:
    """Yield every state in which the act has happened by now."""
    if step in state.changes:
        if step.passed_over:
            yield state.without(step)
        if began[step] < state.since:
            yield _passed(state, step, began)
        yield from _changed(state, step, now)
    elif step in state.reads:
        for change in state.changes | state.maybe:
            if not _fits(step, _outcome(change)):
                continue
            if max(began[step], began[change]) < state.since:
                yield _passed(state, change, began)
            yield from _changed(state, change, now)
    else:
        yield state


def _passed(state: _State, change: Step, began: dict[Step, int]) -> _State:
    """Let a change happen, and be read, just before the last one. Whether the name was free then nobody knows here."""
    left = state.without(change)
    reads = {read for read in left.reads if began[read] < state.since and _fits(read, _outcome(change))}
    return left._replace(reads=left.reads - reads)


def _changed(state: _State, change: Step, now: int) -> Iterator[_State]:
    """Yield the states after a change that happens now, if need be after another one that makes way for it."""
    if _may_follow(change, state.held):
        yield from _after(state, change, now)
        return
    for other in state.changes | state.maybe:
        if other != change and _may_follow(other, state.held) and _may_follow(change, _outcome(other)):
            for between in _after(state, other, now):
                yield from _after(between, change, now)


def _after(state: _State, change: Step, now: int) -> Iterator[_State]:
    left = state.without(change)
    if state.held is not None and state.held.value == _value(change):
        yield left  # the same bytes again: nothing changed
    held = _outcome(change)
    yield left._replace(held=held, since=now, reads=frozenset(read for read in left.reads if not _fits(read, held)))


def _may_follow(change: Step, held: Step | None) -> bool:
    """Say whether the change may end what is held: what is late ends nothing that began after its answer."""
    if held is None:
        return True
    if change.adds and held.value != change.value:
        return False
    return change.known or held.began_s < change.ended_s


def _outcome(change: Step) -> Step | None:
    return change if change.kind == "write" else None


def _value(change: Step) -> str | None:
    return change.value if change.kind == "write" else None


def _fits(read: Step, held: Step | None) -> bool:
    if read.value == PRESENT:
        return held is not None
    return read.value == (None if held is None else held.value)


def _pruned(states: set[_State], began: dict[Step, int]) -> set[_State]:
    """Leave out states from which nothing can follow that cannot follow from another one."""
    by_held: dict[Step | None, list[_State]] = {}
    for state in sorted(states, key=lambda one: (-one.since, len(one.reads), -len(one.maybe), -len(one.changes))):
        kept = by_held.setdefault(state.held, [])
        if not any(_covers(other, state, began) for other in kept):
            kept.append(state)
    return {state for kept in by_held.values() for state in kept}


def _covers(one: _State, other: _State, began: dict[Step, int]) -> bool:
    return (
        one.since >= other.since
        and one.reads <= other.reads
        and one.maybe >= other.maybe
        and one.changes >= other.changes
        and all(began[change] < one.since for change in one.changes - other.changes)
    )
