"""What is counted and timed while the index works, as a protocol: who does the work reports, `web.metrics` keeps.

Every method is called on the event loop's thread, returns at once and never raises: nothing waits for being measured,
and nothing fails by it. Durations are in seconds, as whoever asked felt them: with waiting and repeats.
"""

from enum import StrEnum
from typing import Final, Protocol


class UpstreamAnswer(StrEnum):
    """What came of a question to upstream."""

    PAGE = "page"
    UNCHANGED = "unchanged"
    ABSENT = "absent"
    FAILED = "failed"


class Measures(Protocol):
    """Takes note of what happens. One method for one kind of event."""

    def page(self, *, remembered: bool) -> None:
        """Note that a project page was wanted: it was in memory, or had to be rendered."""

    def asked_upstream(self, answer: UpstreamAnswer, seconds: float) -> None:
        """Note a question to upstream, from sending it to the last byte of its answer."""

    def asked_ledger(self, seconds: float, *, answered: bool) -> None:
        """Note a round trip to a ledger in another process; a refusal is an answer."""

    def asked_store(self, operation: str, seconds: float, *, answered: bool) -> None:
        """Note a call of a store in another process; `operation` is one of few words, "absent" is an answer."""

    def rebuilt(self, seconds: float) -> None:
        """Note that this process loaded the ledger from the documents."""

    def reconciled(self, seconds: float) -> None:
        """Note that this process reconciled the ledger with the documents."""


class NoMeasures:
    """Measures that nobody takes."""

    def page(self, *, remembered: bool) -> None:
        """Note nothing."""

    def asked_upstream(self, answer: UpstreamAnswer, seconds: float) -> None:
        """Note nothing."""

    def asked_ledger(self, seconds: float, *, answered: bool) -> None:
        """Note nothing."""

    def asked_store(self, operation: str, seconds: float, *, answered: bool) -> None:
        """Note nothing."""

    def rebuilt(self, seconds: float) -> None:
        """Note nothing."""

    def reconciled(self, seconds: float) -> None:
        """Note nothing."""


NO_MEASURES: Final = NoMeasures()
