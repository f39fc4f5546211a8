"""What happened in a soak: every act of a client and every fault, with begin and end, in seconds since the start."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

Kind = Literal["upload", "add", "withdraw", "page", "file", "list"]
"""`add` is an upload by a token that may only add."""

NO_ANSWER: Final = 0
"""The status of an act whose answer did not arrive, or not whole."""


class Shown(msgspec.Struct, frozen=True):
    """A staged file as a page lists it."""

    sha256: str
    upload: str


class Act(msgspec.Struct):
    """One request of a client. Most fields speak of some kinds only."""

    number: int
    client: str
    kind: Kind
    host: str
    project: str
    began_s: float
    ended_s: float = math.inf
    status: int = NO_ANSWER
    error: str = ""
    """Why there was no answer."""
    filename: str = ""
    """upload, add, withdraw, file: the one it is about."""
    sha256: str = ""
    """upload, add: of the bytes sent; file: what the page promised."""
    upload: str = ""
    """file: the upload id."""
    word: str = ""
    """upload, add: what the answer says became of it; page: its form."""
    shown: dict[str, Shown | None] = {}
    """page: what is listed under each of the project's names."""
    names: dict[str, bool] = {}
    """list: whether each of these projects is there."""
    ended: tuple[str, ...] = ()
    """withdraw: the upload ids that it ended, by its answer."""
    wrong: str = ""
    """What nothing excuses in the answer itself."""

    @property
    def took_s(self) -> float:
        return self.ended_s - self.began_s


class Fault(msgspec.Struct):
    """Something that was done to the servers."""

    kind: str
    hits: tuple[str, ...]
    """Of "redis", "s3" and the names of hosts."""
    began_s: float
    down: dict[str, tuple[float, float]] = {}
    """When a server certainly answered nobody."""
    ended_s: float = math.inf
    """When everything was started again."""
    well_s: float = math.inf
    """When every host was seen to be well again."""


class History:
    """Acts and faults in the order in which they began."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.faults: list[Fault] = []

    def write(self, path: Path) -> None:
        """Write it as JSON, one act or fault a line, in the order of time."""
        path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in self.between(-math.inf, math.inf)))

    def between(self, from_s: float, to_s: float, projects: Iterable[str] | None = None) -> list[Act | Fault]:
        """Return what was under way then; of acts only those on these projects, if any are given."""
        chosen: list[Act | Fault] = [fault for fault in self.faults if fault.began_s <= to_s and from_s <= fault.well_s]
        wanted = None if projects is None else set(projects)
        chosen += [
            act
            for act in self.acts
            if act.began_s <= to_s and from_s <= act.ended_s and (wanted is None or act.project in wanted)
        ]
        return sorted(chosen, key=lambda one: one.began_s)

    def tally(self) -> Mapping[str, int]:
        """Count acts by kind and status, and faults by kind."""
        counted: dict[str, int] = {}
        for name in [f"{act.kind} {act.status or 'no answer'}" for act in self.acts] + [
            one.kind for one in self.faults
        ]:
            counted[name] = counted.get(name, 0) + 1
        return dict(sorted(counted.items()))
