"""What a run needs of the overlay. Its API's nouns are in `overlay.domain.wire_promotions`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from overlay.domain.wire_promotions import (
    JournalOrder,
    LeaseView,
    LookView,
    PlanView,
    PromotionList,
    PromotionOrder,
    PromotionView,
)


class PromotionServer(Protocol):
    """The overlay, as a run of `overlay promote` sees it.

    Every call may be repeated after a lost answer. Every method raises ServerSilent (ask again later: no answer, or
    one with a status from 500 on, or with 408, 425 or 429) and ServerAnswered (asking again does not help).
    """

    async def plan(self, order: PromotionOrder) -> PlanView:
        """Plan, or take up what is under way. Raises PlanRefused, and RunElsewhere while another run has the lease."""

    async def renew(self, promotion: str, fence: int) -> LeaseView:
        """Renew the run's lease. Raises RunLost."""

    async def journal(self, promotion: str, upload: str, order: JournalOrder) -> None:
        """Write down how far a file came; durable when it returns. Renews the lease too. Raises RunLost."""

    async def look(self, promotion: str, fence: int) -> LookView:
        """Read upstream's pages now. ServerSilent when upstream cannot be asked. Raises RunLost."""

    async def end(self, promotion: str, fence: int) -> None:
        """Let the lease go; before the first push that ends the promotion. One that is not led any more is fine."""

    async def abandon(self, promotion: str) -> PromotionView:
        """Give the promotion up and return its receipt."""

    async def under_way(self, releases: Sequence[str], stage: str) -> PromotionList:
        """Return the promotions of these releases (PROJECT==VERSION) that are under way, the latest first."""

    def open(self, url: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream the staged bytes at a file's `url`, in pieces of any size. Raises ServerSilent also while reading."""
