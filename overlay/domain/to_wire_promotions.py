"""From the domain's promotions to the API's."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from overlay.domain.merge import timestamp
from overlay.domain.names import ReleaseName, UploadId
from overlay.domain.promotion import (
    FileState,
    JournalEntry,
    LivePledge,
    PlannedFile,
    Promotion,
    PromotionReceipt,
    Underway,
)
from overlay.domain.to_wire import file_path
from overlay.domain.wire import API, PromotingFileView, ReleasePromotionView
from overlay.domain.wire_promotions import IgnoredView, LiveFileView, PromotedFileView, PromotionView

IS_RUNNING = "running"
IS_WAITING = "waiting"


def underway(
    held: Underway, *, now_us: int, root: str, attestations: Mapping[UploadId, str] = MappingProxyType({})
) -> PromotionView:
    """Form a promotion under way; `root` is the overlay's public URL."""
    promotion, freeze = held.promotion, held.freeze
    leased = held.leased(now_us)
    return PromotionView(
        id=promotion.id,
        stage=promotion.stage,
        target=promotion.target,
        who=promotion.who,
        planned_at=timestamp(promotion.planned_at_us),
        state=IS_RUNNING if leased else IS_WAITING,
        files=_files(promotion, held.journal, root, attestations),
        already_live=already_live(promotion.already_live),
        ignored=_ignored(promotion),
        leased_until=timestamp(freeze.until_us) if freeze is not None and leased else None,
    )


def of_release(
    known: Underway | PromotionReceipt, release: ReleaseName, *, now_us: int, root: str
) -> ReleasePromotionView:
    """Form what a release shows of the promotion that it is, or was, in."""
    view = ended(known, root=root) if isinstance(known, PromotionReceipt) else underway(known, now_us=now_us, root=root)
    promotion = known.promotion
    return ReleasePromotionView(
        id=view.id,
        state=view.state,
        who=view.who,
        since=view.planned_at,
        files=tuple(
            PromotingFileView(filename=file.filename, state=shown.state)
            for file, shown in zip(promotion.files, view.files, strict=True)
            if file.release == release
        ),
        others=tuple(str(other) for other in promotion.releases if other != release),
        target=view.target,
        leased_until=view.leased_until,
        ended_at=view.ended_at,
        ended_by=view.ended_by,
        url=f"{root}{API}/promotions/{view.id}",
    )


def ended(receipt: PromotionReceipt, *, root: str) -> PromotionView:
    """Form a promotion that ended."""
    promotion = receipt.promotion
    return PromotionView(
        id=promotion.id,
        stage=promotion.stage,
        target=promotion.target,
        who=promotion.who,
        planned_at=timestamp(promotion.planned_at_us),
        state=receipt.outcome.value,
        files=_files(promotion, {entry.upload_id: entry for entry in receipt.journal}, root, {}),
        already_live=already_live(promotion.already_live),
        ignored=_ignored(promotion),
        ended_at=timestamp(receipt.ended_at_us),
        ended_by=receipt.ended_by,
    )


def promoted_file(
    file: PlannedFile, entry: JournalEntry | None, *, root: str, attestations: str | None = None
) -> PromotedFileView:
    """Form one file of a promotion; `entry` is None while nothing of it was sent."""
    return PromotedFileView(
        project=file.project,
        version=file.version,
        filename=file.filename,
        kind=file.kind,
        upload_id=file.upload_id,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        wave=file.wave,
        url=root + file_path(file),
        state=(FileState.PLANNED if entry is None else entry.state).value,
        status=None if entry is None else entry.status,
        said="" if entry is None else entry.said,
        attestations=attestations,
    )


def _files(
    promotion: Promotion,
    journal: Mapping[UploadId, JournalEntry],
    root: str,
    attestations: Mapping[UploadId, str],
) -> tuple[PromotedFileView, ...]:
    return tuple(
        promoted_file(file, journal.get(file.upload_id), root=root, attestations=attestations.get(file.upload_id))
        for file in promotion.files
    )


def already_live(pledges: Iterable[LivePledge]) -> tuple[LiveFileView, ...]:
    """Form the pledged files that were live before."""
    return tuple(LiveFileView(filename=one.filename, sha256=one.sha256, url=one.url) for one in pledges)


def _ignored(promotion: Promotion) -> tuple[IgnoredView, ...]:
    return tuple(IgnoredView(rule=one.rule, filename=one.filename, sentence=one.sentence) for one in promotion.ignored)
