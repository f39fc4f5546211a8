"""Why a promotion cannot go on.

    PromoteError                 `ending` is the command's exit code
    ├── Misused                  what was named cannot be promoted so; of which PledgeMissing
    ├── Refused                  found before the first byte went out; of which PlanRefused, RunElsewhere
    ├── Failed                   anything later
    └── ServerSilent, RunLost, ServerAnswered      the overlay's part of it

Every error forms its own sentences; `str(error)` is fit to be shown, and never holds a credential.
"""

from collections.abc import Sequence
from enum import IntEnum

from overlay.domain.wire_promotions import RefusalView


class Ending(IntEnum):
    """How `overlay promote` ends; the numbers are its exit codes."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3


class PromoteError(Exception):
    """A promotion cannot go on."""

    ending = Ending.FAILED


class Misused(PromoteError):
    """What was named on the command line cannot be promoted so."""

    ending = Ending.USAGE


class PledgeMissing(Misused):
    """Nobody said which bytes are expected of these releases (PROJECT==VERSION)."""

    def __init__(self, releases: Sequence[str]) -> None:
        super().__init__(
            f"Which bytes are expected of {', '.join(releases)}? Name the files (dist/*), or give --expect with a "
            "SHA256SUMS file, a directory, or FILENAME=sha256:HEX."
        )
        self.releases = tuple(releases)


class Refused(PromoteError):
    """Something was found before a byte went out; nothing was pushed by this run."""

    ending = Ending.REFUSED


class PlanRefused(Refused):
    """The overlay found reasons against the promotion."""

    def __init__(self, refusals: Sequence[RefusalView]) -> None:
        super().__init__("\n".join(refusal.sentence for refusal in refusals))
        self.refusals = tuple(refusals)


class RunElsewhere(Refused):
    """Another run has the lease until `leased_until` (RFC 3339, by the overlay's clock)."""

    def __init__(self, sentence: str, *, leased_until: str) -> None:
        super().__init__(sentence)
        self.leased_until = leased_until


class Failed(PromoteError):
    """The promotion stopped on its way; what is out and what is not stands in the result."""


class ServerSilent(PromoteError):
    """The overlay did not answer, or answered that it cannot now; asking again may help."""


class RunLost(PromoteError):
    """This run does not lead the promotion any more: it must not push."""


class ServerAnswered(PromoteError):
    """The overlay answered something else than was asked for; asking again does not help."""

    def __init__(self, sentence: str, ending: Ending) -> None:
        super().__init__(sentence)
        self.ending = ending
