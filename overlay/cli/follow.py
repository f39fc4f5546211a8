"""`overlay events`: the recent feed, once or again and again.

The feed's numbers count within one epoch, one life of the ledger. What was asked with a number of an old epoch is
answered with too little: on a new epoch everything is asked for again.
"""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from overlay.cli.client import Call, Connection, Server, Unreachable, run, server
from overlay.cli.manage import print_json
from overlay.cli.outcome import DONE
from overlay.cli.tables import printable, table
from overlay.domain.quantities import minute_words
from overlay.domain.wire import EventFeedView, EventView

_POLL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """How far the feed was read: the number of the last event in this epoch."""

    epoch: str
    number: int


NOTHING_SEEN: Final = Seen("", 0)


@dataclass(frozen=True, slots=True)
class Step:
    """What one answer of the feed brought."""

    seen: Seen
    events: tuple[EventView, ...]
    notice: str
    """What was missed, "" for nothing."""
    again: bool
    """Whether to ask again at once."""


def advance(seen: Seen, feed: EventFeedView) -> Step:
    """Take in the answer to a question for what came after `seen`."""
    if feed.epoch != seen.epoch and seen is not NOTHING_SEEN:
        notice = "The server began a new feed: events count from 1 again, and some in between may be missing."
        return Step(Seen(feed.epoch, 0), (), notice, again=True)
    notice = ""
    if feed.cut_before > seen.number + 1:
        notice = f"Events before number {feed.cut_before} were cut."
    number = feed.events[-1].number if feed.events else max(seen.number, feed.cut_before - 1)
    return Step(Seen(feed.epoch, number), feed.events, notice, again=False)


async def follow(
    ask: Callable[[int], Awaitable[EventFeedView]],
    pause: Callable[[], Awaitable[None]],
    say: Callable[[Sequence[EventView]], None],
    warn: Callable[[str], None],
) -> None:
    """Ask for events for ever; a server that is away is waited for. Raises what `ask` raises beyond Unreachable."""
    seen, away = NOTHING_SEEN, False
    while True:
        try:
            step = advance(seen, await ask(seen.number))
        except Unreachable as err:
            if not away:
                warn(f"{err} Trying on.")
            away = True
            await pause()
            continue
        if away:
            warn("The server answers again.")
        seen, away = step.seen, False
        if step.notice:
            warn(step.notice)
        say(step.events)
        if not step.again:
            await pause()


def events(arguments: argparse.Namespace) -> int:
    """Print the recent events; with --follow go on until Ctrl-C."""
    at = server(arguments.url, os.environ)
    if arguments.follow:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_follow(at, _say_json if arguments.json else _say))
        return DONE
    feed = run(at, _question(0), EventFeedView)
    if arguments.json:
        print_json(feed)
    elif feed.events:
        print(table(("NUMBER", "TIME", "EVENT", "PROJECT", "VERSION", "FILE", "BY"), map(_cells, feed.events)), end="")
    else:
        print("Nothing has happened since the ledger was loaded.")
    return DONE


async def _follow(at: Server, say: Callable[[Sequence[EventView]], None]) -> None:
    async with Connection(at) as connection:

        async def ask(after: int) -> EventFeedView:
            return await connection.call(_question(after), EventFeedView)

        async def pause() -> None:
            await asyncio.sleep(_POLL_S)

        await follow(ask, pause, say, _warn)


def _question(after: int) -> Call:
    return Call(method="GET", path="/events", query=[("after", str(after))])


def _say(happened: Sequence[EventView]) -> None:
    for event in happened:
        print("  ".join(printable(cell) for cell in _cells(event)), flush=True)


def _say_json(happened: Sequence[EventView]) -> None:
    for event in happened:
        print(msgspec.json.encode(event).decode(), flush=True)


def _warn(sentence: str) -> None:
    sys.stderr.write(f"overlay: {printable(sentence)}\n")


def _cells(event: EventView) -> tuple[str, ...]:
    return (
        str(event.number),
        minute_words(event.at),
        event.kind,
        event.project,
        event.version,
        event.filename,
        event.who,
    )
