"""Releases as people and the API see them: what is staged, how it stands, what PyPI would refuse; and withdrawing."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from overlay.caching.threads import in_thread
from overlay.caching.turns import Turns
from overlay.domain.errors import LedgerUnavailable, NotGranted, StaysLive, UnknownFile, UnknownRelease
from overlay.domain.layout import history_prefix
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.listing import Standing, judge
from overlay.domain.names import MAIN, NOTHING_STAGED, NormalizedName, ReleaseName, StageId, canonical_version
from overlay.domain.page_facts import PageFacts
from overlay.domain.ports import Documents, Upstream
from overlay.domain.quantities import second_words
from overlay.domain.records import HistoryEntry, decode
from overlay.domain.rights import Right, Token, covers_stage
from overlay.domain.rules import Finding, judge_release
from overlay.domain.stage import Gone, LatestProject, Reason, StagedFile, StageSnapshot
from overlay.services.access import require, require_grant
from overlay.services.facts import FactsOf
from overlay.services.freezes import check_not_frozen
from overlay.services.live import is_taken, live_release
from overlay.services.live_copies import read_record
from overlay.services.reconcile import end, reconcile_project
from overlay.services.reports import Reports

MOST_PROJECTS: Final = 200
MOST_FILES: Final = 100  # a release with wheels for all platforms and Pythons has fewer
_PATIENCE_S: Final = 5.0
_JUDGED_INLINE: Final = 1000  # a file takes a microsecond or two
_Seen = tuple[PageFacts | None, tuple[StageSnapshot, ...]]


@dataclass(frozen=True, slots=True)
class StagedEntry:
    """A staged file and how it stands towards what is known of upstream."""

    file: StagedFile
    standing: Standing


@dataclass(frozen=True, slots=True)
class ListedProject:
    """A project as the home page lists it; without `entries` where it has more than MOST_FILES files."""

    staged: LatestProject
    entries: tuple[StagedEntry, ...]


@dataclass(frozen=True, slots=True)
class Latest:
    """The projects that something was staged for last, the latest first, and how many there are in all."""

    projects: tuple[ListedProject, ...]
    count: int


@dataclass(frozen=True, slots=True)
class ReportedEntry:
    """A staged file with everything that people want to know before they promote it."""

    file: StagedFile
    standing: Standing
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """The staged files of one version; `upstream_known` is False when upstream could not be asked."""

    project: NormalizedName
    version: str
    entries: tuple[ReportedEntry, ...]
    upstream_known: bool


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What a withdrawal ended, and what stays because it is live by now."""

    ended: tuple[Gone, ...]
    staying: tuple[StagedFile, ...]


class Releases:
    """Reads and ends releases; `now_us` is the clock; what decides is no older than `fresh_s`.

    `patience_s` is how long the ledger may take to tell the latest.
    """

    def __init__(
        self,
        *,
        documents: Documents,
        ledger: StageLedger,
        upstream: Upstream,
        facts_of: FactsOf,
        reports: Reports,
        now_us: Callable[[], int],
        fresh_s: float,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._documents = documents
        self._ledger = ledger
        self._upstream = upstream
        self._facts_of = facts_of
        self._reports = reports
        self._now_us = now_us
        self._fresh_s = fresh_s
        self._patience_s = patience_s
        self._everything, self._latest = Turns(self._read_everything), Turns(self._read_latest)

    async def staged(self, project: NormalizedName | None = None, stage: StageId = MAIN) -> tuple[StagedEntry, ...]:
        """List what is staged, of one project or of all, by project, version and filename."""
        if project is None:
            return await self._everything.next()
        facts, snapshots = await self._see(project, stage)
        return await _entries(project, snapshots[0].files, facts)

    async def latest(self) -> Latest:
        """List at most MOST_PROJECTS projects, those that something was staged for last. Raises LedgerUnavailable."""
        return await self._latest.next()

    async def _read_everything(self) -> tuple[StagedEntry, ...]:
        files = (await self._ledger.index()).files
        entries: list[StagedEntry] = []
        for project, grouped in groupby(files, key=lambda file: file.project):
            await asyncio.sleep(0)  # thousands of projects are listed without holding up the pages
            facts = await self._facts_of(await self._upstream.known(project))
            entries += await _entries(project, tuple(grouped), facts)
        return tuple(entries)

    async def _read_latest(self) -> Latest:
        try:
            async with asyncio.timeout(self._patience_s):
                latest = await self._ledger.latest(MAIN, most_projects=MOST_PROJECTS, most_files=MOST_FILES)
        except TimeoutError as err:
            raise LedgerUnavailable("What is staged could not be read in time; try again in a moment.") from err
        return Latest(tuple([await self._listed(staged) for staged in latest.projects]), latest.count)

    async def _listed(self, staged: LatestProject) -> ListedProject:
        await asyncio.sleep(0)  # what is known of upstream is in memory, often
        facts = await self._facts_of(await self._upstream.known(staged.project))
        return ListedProject(staged, await _entries(staged.project, staged.files, facts))

    async def close(self) -> None:
        """End what is being read for callers that hung up."""
        await self._everything.close()
        await self._latest.close()

    async def release(self, project: NormalizedName, version: str, stage: StageId = MAIN) -> Release:
        """Read one release with its report, by whatever spelling of its version. Raises UnknownRelease."""
        facts, snapshots = await self._see(project, stage)
        files = _of_version(snapshots[0], version)
        if not files:
            raise UnknownRelease(project, version)
        live = live_release(facts, version)
        entries, standing_of = [], judge(facts, snapshots)
        for file in files:
            found = await self._reports.of(file)
            found += judge_release(file, siblings=files, live=live, now_s=self._now_us() / 1_000_000)
            entries.append(ReportedEntry(file, standing_of(file), found))
        known = await self._upstream.known(project) is not None
        return Release(project, version, tuple(entries), upstream_known=known)

    async def history(self, project: NormalizedName) -> tuple[Gone, ...]:
        """Read the uploads of a project that ended, the latest first."""
        gone = [
            decode(key, body, HistoryEntry).gone async for key, body in self._documents.scan(history_prefix(project))
        ]
        return tuple(sorted(gone, key=lambda one: (one.at_us, one.file.serial), reverse=True))

    async def withdraw(
        self,
        caller: Token,
        project: NormalizedName,
        version: str,
        filenames: Sequence[str] = (),
        stage: StageId = MAIN,
    ) -> Withdrawn:
        """End a staged release, or the named files of it; what is live by now stays.

        One's own uploads may always be withdrawn, in the stages of the token. The history is written first: a killed
        withdrawal has happened, or not, for each file.
        Raises UnknownRelease, UnknownFile, NotGranted, ReleaseFrozen while the release is being promoted, StaysLive
        where nothing else is left, Unavailable.
        """
        require(caller, Right.STAGE)
        if not covers_stage(caller, stage):
            raise NotGranted(f"The token {caller.label!r} covers the stages {', '.join(caller.stages)}, not {stage!r}.")
        await reconcile_project(self._documents, self._ledger, project)
        (snapshot,) = await self._ledger.snapshot(project, (stage,))
        files = _of_version(snapshot, version)
        if not files:
            raise UnknownRelease(project, version)
        for name in filenames:
            if name not in {file.filename for file in files}:
                raise UnknownFile(name)
        chosen = [file for file in files if not filenames or file.filename in filenames]
        if any(file.token_id != caller.id for file in chosen):
            taken = await is_taken(
                caller,
                project,
                stage,
                ledger=self._ledger,
                upstream=self._upstream,
                facts_of=self._facts_of,
                no_older_than_s=self._fresh_s,
            )
            require_grant(caller, Right.STAGE, project, stage, on_upstream=taken)
        await check_not_frozen(self._ledger, ReleaseName(project, version))
        ending = Ending(Reason.WITHDRAWN, self._now_us(), caller.label)
        live = await self._ledger.marked_live()
        leaving = [file for file in chosen if file.upload_id not in live]
        ended = await end(self._documents, self._ledger, project, leaving, ending) if leaving else ()
        live = await self._ledger.marked_live()
        staying = tuple(file for file in chosen if file.upload_id in live)
        if staying and not ended:
            raise await self._stays(staying, f"{project}=={version}", all_of_it=len(staying) == len(files))
        return Withdrawn(ended, staying)

    async def _stays(self, staying: Sequence[StagedFile], release: str, *, all_of_it: bool) -> StaysLive:
        records = [await read_record(self._documents, file.project, file.upload_id) for file in staying]
        since_us = [record.live_since_us for record in records if record is not None and record.live_since_us]
        what = release if all_of_it else ", ".join(file.filename for file in staying)
        return StaysLive(what, since=second_words(min(since_us)) if since_us else "")

    async def _see(self, project: NormalizedName, stage: StageId) -> "_Seen":
        """Read what decides the standings of a project's files, once for all of them."""
        facts = await self._facts_of(await self._upstream.known(project))
        return facts, await self._ledger.snapshot(project, (stage,))


async def _entries(
    project: NormalizedName, files: Sequence[StagedFile], facts: PageFacts | None
) -> tuple[StagedEntry, ...]:
    """Say how a project's files stand, each beside those of its own stage."""
    if len(files) <= _JUDGED_INLINE:
        return _judged(project, files, facts)
    return await in_thread(_judged, project, files, facts)


def _judged(project: NormalizedName, files: Sequence[StagedFile], facts: PageFacts | None) -> tuple[StagedEntry, ...]:
    judges = {stage: judge(facts, (_of_stage(project, stage, files),)) for stage in {file.stage for file in files}}
    return tuple(StagedEntry(file, judges[file.stage](file)) for file in files)


def _of_stage(project: NormalizedName, stage: StageId, files: Sequence[StagedFile]) -> StageSnapshot:
    return StageSnapshot(project, stage, NOTHING_STAGED, tuple(file for file in files if file.stage == stage))


def _of_version(snapshot: StageSnapshot, version: str) -> list[StagedFile]:
    """Return the files of a release: 1.0 and 1.0.0 are the same one, as they are at PyPI."""
    canonical = canonical_version(version)
    return [file for file in snapshot.files if canonical_version(file.version) == canonical]
