"""What decides about a promotion, read from stage, upstream and reports; and who may promote what."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from overlay.domain.listing import has_foreign_files
from overlay.domain.names import NormalizedName, StageId
from overlay.domain.page import UpstreamPage
from overlay.domain.page_facts import PageFacts
from overlay.domain.ports import StageLedger, Upstream
from overlay.domain.promotion import ReleaseName
from overlay.domain.promotion_plan import Candidate, Rules
from overlay.domain.promotion_waves import Requires, required
from overlay.domain.rights import EVERY_PROJECT, Right, Token, grant_for
from overlay.domain.stage import StagedFile, StageSnapshot
from overlay.services.access import require, require_grant
from overlay.services.facts import FactsOf
from overlay.services.live import live_release
from overlay.services.reports import Reports

_AT_ONCE: Final = 16  # readers need connections to upstream, too


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
        for project in sorted(projects):
            require_grant(
                caller, Right.PROMOTE, project, stage, on_upstream=await self._is_taken(caller, stage, project)
            )

    async def _is_taken(self, caller: Token, stage: StageId, project: NormalizedName) -> bool:
        """Say whether upstream has the project, where the caller's grant depends on it; else do not ask.

        A project of which upstream has nothing but what is staged here came from here: half promoted, it is still for
        whoever holds `*`.
        """
        if EVERY_PROJECT not in caller.projects or grant_for(caller, project, on_upstream=True) is not None:
            return True
        ground = await self.ground(stage, project)
        if ground.facts is None:
            return False
        return not ground.facts.sha256_of or has_foreign_files(ground.facts, (ground.snapshot,))

    async def grounds(self, stage: StageId, projects: Collection[NormalizedName]) -> Mapping[NormalizedName, Ground]:
        """Read many projects, some at once. Raises UpstreamUnavailable, UpstreamCorrupt."""
        ordered, grounds = sorted(projects), dict[NormalizedName, Ground]()
        for at in range(0, len(ordered), _AT_ONCE):
            some = ordered[at : at + _AT_ONCE]
            read = await asyncio.gather(*(self.ground(stage, project) for project in some))
            grounds |= zip(some, read, strict=True)
        return grounds

    async def ground(self, stage: StageId, project: NormalizedName) -> Ground:
        """Read one project. Raises UpstreamUnavailable, UpstreamCorrupt."""
        page = await self._upstream.page(project, no_older_than_s=0.0)
        (snapshot,) = await self._ledger.snapshot(project, (stage,))
        return Ground(page=page, facts=await self._facts_of(page), snapshot=snapshot)

    async def candidate(
        self, release: ReleaseName, pledges: Mapping[str, str], ground: Ground, rules: Rules
    ) -> Candidate:
        """Gather what the preflight asks of one release."""
        pledged = [
            file
            for file in ground.snapshot.files
            if file.version == release.version and pledges.get(file.filename) == file.sha256
        ]
        judged = pledged if rules is Rules.PYPI else []
        return Candidate(
            release=release,
            pledges=pledges,
            snapshot=ground.snapshot,
            upstream=ground.facts,
            live=live_release(ground.facts, release.version),
            findings={file.sha256: await self._reports.of(file) for file in judged},
        )

    async def requires(self, files: Sequence[StagedFile]) -> Requires:
        """Read which projects the files' projects require, where that can matter to their order."""
        found: dict[NormalizedName, frozenset[NormalizedName]] = {}
        if len({file.project for file in files}) > 1:
            for file in files:
                core = await self._reports.core_metadata(file)
                found[file.project] = found.get(file.project, frozenset()) | required(core.requires_dist)
        return found
