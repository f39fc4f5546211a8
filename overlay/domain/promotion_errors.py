"""The errors of promotions, leaves of the tree in `overlay.domain.errors`."""

from collections.abc import Sequence
from dataclasses import dataclass

from overlay.domain.errors import Conflict, NotFound
from overlay.domain.quantities import second_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason against a promotion; `filename` is "" where it is about a release, or all of it."""

    rule: str
    filename: str
    sentence: str


class UnknownPromotion(NotFound):
    """No promotion has this id."""

    def __init__(self, promotion: str) -> None:
        super().__init__(f"No promotion has the id {promotion!r}.")
        self.promotion = promotion


class ReleaseFrozen(Conflict):
    """A promotion keeps the release as it is; times are microseconds since the epoch."""

    def __init__(self, release: str, *, who: str, since_us: int) -> None:
        super().__init__(
            f"Release {release} is being promoted by {who} since {second_words(since_us)}. Wait until that ended; "
            f"`overlay show {release}` says how far it came, `overlay promote --abandon {release}` gives it up."
        )
        self.release = release
        self.who = who
        self.since_us = since_us


class StagedChanged(Conflict):
    """What was to be promoted is not staged any more."""

    def __init__(self, release: str) -> None:
        super().__init__(f"What is staged of {release} changed while its promotion was being planned; run it again.")
        self.release = release


class PromotionRunning(Conflict):
    """Another run of the promotion has the lease; times are microseconds since the epoch."""

    def __init__(self, promotion: str, *, who: str, since_us: int, until_us: int) -> None:
        super().__init__(
            f"This promotion is being run by {who} since {second_words(since_us)}; unless it goes on, it can be taken "
            f"over after {second_words(until_us)}."
        )
        self.promotion = promotion
        self.who = who
        self.since_us = since_us
        self.until_us = until_us


class PromotionLost(Conflict):
    """The run lost its lease: it lapsed, was overtaken, or the promotion ended; or no promotion has this id."""

    def __init__(self, promotion: str) -> None:
        super().__init__("This run does not lead the promotion any more: another one took it over, or it was ended.")
        self.promotion = promotion


class PromotionRefused(Conflict):
    """The preflight found reasons against a promotion; nothing was frozen or pushed."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__("\n".join(refusal.sentence for refusal in refusals))
        self.refusals = tuple(refusals)
