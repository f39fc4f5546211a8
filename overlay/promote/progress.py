"""What a run tells while it works. Whoever implements it prints; nothing in this package does."""

from collections.abc import Sequence
from typing import Protocol

from overlay.domain.wire_promotions import PlanView


class Progress(Protocol):
    """Hears of every step, in the loop's thread; must not block and must not raise."""

    def planned(self, plan: PlanView) -> None:
        """Hear the plan: once, first of all. Its warnings come through `warned`."""

    def warned(self, sentence: str) -> None:
        """Hear what people should know though it stops nothing."""

    def fetched(self, filename: str, done_bytes: int) -> None:
        """Hear how much of a staged file was downloaded; 0 when it begins, also when it begins again."""

    def pushing(self, filename: str, done_bytes: int) -> None:
        """Hear how much of a file was sent to upstream; 0 when it begins, also when it begins again."""

    def pushed(self, filename: str) -> None:
        """Hear that upstream accepted a file."""

    def waiting(self, filenames: Sequence[str], why: str) -> None:
        """Hear that the run waits for these files, and why, in words: before each time it sleeps."""

    def live(self, filename: str, url: str | None) -> None:
        """Hear that upstream shows a file: once for each."""

    def mask(self, secret: str) -> None:
        """Hear a secret that must not appear in logs, before it is used for the first time."""
