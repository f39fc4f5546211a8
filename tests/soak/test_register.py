"""The checker explains what a register may do, and nothing else."""

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from tests.soak.register import PRESENT, Step, first_unexplained


def write(number: int, value: str, began_s: float, ended_s: float, *, known: bool = True) -> Step:
    return Step(number, "write", value, began_s, ended_s, known=known)


def add(number: int, value: str, began_s: float, ended_s: float, *, known: bool = True) -> Step:
    return Step(number, "write", value, began_s, ended_s, known=known, adds=True, settles=not known)


def clear(number: int, began_s: float, ended_s: float, *, known: bool = True) -> Step:
    return Step(number, "clear", None, began_s, ended_s, known=known)


def read(number: int, value: str | None, began_s: float, ended_s: float) -> Step:
    return Step(number, "read", value, began_s, ended_s)


def test_a_read_sees_what_was_written_before_it() -> None:
    """An old value is explained only while the write is under way."""
    assert first_unexplained([write(0, "a", 0, 1), read(1, "a", 2, 3)]) is None
    assert first_unexplained([write(0, "a", 0, 3), read(1, None, 1, 2)]) is None
    old = read(1, None, 2, 3)
    assert first_unexplained([write(0, "a", 0, 1), old]) == old


def test_reads_do_not_go_back() -> None:
    """Of two racing writes one is last; who saw it does not see the other one later."""
    race = [write(0, "a", 0, 2), write(1, "b", 0, 2)]
    assert first_unexplained([*race, read(2, "a", 3, 4), read(3, "a", 5, 6)]) is None
    back = read(3, "b", 5, 6)
    assert first_unexplained([*race, read(2, "a", 3, 4), back]) == back
    assert first_unexplained([*race, read(2, "a", 0.1, 0.2), read(3, "b", 5, 6)]) is None


def test_what_was_withdrawn_does_not_return() -> None:
    """Not by itself; only the same bytes uploaded again may be seen."""
    ended = [write(0, "a", 0, 1), clear(1, 2, 3)]
    returned = read(2, "a", 4, 5)
    assert first_unexplained([*ended, returned]) == returned
    assert first_unexplained([*ended, write(3, "a", 3.5, 3.6), returned]) is None


def test_an_unknown_outcome_may_show_late_or_never() -> None:
    """But once, and not again after it was replaced."""
    lost = write(0, "a", 0, 1, known=False)
    assert first_unexplained([lost, read(1, None, 2, 3), read(2, None, 8, 9)]) is None
    assert first_unexplained([lost, read(1, None, 2, 3), read(2, "a", 8, 9)]) is None
    gone = read(3, None, 10, 11)
    assert first_unexplained([lost, read(2, "a", 8, 9), gone]) == gone


def test_what_is_late_replaces_nothing_that_began_after_its_end() -> None:
    """Its serial is the smaller one; a withdrawal with no answer, too, ends only what it found."""
    late = write(0, "a", 0, 1, known=False)
    overtaken = read(2, "a", 4, 5)
    assert first_unexplained([late, write(1, "b", 2, 3), overtaken]) == overtaken
    assert first_unexplained([write(0, "a", 0, 4, known=False), write(1, "b", 2, 3), overtaken]) is None
    missing = read(2, None, 4, 5)
    assert first_unexplained([clear(0, 0, 1, known=False), write(1, "b", 2, 3), missing]) == missing
    assert first_unexplained([clear(0, 0, 4, known=False), write(1, "b", 2, 3), missing]) is None


def test_the_same_bytes_again_change_nothing() -> None:
    """So a repeat does not keep an earlier upload with no answer from being seen."""
    late = write(1, "b", 1, 2, known=False)
    again = write(2, "a", 3, 4)
    assert first_unexplained([write(0, "a", 0, 1), late, again, read(3, "b", 5, 6)]) is None


def test_a_listed_name_has_something() -> None:
    """Whatever it is."""
    assert first_unexplained([write(0, "a", 0, 1), read(1, PRESENT, 2, 3)]) is None
    absent = read(1, PRESENT, 2, 3)
    assert first_unexplained([write(0, "a", 0, 1), clear(2, 1.2, 1.8), absent]) == absent


def test_what_may_only_add_takes_the_name_from_nobody() -> None:
    """It waits for a withdrawal, is refused where something is there, and may come again."""
    held = write(0, "a", 0, 1)
    taken = read(2, "b", 4, 5)
    assert first_unexplained([held, add(1, "b", 2, 3), taken]) is not None
    assert first_unexplained([held, clear(3, 1.5, 2.5), add(1, "b", 2, 3), taken]) is None
    assert first_unexplained([add(0, "a", 0, 1), add(1, "a", 2, 3), read(2, "a", 4, 5)]) is None
    refused = read(1, PRESENT, 2, 3)
    assert first_unexplained([held, refused]) is None
    assert first_unexplained([held, clear(3, 1.2, 1.4), refused]) == refused


def test_what_was_refused_does_not_lie_in_wait() -> None:
    """Nobody knows whether it was; a withdrawal that began later has settled it, one that began before may not have."""
    held, lost, returned = write(0, "a", 0, 1), add(1, "b", 2, 3, known=False), read(3, "b", 8, 9)
    assert first_unexplained([held, lost, clear(2, 4, 5), returned]) == returned
    assert first_unexplained([held, lost, clear(2, 2.5, 5), returned]) is None
    assert first_unexplained([held, lost, clear(2, 4, 5, known=False), returned]) is None
    assert first_unexplained([lost, read(2, None, 4, 5), returned]) is None


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_whatever_a_register_really_did_is_explained(seed: int, count: int) -> None:
    """Acts of many clients, each done at one instant of its own, or never where nobody was told."""
    steps = _simulated(random.Random(seed), count)
    assert first_unexplained(steps) is None


@given(st.integers(0, 1_000_000), st.integers(1, 7))
def test_the_quick_answer_is_that_of_trying_everything(seed: int, count: int) -> None:
    """For few acts all orders can be tried; here reads and writes are drawn without a register behind them."""
    dice = random.Random(seed)
    steps = [_drawn(dice, number) for number in range(count)]
    assert (first_unexplained(steps) is None) == _possible(None, frozenset(steps))


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_a_value_that_nobody_wrote_is_never_explained(seed: int, count: int) -> None:
    """Wherever it is read."""
    dice = random.Random(seed)
    steps = _simulated(dice, count)
    at_s = dice.uniform(0, 100)
    assert first_unexplained([*steps, read(count, "nobody's", at_s, at_s + 1)]) is not None


def _simulated(dice: random.Random, count: int) -> list[Step]:
    """Let a true register do acts at random instants; some answers are lost, some of these acts never done."""
    acts = sorted((dice.uniform(0, 100), number) for number in range(count))
    held: str | None = None
    steps = []
    late: list[Step] = []
    for at_s, number in acts:
        began_s, ended_s = at_s - dice.expovariate(0.3), at_s + dice.expovariate(0.3)
        if late and held is None and dice.random() < 0.2:
            held = late.pop().value
        match dice.choice(("write", "clear", "read", "read", "lost", "add", "lost add")):
            case "write":
                held = f"{dice.randrange(5)}"
                steps.append(write(number, held, began_s, ended_s))
            case "clear":
                held = None
                steps.append(clear(number, began_s, ended_s))
                late = [one for one in late if one.ended_s >= began_s]
            case "read":
                steps.append(read(number, held, began_s, ended_s))
            case "add" if held is None:
                held = f"added {number}"
                steps.append(add(number, held, began_s, ended_s))
            case "add":
                steps.append(read(number, PRESENT, began_s, ended_s))
            case "lost add":
                steps.append(add(number, f"added {number}", began_s, ended_s, known=False))
                late.append(steps[-1])
            case _:
                value = f"lost {number}"
                if dice.random() < 0.5:
                    held = value
                steps.append(write(number, value, began_s, math.inf, known=False))
    return steps


def _drawn(dice: random.Random, number: int) -> Step:
    began_s = dice.uniform(0, 10)
    ended_s = began_s + dice.uniform(0, 5)
    match dice.choice(("write", "write", "clear", "read", "read", "lost", "lost clear")):
        case "write":
            return write(number, f"{dice.randrange(3)}", began_s, ended_s)
        case "clear":
            return clear(number, began_s, ended_s)
        case "read":
            return read(number, dice.choice((None, "0", "1", "2", PRESENT)), began_s, ended_s)
        case "lost":
            return write(number, f"{dice.randrange(3)}", began_s, math.inf, known=False)
        case _:
            return clear(number, began_s, math.inf, known=False)


def _possible(held: str | None, left: frozenset[Step]) -> bool:
    """Try every act that no other one must precede; what is not known may be left out."""
    if not any(step.known for step in left):
        return True
    first_end_s = min(step.ended_s for step in left)
    for step in left:
        if step.began_s > first_end_s:
            continue
        if step.kind == "read" and step.value != held and (step.value != PRESENT or held is None):
            continue
        after = held if step.kind == "read" else step.value
        if _possible(after, left - {step}):
            return True
    return False
