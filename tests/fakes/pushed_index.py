"""An upstream in memory that is pushed to, with whatever may happen to a POST."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from overlay.promote.answers import Accepted, Answer, NotSent, Refused, Taken, Unknown
from overlay.promote.push import Package


class Happens(Enum):
    """What happens to one POST."""

    ACCEPTED = "accepted"
    LOST = "stored, but the answer is lost"
    CUT = "lost before it is stored"
    ERROR = "a 503 before it is stored"
    STORED_ERROR = "a 502 after it is stored"
    BUSY = "a 429"
    UNREACHABLE = "no connection"
    FORBIDDEN = "a 403"
    UNAUTHORIZED = "a 401"


_STORING: Final = frozenset({Happens.ACCEPTED, Happens.LOST, Happens.STORED_ERROR})
_INSTEAD: Final[Mapping[Happens, Answer]] = {
    Happens.LOST: Unknown(None, "the connection broke"),
    Happens.CUT: Unknown(None, "the connection broke"),
    Happens.ERROR: Unknown(503, "try later"),
    Happens.STORED_ERROR: Unknown(502, "bad gateway"),
    Happens.BUSY: Unknown(429, "too many", retry_after_s=200.0),
    Happens.UNREACHABLE: NotSent("no route"),
    Happens.FORBIDDEN: Refused(403, "not yours"),
    Happens.UNAUTHORIZED: Refused(401, ""),
}


@dataclass
class FakeUpstream:
    """An index with a simple page, like PyPI's in that it takes equal bytes twice; implements `Push`."""

    script: dict[str, list[Happens]] = field(default_factory=dict)
    """What happens to the next POSTs of a file; then they are accepted."""
    hidden_looks: int = 0
    """So many looks do not show what was stored just before them."""
    conflicts: bool = False
    """Equal bytes are refused with 409, as other indexes do."""
    other_bytes: set[str] = field(default_factory=set)
    """Names whose page shows another digest than what was sent."""
    stored: dict[str, str] = field(default_factory=dict)
    """Filename to sha256, in the order in which they were stored."""
    posts: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    _hidden: dict[str, int] = field(default_factory=dict)

    def shown(self) -> Mapping[str, str]:
        """Return what the page shows at this look."""
        visible = {name: digest for name, digest in self.stored.items() if self._hidden.get(name, 0) <= 0}
        self._hidden = {name: looks - 1 for name, looks in self._hidden.items()}
        return {name: ("0" * 64 if name in self.other_bytes else digest) for name, digest in visible.items()}

    def show(self) -> None:
        """Let the page catch up with what was stored."""
        self._hidden.clear()

    async def __call__(self, package: Package, authorization: str, sent: Callable[[int], None]) -> Answer:
        name = package.file.filename
        self.posts.append(name)
        self.authorizations.append(authorization)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            sent(0)
            await asyncio.sleep(0)
            return self._answer(name, package.path.read_bytes())
        finally:
            self.under_way -= 1

    def _answer(self, name: str, body: bytes) -> Answer:
        script = self.script.get(name, [])
        happens = script.pop(0) if script else Happens.ACCEPTED
        if happens not in _STORING:
            return _INSTEAD[happens]
        answer = self._store(name, body)
        return _INSTEAD.get(happens, answer)

    def _store(self, name: str, body: bytes) -> Answer:
        digest = hashlib.sha256(body).hexdigest()
        if name in self.stored:
            equal = self.stored[name] == digest
            return Accepted(200, "") if equal and not self.conflicts else Taken(409, "File already exists")
        self.stored[name] = digest
        self._hidden[name] = self.hidden_looks
        return Accepted(200, "")
