"""Which releases promotions keep as they are, in dictionaries; a freeze that holds no more goes when it is met."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.promotion import Freeze, PromotionId, ReleaseName
from overlay.domain.promotion_errors import PromotionLost, StagedChanged
from overlay.domain.stage import StagedFile
from overlay.storage.refusals import frozen, in_words, running, taken


class Freezes:
    """The freezes over what is `staged`, by upload; `now_us` is the clock in microseconds since the epoch."""

    def __init__(
        self, staged: Mapping[UploadId, StagedFile], now_us: Callable[[], int], freezes: Sequence[Freeze] = ()
    ) -> None:
        self._staged = staged
        self._now_us = now_us
        self._freezes = {freeze.promotion: freeze for freeze in freezes}
        self._frozen = {release: freeze.promotion for freeze in freezes for release in freeze.releases}

    def held(self) -> tuple[Freeze, ...]:
        """Return the freezes that hold, the oldest first."""
        holding = [self._holding(promotion) for promotion in tuple(self._freezes)]
        return tuple(sorted(filter(None, holding), key=lambda freeze: (freeze.since_us, freeze.promotion)))

    def keeps(
        self, release: ReleaseName, filename: str, sha256: str, held: StagedFile | None, *, may_replace: bool
    ) -> bool:
        """Say whether bytes that come under the name meet a freeze, and are those that hold the name.

        Raises FileExists, ReleaseFrozen for other bytes.
        """
        keeper = self._keeper(release)
        if held is not None and held.sha256 != sha256 and (keeper is not None or not may_replace):
            raise taken(filename, held.sha256, keeper)
        if held is None and keeper is not None:
            raise frozen(release, keeper)
        return keeper is not None

    def check_endings(self, project: NormalizedName, uploads: Sequence[UploadId]) -> None:
        """Refuse to end uploads that are being promoted. Raises ReleaseFrozen."""
        for upload in uploads:
            file = self._staged.get(upload)
            keeper = None if file is None or file.project != project else self._keeper(_release(file))
            if file is not None and keeper is not None and upload in keeper.uploads:
                raise frozen(_release(file), keeper)

    def freeze(self, wanted: Freeze) -> Freeze:
        """Freeze, or give the lease of the promotion's freeze to `wanted.holder`.

        Raises ReleaseFrozen, PromotionRunning, StagedChanged.
        """
        self.held()  # those that hold no more go
        present = self._freezes.get(wanted.promotion)
        if present is not None:
            return self._put(self._taken_over(present, wanted))
        for release in wanted.releases:
            keeper = self._keeper(release)
            if keeper is not None:
                raise frozen(release, keeper)
        if not wanted.durable and not all(self._is_within(upload, wanted) for upload in wanted.uploads):
            raise StagedChanged(in_words(wanted.releases))
        self._frozen |= dict.fromkeys(wanted.releases, wanted.promotion)
        return self._put(wanted)

    def renew(self, promotion: PromotionId, *, fence: int, until_us: int, durable: bool) -> Freeze:
        """Prolong a lease, or end it. Raises PromotionLost."""
        freeze = self._freezes.get(promotion)
        if freeze is None or freeze.fence != fence:
            raise PromotionLost(promotion)
        ended_again = not durable and freeze.until_us == until_us == 0
        holds = freeze.holds(self._now_us()) or ended_again
        if not freeze.durable and not (holds and all(upload in self._staged for upload in freeze.uploads)):
            self.thaw(promotion)
            raise PromotionLost(promotion)
        until_us = max(freeze.until_us, until_us) if until_us else 0
        return self._put(replace(freeze, until_us=until_us, durable=freeze.durable or durable))

    def thaw(self, promotion: PromotionId) -> None:
        """End a freeze."""
        if self._freezes.pop(promotion, None) is not None:
            self._frozen = {release: held for release, held in self._frozen.items() if held != promotion}

    def _keeper(self, release: ReleaseName) -> Freeze | None:
        promotion = self._frozen.get(release)
        return None if promotion is None else self._holding(promotion)

    def _holding(self, promotion: PromotionId) -> Freeze | None:
        freeze = self._freezes[promotion]
        if freeze.holds(self._now_us()):
            return freeze
        self.thaw(promotion)
        return None

    def _taken_over(self, present: Freeze, wanted: Freeze) -> Freeze:
        if present.holder == wanted.holder:
            until_us = max(present.until_us, wanted.until_us)
            return replace(present, until_us=until_us, durable=present.durable or wanted.durable)
        if present.leased(self._now_us()):
            raise running(present)
        return replace(present, holder=wanted.holder, who=wanted.who, until_us=wanted.until_us, fence=present.fence + 1)

    def _is_within(self, upload: UploadId, wanted: Freeze) -> bool:
        file = self._staged.get(upload)
        return file is not None and file.stage == wanted.stage and _release(file) in wanted.releases

    def _put(self, freeze: Freeze) -> Freeze:
        self._freezes[freeze.promotion] = freeze
        return freeze


def _release(file: StagedFile) -> ReleaseName:
    return ReleaseName(file.project, file.version)
