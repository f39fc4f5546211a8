"""Planning a promotion, and taking up one that an earlier run left (design §7).

    the order ► rights ► freezes ─┬─ none ► stage, upstream, reports ► preflight ► freeze ► stage once more ► plan
                                  └─ of these releases ► the same files and digests ► freeze (fence + 1) ► plan

Nothing lasts before the freeze. One without a plan (the process was killed between the two) ends with its lease; who
repeats the order before that takes the same promotion. Between what the preflight saw and the freeze somebody may have
staged another file for the release: so the stage is read once more, frozen.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from overlay.domain.errors import DocumentNotFound
from overlay.domain.layout import record_key
from overlay.domain.names import NormalizedName, StageId, UploadId
from overlay.domain.ports import Documents, StageLedger
from overlay.domain.promotion import Freeze, Promotion, PromotionId, ReleaseName, Underway
from overlay.domain.promotion_errors import PromotionRefused, PromotionRunning, ReleaseFrozen, StagedChanged
from overlay.domain.promotion_plan import NO_TARGET, Preflight, Rules, assign, differing, preflight
from overlay.domain.promotion_waves import waves
from overlay.domain.quantities import second_words
from overlay.domain.records import Record, decode
from overlay.domain.rights import Token
from overlay.domain.stage import StageSnapshot
from overlay.services.promotion_looks import on_page
from overlay.services.promotion_papers import clear, put_plan, read_journal, read_plan, read_receipt
from overlay.services.promotion_survey import Ground, Survey
from overlay.services.reconcile import reconcile_project

_MICROSECONDS: Final = 1_000_000
_Grounds = Mapping[NormalizedName, Ground]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionSettings:
    """`[upstream]` and `[promote]`, as promotions need them."""

    target: str
    """The upload URL; "" where nobody said where files of this upstream go."""
    rules: Rules
    lease_s: int
    absent_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run asks for."""

    releases: frozenset[ReleaseName]
    pledges: Mapping[str, str]
    """Filename to sha256."""
    holder: str
    stage: StageId
    partial: bool = False
    ignore_rules: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePledge:
    """A pledged file that is live with the pledged digest."""

    filename: str
    sha256: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a run has to do; `held` is None when everything pledged is live."""

    held: Underway | None
    already_live: tuple[LivePledge, ...]
    warnings: tuple[str, ...]
    new_projects: tuple[NormalizedName, ...]
    attestations: Mapping[UploadId, str]
    """The JSON texts that were staged with files, for files that have one."""


class Planning:
    """Plans promotions; `now_us` is the clock, `new_id` gives 128 fresh random bits in hex."""

    def __init__(
        self,
        *,
        documents: Documents,
        ledger: StageLedger,
        survey: Survey,
        settings: PromotionSettings,
        now_us: Callable[[], int],
        new_id: Callable[[], PromotionId],
    ) -> None:
        self._documents = documents
        self._ledger = ledger
        self._survey = survey
        self._settings = settings
        self._now_us = now_us
        self._new_id = new_id

    async def plan(self, caller: Token, wanted: Wanted) -> Planned:
        """Plan, or take up what is under way; the same run may ask again.

        Raises BadUpload for a pledge that is no distribution file, NotGranted, PromotionRefused, ReleaseFrozen,
        PromotionRunning, StagedChanged, UpstreamUnavailable, UpstreamCorrupt.
        """
        projects = {release.project for release in wanted.releases}
        assigned, refusals = assign(wanted.releases, wanted.pledges)
        await self._survey.authorize(caller, wanted.stage, projects)
        if not self._settings.target:
            raise PromotionRefused([NO_TARGET])
        for project in sorted(projects):
            await reconcile_project(self._documents, self._ledger, project)
        found = await self._under_way(wanted)
        grounds = await self._survey.grounds(wanted.stage, projects)
        if isinstance(found, Underway):
            if refusals:
                raise PromotionRefused(refusals)
            return await self._resume(caller, wanted, found, grounds)
        promotion = self._new_id() if found is None else found
        checked = [
            preflight(
                await self._survey.candidate(release, pledges, grounds[release.project], self._settings.rules),
                rules=self._settings.rules,
                partial=wanted.partial,
                ignore_rules=wanted.ignore_rules,
                now_s=self._now_us() / _MICROSECONDS,
            )
            for release, pledges in assigned.items()
            if pledges
        ]
        refusals += tuple(refusal for one in checked for refusal in one.refusals)
        if refusals:
            raise PromotionRefused(refusals)
        return await self._begin(caller, wanted, promotion, checked, grounds)

    async def _under_way(self, wanted: Wanted) -> Underway | PromotionId | None:
        """Find the promotion of these releases; only its id where its plan was never written, by this very run."""
        freezes = [freeze for freeze in await self._ledger.freezes() if wanted.releases & set(freeze.releases)]
        for freeze in freezes:
            if await read_receipt(self._documents, freeze.promotion) is not None:
                await clear(self._documents, self._ledger, freeze.promotion)  # whoever ended it was killed before this
                return await self._under_way(wanted)
        if not freezes:
            return None
        freeze = freezes[0]
        if len(freezes) > 1 or freeze.stage != wanted.stage:
            (release, *_) = sorted(wanted.releases & set(freeze.releases))
            raise ReleaseFrozen(str(release), who=freeze.who, since_us=freeze.since_us)
        promotion = await read_plan(self._documents, freeze.promotion)
        if promotion is not None:
            journal = await read_journal(self._documents, freeze.promotion)
            return Underway(promotion=promotion, journal=journal, freeze=freeze)
        if freeze.holder != wanted.holder:
            raise PromotionRunning(freeze.promotion, who=freeze.who, since_us=freeze.since_us, until_us=freeze.until_us)
        return freeze.promotion

    async def _begin(
        self, caller: Token, wanted: Wanted, promotion: PromotionId, checked: Sequence[Preflight], grounds: _Grounds
    ) -> Planned:
        files = [file for one in checked for file in one.files]
        live = await self._live(wanted, grounds, {filename for one in checked for filename in one.live})
        warnings = (*dict.fromkeys(said for one in checked for said in one.warnings), *_unused(wanted, checked))
        if not files:
            return Planned(held=None, already_live=live, warnings=warnings, new_projects=(), attestations={})
        known = {
            release
            for release in wanted.releases
            if (facts := grounds[release.project].facts) is not None and release.version in facts.versions
        }
        planned = Promotion(
            id=promotion,
            stage=wanted.stage,
            target=self._settings.target,
            files=waves(files, requires=await self._survey.requires(files), known=known),
            who=caller.label,
            token_id=caller.id,
            planned_at_us=self._now_us(),
            holder=wanted.holder,
            fence=1,
            ignored=tuple(found for one in checked for found in one.ignored),
        )
        freeze = await self._freeze(planned, durable=False)
        await self._check_unchanged(freeze, grounds)
        planned = replace(planned, beside=await self._beside(freeze))
        await put_plan(self._documents, planned)
        held = Underway(promotion=planned, journal={}, freeze=freeze)
        return await self._planned(held, live, warnings, grounds)

    async def _resume(self, caller: Token, wanted: Wanted, held: Underway, grounds: _Grounds) -> Planned:
        planned = {file.filename: file.sha256 for file in held.promotion.files}
        others = wanted.pledges.keys() - planned.keys()
        live = await self._live(wanted, grounds, others)
        different = {name for name in planned if wanted.pledges.get(name) != planned[name]}
        different |= others - {file.filename for file in live}
        if different:
            raise PromotionRefused(tuple(differing(held.promotion, different)))
        assert held.freeze is not None
        overtakes = held.freeze.holder != wanted.holder
        taken = replace(
            held.promotion,
            who=caller.label,
            token_id=caller.id,
            holder=wanted.holder,
            # Counted by the ledger; this is for one that lost the freeze since it was read.
            fence=held.freeze.fence + (1 if overtakes else 0),
        )
        freeze = await self._freeze(taken, durable=held.durable)
        taken = replace(taken, fence=freeze.fence)
        if taken != held.promotion:
            await put_plan(self._documents, taken)
        began = f"{held.promotion.who} began it at {second_words(held.promotion.planned_at_us)}"
        warnings = (f"Takes up a promotion that is under way: {began}.",) if overtakes else ()
        return await self._planned(
            Underway(promotion=taken, journal=held.journal, freeze=freeze), live, warnings, grounds
        )

    async def _freeze(self, promotion: Promotion, *, durable: bool) -> Freeze:
        until_us = self._now_us() + self._settings.lease_s * _MICROSECONDS
        return await self._ledger.freeze(promotion.freeze(until_us=until_us, durable=durable))

    async def _check_unchanged(self, freeze: Freeze, grounds: _Grounds) -> None:
        """Compare what is staged now, frozen, with what the preflight saw. Raises StagedChanged."""
        for release in freeze.releases:
            (now,) = await self._ledger.snapshot(release.project, (freeze.stage,))
            if _uploads(now, release) != _uploads(grounds[release.project].snapshot, release):
                await self._ledger.thaw(freeze.promotion)
                raise StagedChanged(str(release))

    async def _beside(self, freeze: Freeze) -> tuple[UploadId, ...]:
        """Return what is staged of its releases, now that they are frozen, and is not promoted."""
        files = [file for file in (await self._ledger.index()).files if file.upload_id not in freeze.uploads]
        return tuple(file.upload_id for file in files if ReleaseName(file.project, file.version) in freeze.releases)

    async def _live(self, wanted: Wanted, grounds: _Grounds, filenames: Collection[str]) -> tuple[LivePledge, ...]:
        """Return those of the files that upstream has with the pledged digest."""
        live = []
        for ground in grounds.values():
            for filename, found in (await on_page(ground.page, filenames)).items():
                if found.sha256 is not None and found.sha256 == wanted.pledges[filename]:
                    live.append(LivePledge(filename=filename, sha256=found.sha256, url=found.url))
        return tuple(sorted(live, key=lambda file: file.filename))

    async def _planned(
        self, held: Underway, live: tuple[LivePledge, ...], warnings: Iterable[str], grounds: _Grounds
    ) -> Planned:
        projects = dict.fromkeys(file.project for file in held.promotion.files)
        return Planned(
            held=held,
            already_live=live,
            warnings=tuple(warnings),
            new_projects=tuple(project for project in projects if grounds[project].facts is None),
            attestations=await self._attestations(held.promotion),
        )

    async def _attestations(self, promotion: Promotion) -> Mapping[UploadId, str]:
        found = {}
        for file in promotion.files:
            key = record_key(file.project, file.upload_id)
            try:
                record = decode(key, await self._documents.get(key), Record)
            except DocumentNotFound:  # it ended as live since
                continue
            if record.attestations is not None:
                found[file.upload_id] = record.attestations
        return found


def _uploads(snapshot: StageSnapshot, release: ReleaseName) -> set[UploadId]:
    return {file.upload_id for file in snapshot.files if file.version == release.version}


def _unused(wanted: Wanted, checked: Iterable[Preflight]) -> Iterator[str]:
    used = {found.rule for one in checked for found in one.ignored}
    for rule in sorted(wanted.ignore_rules - used):
        yield f"Nothing was found by the rule {rule}, which was to be ignored."
