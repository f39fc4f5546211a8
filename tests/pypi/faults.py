"""What goes wrong at the scripted PyPI, when a test orders it: at a point of a request, once or often.

An upload passes ARRIVED, BODY, RECEIVED and STORED in this order. A fault is counted at its point: `first` and `times`
number the requests that come there and fit its subject, from the moment the fault was ordered. Faults that meet at one
point happen in the order in which they were ordered.
"""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

from aiohttp import web
from msgspec import Struct, field


class Point(StrEnum):
    """Where a fault happens."""

    ARRIVED = "arrived"
    """An upload's headers are there, nothing of its body was read: no file is known yet."""
    BODY = "body"
    """`after_bytes` of an upload's file were read (all of it, if it has fewer)."""
    RECEIVED = "received"
    """All of an upload was read, nothing was checked."""
    STORED = "stored"
    """An upload was stored or found to be stored already; the answer has not been sent."""
    PAGE = "page"
    """A project page is asked for; the subject is the project."""
    FILE = "file"
    """A file or its sidecar is asked for; the subject is the last part of its URL."""
    AUDIENCE = "audience"
    AMBIENT = "ambient"
    """A job asks its platform for an identity token."""
    MINT = "mint"


class Answer(Struct, frozen=True, tag="answer"):
    """Answer so instead; the message is the reason phrase and the body, as PyPI's are."""

    status: int
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Close(Struct, frozen=True, tag="close"):
    """Break the connection without an answer."""


class Hang(Struct, frozen=True, tag="hang"):
    """Wait until the gate is opened, then go on."""

    gate: str


class Delay(Struct, frozen=True, tag="delay"):
    """Wait, then go on."""

    seconds: float


class Slow(Struct, frozen=True, tag="slow"):
    """Read the rest of the body no faster than this (only at BODY)."""

    bytes_per_s: int


Action: TypeAlias = Answer | Close | Hang | Delay | Slow

WITHOUT_SUBJECT: Final = frozenset({Point.ARRIVED, Point.AUDIENCE, Point.AMBIENT, Point.MINT})


class Fault(Struct, frozen=True, tag="fault"):
    """One thing that goes wrong."""

    at: Point
    action: Action
    subject: str = ""
    """Only for this file or project; "" for every one."""
    first: int = 1
    times: int | None = 1
    """None: from then on."""
    after_bytes: int = 0

    def __post_init__(self) -> None:
        """Refuse what could never happen."""
        if self.subject and self.at in WITHOUT_SUBJECT:
            raise ValueError(f"No file or project is known at {self.at}.")
        if isinstance(self.action, Slow) and self.at is not Point.BODY:
            raise ValueError("Only a body can be read slowly.")
        if self.after_bytes and self.at is not Point.BODY:
            raise ValueError("after_bytes is of BODY.")


class Instead(Exception):
    """Ends a request with a scripted answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class Dropped(Exception):
    """Ends a request without an answer."""


class Gates:
    """Where requests hang, by name. A gate that was opened stays open."""

    def __init__(self) -> None:
        self._opened: dict[str, asyncio.Event] = {}
        self._reached: dict[str, asyncio.Event] = {}

    async def wait(self, gate: str) -> None:
        """Hang there."""
        self._reached.setdefault(gate, asyncio.Event()).set()
        await self._opened.setdefault(gate, asyncio.Event()).wait()

    async def reached(self, gate: str) -> None:
        """Wait until a request hangs there, or hung there."""
        await self._reached.setdefault(gate, asyncio.Event()).wait()

    def open(self, gate: str) -> None:
        """Let all go on, now and later."""
        self._opened.setdefault(gate, asyncio.Event()).set()


class Faults:
    """The faults that were ordered, and the requests that each has met."""

    def __init__(self) -> None:
        self.gates = Gates()
        self._ordered: list[tuple[Fault, int]] = []

    def add(self, fault: Fault) -> None:
        self._ordered.append((fault, 0))

    def clear(self) -> None:
        self._ordered.clear()

    def due(self, point: Point, subject: str = "") -> list[Fault]:
        """Count a request that is at a point, and return what happens to it there."""
        found, counted = [], []
        for fault, seen in self._ordered:
            fits = fault.at is point and fault.subject in {"", subject}
            number = seen + fits
            counted.append((fault, number))
            if fits and fault.first <= number and (fault.times is None or number < fault.first + fault.times):
                found.append(fault)
        self._ordered = counted
        return found

    async def strike(self, request: web.Request, point: Point, subject: str = "") -> None:
        """Let happen what is due. Raises Instead, Dropped."""
        for fault in self.due(point, subject):
            await self.carry_out(request, fault.action)

    async def carry_out(self, request: web.Request, action: Action) -> None:
        """Let one thing happen; Slow is the reader's business. Raises Instead, Dropped."""
        match action:
            case Answer():
                raise Instead(action)
            case Close():
                if request.transport is not None:
                    request.transport.abort()
                raise Dropped
            case Hang(gate=gate):
                await self.gates.wait(gate)
            case Delay(seconds=seconds):
                await asyncio.sleep(seconds)
            case Slow():
                pass
