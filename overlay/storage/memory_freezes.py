"""Which releases promotions keep as they are, in dictionaries.

A freeze that holds no more goes, and is told to have ended, when a change meets it, as in Redis; reads pass it over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from overlay.domain.events import EVENT_OF_OUTCOME, EventKind
from overlay.domain.names import NormalizedName, ReleaseName, UploadId
from overlay.domain.promotion import Freeze, Outcome, PromotionEnding, PromotionId
from overlay.domain.promotion_errors import PromotionLost, StagedChanged
from overlay.domain.stage import StagedFile
from overlay.storage.refusals import frozen, in_words, running

Tell = Callable[[EventKind, Freeze, int, str], None]
"""Tells of every release of a freeze: what happened, when (microseconds since the epoch), by whom."""


class Freezes:
    """The freezes over what is `staged`, by upload; `now_us` is the clock in microseconds since the epoch."""

    def __init__(
        self,
        staged: Mapping[UploadId, StagedFile],
        now_us: Callable[[], int],
        tell: Tell,
        freezes: Sequence[Freeze] = (),
    ) -> None:
        self._staged = staged
        self._now_us = now_us
        self._tell = tell
        self._freezes = {freeze.promotion: freeze for freeze in freezes}
        self._frozen = {release: freeze.promotion for freeze in freezes for release in freeze.releases}

    def held(self) -> tuple[Freeze, ...]:
        """Return the freezes that hold, the oldest first."""
        now_us = self._now_us()
        holding = [freeze for freeze in self._freezes.values() if freeze.holds(now_us)]
        return tuple(sorted(holding, key=lambda freeze: (freeze.since_us, freeze.promotion)))

    def keeper(self, release: ReleaseName) -> Freeze | None:
        """Return what keeps a release as it is, if anything does."""
        promotion = self._frozen.get(release)
        return None if promotion is None else self._holding(promotion)

    def check_endings(self, project: NormalizedName, uploads: Sequence[UploadId]) -> None:
        """Refuse to end uploads that are being promoted. Raises ReleaseFrozen."""
        for upload in uploads:
            file = self._staged.get(upload)
            keeper = None if file is None or file.project != project else self.keeper(file.release)
            if file is not None and keeper is not None and upload in keeper.uploads:
                raise frozen(file.release, keeper)

    def freeze(self, wanted: Freeze) -> Freeze:
        """Freeze, or give the lease of the promotion's freeze to `wanted.holder`.

        Raises ReleaseFrozen, PromotionRunning, StagedChanged.
        """
        for promotion in tuple(self._freezes):
            self._holding(promotion)  # those that hold no more go
        present = self._freezes.get(wanted.promotion)
        if present is not None:
            return self._put(self._taken_over(present, wanted))
        for release in wanted.releases:
            keeper = self.keeper(release)
            if keeper is not None:
                raise frozen(release, keeper)
        if not wanted.durable and not all(self._is_within(upload, wanted) for upload in wanted.uploads):
            raise StagedChanged(in_words(wanted.releases))
        self._frozen |= dict.fromkeys(wanted.releases, wanted.promotion)
        self._tell(EventKind.PROMOTING, wanted, self._now_us(), wanted.who)
        return self._put(wanted)

    def renew(self, promotion: PromotionId, *, fence: int, until_us: int, durable: bool) -> Freeze:
        """Prolong a lease, or end it. Raises PromotionLost."""
        freeze = self._freezes.get(promotion)
        if freeze is None or freeze.fence != fence:
            raise PromotionLost(promotion)
        ended_again = not durable and freeze.until_us == until_us == 0
        holds = freeze.holds(self._now_us()) or ended_again
        if not freeze.durable and not (holds and all(upload in self._staged for upload in freeze.uploads)):
            self._drop(freeze)
            raise PromotionLost(promotion)
        until_us = max(freeze.until_us, until_us) if until_us else 0
        return self._put(replace(freeze, until_us=until_us, durable=freeze.durable or durable))

    def overtake(self, promotion: PromotionId) -> bool:
        """Let no run of a promotion go on; say whether its freeze is left."""
        freeze = self._holding(promotion) if promotion in self._freezes else None
        return freeze is not None and self._put(replace(freeze, until_us=0, fence=freeze.fence + 1)).durable

    def thaw(self, promotion: PromotionId, ending: PromotionEnding, *, unless_durable: bool = False) -> bool:
        """End a freeze; say whether none of the promotion is left."""
        freeze = self._freezes.get(promotion)
        if freeze is not None and freeze.durable and unless_durable:
            return False
        if freeze is not None:
            del self._freezes[promotion]
            self._frozen = {release: held for release, held in self._frozen.items() if held != promotion}
            self._tell(EVENT_OF_OUTCOME[ending.outcome], freeze, ending.at_us, ending.who)
        return True

    def _drop(self, freeze: Freeze) -> None:
        """End a freeze that nobody ended."""
        ending = PromotionEnding(outcome=Outcome.ABANDONED, at_us=self._now_us(), who=freeze.who)
        self.thaw(freeze.promotion, ending)

    def _holding(self, promotion: PromotionId) -> Freeze | None:
        freeze = self._freezes[promotion]
        if freeze.holds(self._now_us()):
            return freeze
        self._drop(freeze)
        return None

    def _taken_over(self, present: Freeze, wanted: Freeze) -> Freeze:
        if present.holder == wanted.holder:
            until_us, fence = max(present.until_us, wanted.until_us), max(present.fence, wanted.fence)
            return replace(present, until_us=until_us, fence=fence, durable=present.durable or wanted.durable)
        if present.leased(self._now_us()):
            raise running(present)
        self._tell(EventKind.RESUMED, present, self._now_us(), wanted.who)
        fence = max(present.fence + 1, wanted.fence)
        return replace(present, holder=wanted.holder, who=wanted.who, until_us=wanted.until_us, fence=fence)

    def _is_within(self, upload: UploadId, wanted: Freeze) -> bool:
        file = self._staged.get(upload)
        return file is not None and file.stage == wanted.stage and file.release in wanted.releases

    def _put(self, freeze: Freeze) -> Freeze:
        self._freezes[freeze.promotion] = freeze
        return freeze
