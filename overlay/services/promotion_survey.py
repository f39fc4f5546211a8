"""What decides about a promotion, read from stage, upstream and reports; and who may promote what."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from overlay.domain.findings import Finding
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import NormalizedName, ReleaseName, StageId
from overlay.domain.page import UpstreamPage
from overlay.domain.page_facts import PageFacts
from overlay.domain.ports import Upstream
from overlay.domain.promotion_plan import Candidate, Rules
from overlay.domain.promotion_waves import Requires, required
from overlay.domain.rights import Right, Token
from overlay.domain.stage import StagedFile, StageSnapshot
from overlay.services.access import require, require_grant
from overlay.services.at_once import some_at_once
from overlay.services.facts import FactsOf
from overlay.services.live import is_taken, live_release
from overlay.services.reports import Reports

_NOW_S: Final = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What there is of one project, upstream and in the stage."""

    page: UpstreamPage
    facts: PageFacts | None
    """None: upstream has no such project."""
    snapshot: StageSnapshot


class Survey:
    """Reads what promotions are decided by, as of now.

    Upstream is asked each time: a page in hand, however fresh for readers, may lack what a promotion just brought there
    and another worker has seen, and the same command would push it once more.
    """

    def __init__(self, *, ledger: StageLedger, upstream: Upstream, facts_of: FactsOf, reports: Reports) -> None:
        self._ledger = ledger
        self._upstream = upstream
        self._facts_of = facts_of
        self._reports = reports

    async def authorize(self, caller: Token, stage: StageId, projects: Collection[NormalizedName]) -> None:
        """Refuse who may not promote all of the projects. Raises NotGranted, UpstreamUnavailable, UpstreamCorrupt."""
        require(caller, Right.PROMOTE)

        async def check(project: NormalizedName) -> None:
            taken = await is_taken(
                caller,
                project,
                stage,
                ledger=self._ledger,
                upstream=self._upstream,
                facts_of=self._facts_of,
                no_older_than_s=_NOW_S,
            )
            require_grant(caller, Right.PROMOTE, project, stage, on_upstream=taken)

        await some_at_once(check, sorted(projects))

    async def grounds(self, stage: StageId, projects: Collection[NormalizedName]) -> Mapping[NormalizedName, Ground]:
        """Read many projects, some at once. Raises UpstreamUnavailable, UpstreamCorrupt."""
        ordered = sorted(projects)
        read = await some_at_once(lambda project: self.ground(stage, project), ordered)
        return dict(zip(ordered, read, strict=True))

    async def ground(self, stage: StageId, project: NormalizedName) -> Ground:
        """Read one project. Raises UpstreamUnavailable, UpstreamCorrupt."""
        page = await self._upstream.page(project, no_older_than_s=_NOW_S)
        (snapshot,) = await self._ledger.snapshot(project, (stage,))
        return Ground(page=page, facts=await self._facts_of(page), snapshot=snapshot)

    async def candidates(
        self,
        assigned: Mapping[ReleaseName, Mapping[str, str]],
        grounds: Mapping[NormalizedName, Ground],
        rules: Rules,
    ) -> tuple[Candidate, ...]:
        """Gather what the preflight asks of releases, each with its files' pledges."""
        staged: dict[ReleaseName, list[StagedFile]] = {release: [] for release in assigned}
        for file in (file for ground in grounds.values() for file in ground.snapshot.files):
            if file.release in staged:
                staged[file.release].append(file)
        findings = await self._findings(assigned, staged) if rules is Rules.PYPI else {}
        return tuple(
            Candidate(
                release=release,
                pledges=pledges,
                staged=tuple(staged[release]),
                snapshot=grounds[release.project].snapshot,
                upstream=grounds[release.project].facts,
                live=live_release(grounds[release.project].facts, release.version),
                findings=findings.get(release, {}),
            )
            for release, pledges in assigned.items()
        )

    async def _findings(
        self,
        assigned: Mapping[ReleaseName, Mapping[str, str]],
        staged: Mapping[ReleaseName, Sequence[StagedFile]],
    ) -> Mapping[ReleaseName, Mapping[str, Sequence[Finding]]]:
        """Read the reports on what is staged as pledged: release to filename to findings."""
        judged = [
            file
            for release, pledges in assigned.items()
            for file in staged[release]
            if pledges.get(file.filename) == file.sha256
        ]
        found: dict[ReleaseName, dict[str, Sequence[Finding]]] = {}
        for file, findings in zip(judged, await some_at_once(self._reports.of, judged), strict=True):
            found.setdefault(file.release, {})[file.filename] = findings
        return found

    async def requires(self, files: Sequence[StagedFile]) -> Requires:
        """Read which projects the files' projects require, where that can matter to their order."""
        lines: dict[NormalizedName, set[str]] = {}
        if len({file.project for file in files}) > 1:
            for file, core in zip(files, await some_at_once(self._reports.core_metadata, files), strict=True):
                lines.setdefault(file.project, set()).update(core.requires_dist)
        return {project: required(one) for project, one in lines.items()}
