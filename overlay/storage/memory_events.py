"""The recent events of a ledger, in the process."""

from collections import deque
from typing import Final

from overlay.domain import events
from overlay.domain.events import Event, EventFeed, EventKind
from overlay.domain.promotion import Freeze
from overlay.domain.stage import StagedFile

_HELD: Final = 1000


class Events:
    """The events of one life of the ledger, the last thousand of them."""

    def __init__(self) -> None:
        self._held: deque[Event] = deque(maxlen=_HELD)
        self._made = 0

    def tell(self, kind: EventKind, file: StagedFile, at_us: int, who: str) -> None:
        """Tell of a file."""
        self._held.append(events.of_file(self._next(), kind, file, at_us=at_us, who=who))

    def tell_freeze(self, kind: EventKind, freeze: Freeze, at_us: int, who: str) -> None:
        """Tell of each release of a promotion."""
        for release in freeze.releases:
            event = events.of_release(self._next(), kind, freeze.promotion, freeze.stage, release, at_us=at_us, who=who)
            self._held.append(event)

    def after(self, number: int, *, epoch: str) -> EventFeed:
        """Return what came after this number."""
        first = self._held[0].number if self._held else self._made + 1
        return EventFeed(epoch, first, tuple(event for event in self._held if event.number > number))

    def _next(self) -> int:
        self._made += 1
        return self._made
