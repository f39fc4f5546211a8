"""What a run works with: protocols, so that a run can be watched without a network."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from overlay.domain.wire_promotions import PlanView, PromotedFileView
from overlay.promote.clock import Clock
from overlay.promote.hosts import Target
from overlay.promote.identity import Identity
from overlay.promote.progress import Progress
from overlay.promote.push import Push
from overlay.promote.server import PromotionServer


class Credential(Protocol):
    """What a target takes from whoever uploads. Its text, `str(…)` and `repr(…)` never show it."""

    @property
    def words(self) -> str:
        """Where it comes from, for people."""

    @property
    def identity(self) -> Identity | None:
        """The job's identity when it uploads by Trusted Publishing, else None."""

    async def authorization(self) -> str:
        """Return what the header Authorization carries, renewed where it would run out; "": none. Raises Refused."""

    def has_ended(self, authorization: str) -> bool:
        """Say whether what this header carries has run out since it was returned: then a new one may do better."""


@dataclass(frozen=True, slots=True)
class Attestations:
    """What is sent of a file's attestations: the JSON text, or None, and in words what is left out and why."""

    text: str | None
    words: str = ""


class Attest(Protocol):
    """Decides which attestations go with a file, or makes them."""

    async def __call__(
        self, file: PromotedFileView, path: Path, identity: Identity | None, *, dry_run: bool
    ) -> Attestations:
        """Return what is sent with the file, whose proven bytes are at `path`; a dry run makes none. Raises Refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a run works with."""

    server: PromotionServer
    find_credential: Callable[[Target, PlanView], Awaitable[Credential]]
    """Returns the first source's that fits. Raises Refused."""
    pushing: Callable[[Target], AbstractAsyncContextManager[Push]]
    """Connects once, to see that it can be done. Raises Refused where it cannot."""
    attest: Attest
    progress: Progress
    clock: Clock
    folder: Path
    """Empty and this run's own; whoever made it removes it."""
