"""How a run ended: what is out and what is not."""

from dataclasses import dataclass, replace
from typing import Final

from overlay.domain.filenames import parse
from overlay.domain.names import UploadId
from overlay.domain.promotion import FileState
from overlay.domain.wire_promotions import (
    IgnoredView,
    LiveFileView,
    PlanView,
    PromotedFileView,
    PromotionView,
    RefusalView,
)
from overlay.promote.errors import Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """How far one file came."""

    project: str
    version: str
    filename: str
    sha256: str
    state: FileState
    url: str | None = None
    """Where upstream serves it, once it is live."""
    status: int | None = None
    """What upstream answered last; None: it was not asked by this run, or its answer was lost."""
    said: str = ""
    """Upstream's words."""
    attestations: str = ""
    """What became of the file's attestations, in words; "" where there is nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended."""

    ending: Ending
    promotion: str | None
    """Its id; None when all was live already and nothing had to be planned."""
    target: str
    """The upload URL; "" when nothing had to be planned."""
    files: tuple[FileResult, ...]
    """The files of the plan in the order of pushing, then those that were live already."""
    problem: str = ""
    """Why the run ended before its end; "" when it did not."""
    dry_run: bool = False
    who: str | None = None
    """Who planned the promotion, and when; None where there is none."""
    planned_at: str | None = None
    ignored: tuple[IgnoredView, ...] = ()
    """The refusals that were ignored by wish."""
    refusals: tuple[RefusalView, ...] = ()
    """Why the overlay planned nothing."""
    releases: tuple[str, ...] = ()
    """What was to be promoted (PROJECT==VERSION), where there is no plan of it."""
    ended: bool = False
    """The overlay saw all of it live and closed the promotion."""
    receipt: str = ""
    """The URL of the receipt; "" while there is none, or where nobody knows the overlay's URL."""

    @property
    def may_be_out(self) -> bool:
        """Say whether upstream may have something that is not live yet: then the promotion waits to be finished."""
        return any(file.state in _UNDER_WAY for file in self.files)


_UNDER_WAY: Final = frozenset({FileState.PUSHING, FileState.PUSHED})
_STATES: Final = {state.value: state for state in FileState}


class Standings:
    """What a run knows of each file of its promotion."""

    def __init__(self, promotion: PromotionView) -> None:
        self.ended = False
        """The overlay saw all of it live and closed the promotion."""
        self.touched = False
        """This run may have pushed something."""
        self._results = {UploadId(file.upload_id): _result(file) for file in promotion.files}

    def note(
        self,
        upload: UploadId,
        state: FileState,
        *,
        status: int | None = None,
        said: str = "",
        url: str | None = None,
    ) -> None:
        """Remember how far a file came; what is live stays so. An answer that is not given keeps the one before."""
        before = self._results[upload]
        self.touched = self.touched or state is FileState.PUSHING
        if before.state is not FileState.LIVE:
            self._results[upload] = replace(
                before, state=state, status=status or before.status, said=said or before.said, url=url
            )

    def note_attestations(self, upload: UploadId, words: str) -> None:
        """Remember what becomes of a file's attestations."""
        self._results[upload] = replace(self._results[upload], attestations=words)

    def state(self, upload: UploadId) -> FileState:
        """Say how far a file came."""
        return self._results[upload].state

    def not_live(self) -> tuple[str, ...]:
        """Return the names of the files that upstream does not show yet, in order."""
        return tuple(file.filename for file in self._results.values() if file.state is not FileState.LIVE)

    def files(self) -> tuple[FileResult, ...]:
        """Return what is known of all files, in the order of the plan."""
        return tuple(self._results.values())


def live_files(plan: PlanView) -> tuple[FileResult, ...]:
    """Return the pledged files that were live before."""
    return tuple(_live(file) for file in plan.already_live)


def _live(file: LiveFileView) -> FileResult:
    named = parse(file.filename)
    return FileResult(
        project=named.project,
        version=named.version,
        filename=file.filename,
        sha256=file.sha256,
        state=FileState.LIVE,
        url=file.url,
    )


def _result(file: PromotedFileView) -> FileResult:
    return FileResult(
        project=file.project,
        version=file.version,
        filename=file.filename,
        sha256=file.sha256,
        # A word that a newer overlay added says at least that the file may be out.
        state=_STATES.get(file.state, FileState.PUSHING),
        status=file.status,
        said=file.said,
    )
