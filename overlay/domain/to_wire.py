"""From the domain's nouns to the API's."""

from collections.abc import Sequence
from urllib.parse import quote

from overlay.domain.events import Event, EventFeed
from overlay.domain.findings import Finding
from overlay.domain.listing import Standing
from overlay.domain.merge import timestamp
from overlay.domain.promotion import PlannedFile
from overlay.domain.rights import Token
from overlay.domain.stage import Gone, StagedFile
from overlay.domain.wire import EventFeedView, EventView, FindingView, HistoryEntryView, StagedFileView, TokenView


def file_path(file: StagedFile | PlannedFile) -> str:
    """Return the path of a staged file below the overlay's root, percent-encoded."""
    return f"/files/{file.project}/{file.upload_id}/{quote(file.filename, safe='+')}"


def staged_file(
    file: StagedFile, standing: Standing, findings: Sequence[Finding] | None, *, root: str
) -> StagedFileView:
    """Form a staged file; `root` is the overlay's public URL, `findings` None where they were not derived."""
    return StagedFileView(
        stage=file.stage,
        project=file.project,
        version=file.version,
        filename=file.filename,
        kind=file.kind,
        sha256=file.sha256,
        blake2_256=file.blake2_256,
        size_bytes=file.size_bytes,
        url=root + file_path(file),
        staged_at=timestamp(file.staged_at_us),
        who=file.who,
        grant=file.grant,
        standing=standing.value,
        requires_python=file.requires_python,
        findings=None if findings is None else tuple(finding(one) for one in findings),
    )


def finding(found: Finding) -> FindingView:
    """Form a finding."""
    return FindingView(rule=found.rule, severity=found.severity.value, sentence=found.sentence)


def history_entry(gone: Gone) -> HistoryEntryView:
    """Form a history entry."""
    file = gone.file
    return HistoryEntryView(
        reason=gone.reason.value,
        at=timestamp(gone.at_us),
        who=gone.who,
        stage=file.stage,
        project=file.project,
        version=file.version,
        filename=file.filename,
        upload_id=file.upload_id,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        staged_at=timestamp(file.staged_at_us),
        staged_by=file.who,
    )


def event_feed(feed: EventFeed) -> EventFeedView:
    """Form the event feed."""
    return EventFeedView(
        epoch=feed.epoch, cut_before=feed.cut_before, events=tuple(_event(event) for event in feed.events)
    )


def _event(event: Event) -> EventView:
    return EventView(
        number=event.number,
        at=timestamp(event.at_us),
        kind=event.kind.value,
        stage=event.stage,
        project=event.project,
        version=event.version,
        filename=event.filename,
        sha256=event.sha256,
        who=event.who,
        promotion=event.promotion,
    )


def token(held: Token) -> TokenView:
    """Form a token; its hash stays here."""
    return TokenView(
        id=held.id,
        label=held.label,
        rights=tuple(right.value for right in held.rights),
        projects=held.projects,
        stages=held.stages,
        created_at=timestamp(held.created_at_s * 1_000_000),
        expires_at=None if held.expires_at_s is None else timestamp(held.expires_at_s * 1_000_000),
    )
