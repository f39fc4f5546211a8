"""Following the feed: decided by pure steps, over gaps, restarts and servers that are away."""

import time
from collections.abc import Sequence

import pytest

from overlay.cli.client import Unreachable
from overlay.cli.follow import NOTHING_SEEN, Seen, advance, follow
from overlay.cli.outcome import FAILED
from overlay.domain.wire import EventFeedView, EventView
from tests.builders import wheel
from tests.cli.conftest import Command
from tests.running import Running
from tests.staged import GIVEN_UP, freeze_of


def event(number: int) -> EventView:
    return EventView(
        number=number,
        at="2026-01-31T08:15:00.000000Z",
        kind="staged",
        stage="main",
        project="demo",
        version="1.0",
        filename="demo-1.0.tar.gz",
        sha256="0" * 64,
        who="ada",
    )


def feed(epoch: str, *numbers: int, cut_before: int = 1) -> EventFeedView:
    return EventFeedView(epoch=epoch, cut_before=cut_before, events=tuple(event(number) for number in numbers))


def test_what_is_new_is_told_and_remembered() -> None:
    step = advance(NOTHING_SEEN, feed("a", 1, 2))
    assert (step.seen, [one.number for one in step.events], step.notice) == (Seen("a", 2), [1, 2], "")


def test_nothing_new_changes_nothing() -> None:
    step = advance(Seen("a", 2), feed("a"))
    assert (step.seen, step.events, step.notice, step.again) == (Seen("a", 2), (), "", False)


@pytest.mark.parametrize("seen", [Seen("a", 2), NOTHING_SEEN])
def test_a_gap_is_said(seen: Seen) -> None:
    step = advance(seen, feed("a", 7, cut_before=7))
    assert step.seen == Seen("a", 7)
    assert step.notice == "Events before number 7 were cut."


def test_a_new_epoch_asks_again_from_its_beginning() -> None:
    step = advance(Seen("a", 5), feed("b"))
    assert (step.seen, step.events, step.again) == (Seen("b", 0), (), True)
    assert "new feed" in step.notice
    assert advance(step.seen, feed("b", 1, 2)).seen == Seen("b", 2)


class Ended(Exception):
    """The script of a test is over."""


async def test_following_survives_a_restart_and_says_so_once() -> None:
    away = Unreachable("Gone.", FAILED)
    script: list[EventFeedView | Unreachable | Ended] = [
        feed("a", 1),
        away,
        away,
        feed("b"),
        feed("b", 1),
        Ended(),
    ]
    asked: list[int] = []
    told: list[int] = []
    warned: list[str] = []
    pauses: list[None] = []

    async def ask(after: int) -> EventFeedView:
        asked.append(after)
        answer = script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def pause() -> None:
        pauses.append(None)

    def say(happened: Sequence[EventView]) -> None:
        told.extend(one.number for one in happened)

    with pytest.raises(Ended):
        await follow(ask, pause, say, warned.append)
    assert asked == [0, 1, 1, 1, 0, 1]
    assert told == [1, 1]
    assert [sentence.split()[0] for sentence in warned] == ["Gone.", "The", "The"]
    assert len(pauses) == 4  # not between the new epoch and its first question


async def test_events_are_printed_once_without_follow(overlay: Running, command: Command) -> None:
    assert "Nothing has happened" in (await command("events")).out
    built = wheel("demo", "1.0")
    await overlay.upload(built)
    heads, row = (await command("events")).out.splitlines()
    assert heads.split()[:3] == ["NUMBER", "TIME", "EVENT"]
    assert "staged" in row
    assert built.filename in row


async def test_a_promotion_is_printed_with_its_release(overlay: Running, command: Command) -> None:
    """Its row names no file."""
    await overlay.upload(wheel("demo", "1.0"))
    ledger = overlay.wired.services.ledger
    now_us = time.time_ns() // 1000
    freeze = freeze_of(*(await ledger.index()).files, since_us=now_us, until_us=now_us + 60_000_000)
    await ledger.freeze(freeze)
    await ledger.thaw(freeze.promotion, GIVEN_UP)
    _, _, promoting, abandoned = (await command("events")).out.splitlines()
    assert promoting.split()[-4:] == ["promoting", "demo", "1.0", "ci"]
    assert abandoned.split()[-4:] == ["abandoned", "demo", "1.0", "bob"]
