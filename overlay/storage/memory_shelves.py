"""What is staged, in dictionaries: by place, by upload, and in totals that cost nothing to read."""

import heapq
import secrets
from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from overlay.domain.names import NOTHING_STAGED, NormalizedName, Revision, StageId, UploadId
from overlay.domain.stage import LatestProject, LatestProjects, StagedFile, StageSnapshot, Totals

_FEW: Final = 100


class _Shelf:
    """The staged files of one project in one stage."""

    def __init__(self) -> None:
        self.files: dict[str, StagedFile] = {}
        self.revision = NOTHING_STAGED
        self.staged_at_us = 0


class Shelves:
    """Everything that is staged; `entries` has it by upload, to be read only."""

    def __init__(self) -> None:
        self.entries: dict[UploadId, StagedFile] = {}
        self._shelves: dict[tuple[StageId, NormalizedName], _Shelf] = {}
        self._names: dict[StageId, list[NormalizedName]] = {}
        self._names_revision: dict[StageId, Revision] = {}
        self._bytes = 0
        self._token_bytes: defaultdict[str, int] = defaultdict(int)
        self._ages: list[tuple[int, UploadId]] = []  # a heap, in which those that ended stay for a while

    def holder(self, stage: StageId, project: NormalizedName, filename: str) -> StagedFile | None:
        """Return what is staged under a name."""
        shelf = self._shelves.get((stage, project))
        return None if shelf is None else shelf.files.get(filename)

    def revision(self, stage: StageId, project: NormalizedName) -> Revision:
        """Return the revision of a project in a stage."""
        shelf = self._shelves.get((stage, project))
        return NOTHING_STAGED if shelf is None else shelf.revision

    def snapshot(self, stage: StageId, project: NormalizedName) -> StageSnapshot:
        """Return a project's files in a stage, in order of their names."""
        shelf = self._shelves.get((stage, project))
        if shelf is None:
            return StageSnapshot(project, stage, NOTHING_STAGED, ())
        return StageSnapshot(project, stage, shelf.revision, tuple(shelf.files[name] for name in sorted(shelf.files)))

    def names(self, stages: Sequence[StageId]) -> tuple[Revision, tuple[NormalizedName, ...]]:
        """Return the projects with staged files, and a revision of that set."""
        if len(stages) == 1:
            names: Iterable[NormalizedName] = self._names.get(stages[0], ())
        else:
            names = sorted({name for stage in stages for name in self._names.get(stage, ())})
        revision = ".".join(self._names_revision.get(stage, NOTHING_STAGED) for stage in stages)
        return Revision(revision), tuple(names)

    def latest(self, stage: StageId, *, most_projects: int, most_files: int) -> LatestProjects:
        """Return the projects that something was staged for last, the latest first."""
        names = self._names.get(stage, ())
        last = heapq.nlargest(most_projects, names, key=lambda name: self._shelves[stage, name].staged_at_us)
        return LatestProjects(tuple(self._latest_project(stage, name, most_files) for name in last), len(names))

    def totals(self) -> Totals:
        """Count everything."""
        while self._ages and self._ages[0][1] not in self.entries:
            heapq.heappop(self._ages)
        oldest = self._ages[0][0] if self._ages else None
        return Totals(files=len(self.entries), size_bytes=self._bytes, oldest_staged_at_us=oldest)

    def bytes_staged_by(self, token_id: str) -> int:
        """Sum the sizes of what a token staged."""
        return self._token_bytes.get(token_id, 0)

    def put(self, file: StagedFile) -> None:
        """Add a file whose name nothing holds."""
        key = (file.stage, file.project)
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = _Shelf()
            insort(self._names.setdefault(file.stage, []), file.project)
            self._names_revision[file.stage] = _nonce()
        shelf.files[file.filename] = file
        shelf.revision = _nonce()
        shelf.staged_at_us = max(shelf.staged_at_us, file.staged_at_us)
        self.entries[file.upload_id] = file
        self._bytes += file.size_bytes
        self._token_bytes[file.token_id] += file.size_bytes
        heapq.heappush(self._ages, (file.staged_at_us, file.upload_id))

    def drop(self, file: StagedFile) -> None:
        """Remove a file that is staged."""
        key = (file.stage, file.project)
        shelf = self._shelves[key]
        del shelf.files[file.filename]
        shelf.revision = _nonce()
        if not shelf.files:
            del self._shelves[key]
            self._names[file.stage].remove(file.project)
            self._names_revision[file.stage] = _nonce()
        del self.entries[file.upload_id]
        self._bytes -= file.size_bytes
        self._token_bytes[file.token_id] -= file.size_bytes
        if not self._token_bytes[file.token_id]:
            del self._token_bytes[file.token_id]
        if len(self._ages) > _FEW + 2 * len(self.entries):  # more have ended than are staged
            self._ages = [(held.staged_at_us, held.upload_id) for held in self.entries.values()]
            heapq.heapify(self._ages)

    def _latest_project(self, stage: StageId, project: NormalizedName, most_files: int) -> LatestProject:
        shelf = self._shelves[stage, project]
        count = len(shelf.files)
        files = self.snapshot(stage, project).files if count <= most_files else ()
        return LatestProject(project=project, staged_at_us=shelf.staged_at_us, file_count=count, files=files)


def _nonce() -> Revision:
    """Name a state: 72 random bits, so that a ledger rebuilt never repeats a name that a client has seen."""
    return Revision(secrets.token_urlsafe(9))
