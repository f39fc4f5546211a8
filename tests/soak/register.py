"""Decide whether what clients saw of one filename can be explained by changes that happened one at a time.

A filename is a register: uploads write it, withdrawals clear it, pages read it. Each act takes effect at one instant
between its begin and its end (linearizability). One that got no good answer may have taken effect at any later time,
or never; but what is late respects the order of the ledger: a 503 ends an upload's work, so its serial is smaller than
that of every upload that begins later, and a withdrawal ends only what it found.

All explanations are followed at once (Lowe's just-in-time search): a configuration is what the register holds and
which acts are still open. An act takes effect only when one that ends needs it.
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


class _Open(NamedTuple):
    """The acts that have begun and not yet taken effect."""

    writes: frozenset[Step]
    reads: frozenset[Step]
    unknown: frozenset[Step]

    def without(self, step: Step) -> "_Open":
        return _Open(self.writes - {step}, self.reads - {step}, self.unknown - {step})


_Held = Step | None  # the write that the register holds the value of
_Configurations = dict[_Held, set[_Open]]


def first_unexplained(steps: Iterable[Step]) -> Step | None:
    """Return the first act, by its end, after which no explanation is left; None where all can be explained."""
    configurations: _Configurations = {None: {_Open(frozenset(), frozenset(), frozenset())}}
    for step, begins in _events(steps):
        if begins:
            configurations = _begun(configurations, step)
        elif step.known:
            configurations = _pruned(_with_effect(configurations, step))
            if not configurations:
                return step
    return None


def _events(steps: Iterable[Step]) -> Iterator[tuple[Step, bool]]:
    """Order begins and ends by time; at one instant the begins come first, which forgives more."""
    events = [(step.began_s, 0, step.number, step, True) for step in steps]
    events += [(step.ended_s, 1, step.number, step, False) for _, _, _, step, _ in events]
    for _, _, _, step, begins in sorted(events, key=lambda event: event[:3]):
        yield step, begins


def _begun(configurations: _Configurations, step: Step) -> _Configurations:
    begun: _Configurations = {}
    for held, openings in configurations.items():
        for opened in openings:
            if step.kind == "read":
                now = opened if _fits(step, held) else opened._replace(reads=opened.reads | {step})
            elif step.known:
                now = opened._replace(writes=opened.writes | {step})
            else:
                now = opened._replace(unknown=opened.unknown | {step})
            begun.setdefault(held, set()).add(now)
    return begun


def _with_effect(configurations: _Configurations, step: Step) -> _Configurations:
    """Keep the configurations in which the act has taken effect, or can do so now after some of the open ones."""
    done: _Configurations = {}
    for held, openings in configurations.items():
        for opened in openings:
            if step not in opened.writes and step not in opened.reads:
                done.setdefault(held, set()).add(opened)
                continue
            for reached, left in _reachable(held, opened, step):
                done.setdefault(reached, set()).add(left)
    return done


def _reachable(held: _Held, opened: _Open, goal: Step) -> Iterator[tuple[_Held, _Open]]:
    """Yield every configuration in which the goal takes effect last."""
    seen: _Configurations = {held: {opened}}
    waiting = [(held, opened)]
    while waiting:
        at, left = waiting.pop()
        for after, then in _changes(at, left):
            if goal not in then.writes and goal not in then.reads:
                yield after, then
            elif not any(_covers(other, then) for other in seen.setdefault(after, set())):
                seen[after].add(then)
                waiting.append((after, then))


def _changes(held: _Held, opened: _Open) -> Iterator[tuple[_Held, _Open]]:
    """Yield what one more change makes of a configuration; reads that fit then take effect with it."""
    for step in opened.writes | opened.unknown:
        if not step.known and held is not None and held.began_s >= step.ended_s:
            continue  # late: what it would replace or end has a greater serial, or was not there yet
        left = opened.without(step)
        if step.kind == "write" and held is not None and held.value == step.value:
            yield held, left  # the same bytes again: nothing changed
        after = step if step.kind == "write" else None
        yield after, left._replace(reads=frozenset(read for read in left.reads if not _fits(read, after)))


def _fits(read: Step, held: _Held) -> bool:
    if read.value == PRESENT:
        return held is not None
    return read.value == (None if held is None else held.value)


def _covers(one: _Open, other: _Open) -> bool:
    """Say whether whatever can follow from the other can follow from this one."""
    return one.writes == other.writes and one.reads <= other.reads and one.unknown >= other.unknown


def _pruned(configurations: _Configurations) -> _Configurations:
    pruned: _Configurations = {}
    for held, openings in configurations.items():
        kept: set[_Open] = set()
        for opened in sorted(openings, key=lambda one: (len(one.reads), -len(one.unknown))):
            if not any(_covers(other, opened) for other in kept):
                kept.add(opened)
        pruned[held] = kept
    return pruned
