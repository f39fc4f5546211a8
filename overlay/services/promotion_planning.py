"""Planning a promotion, and taking up one that an earlier run left (design §7).

    the order ► rights ► freezes ─┬─ none ► stage, upstream, reports ► preflight ► freeze ► stage once more ► plan
                                  └─ of these releases ► the same files and digests ► freeze (fence + 1) ► plan

Nothing lasts before the freeze. One without a plan (the process was killed between the two) ends with its lease; who
repeats the order before that takes the same promotion. Between what the preflight saw and the freeze somebody may have
staged another file for the release: so the stage is read once more, frozen.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from overlay.domain.layout import record_prefix, upload_of_document
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import NormalizedName, ReleaseName, UploadId, canonical_version
from overlay.domain.ports import Documents
from overlay.domain.promotion import (
    Freeze,
    IgnoredFinding,
    LivePledge,
    Outcome,
    Promotion,
    PromotionEnding,
    PromotionId,
    Underway,
)
from overlay.domain.promotion_errors import PromotionRefused, Refusal, ReleaseFrozen, StagedChanged
from overlay.domain.promotion_plan import NO_TARGET, Preflight, assign, differing, preflight
from overlay.domain.promotion_target import retargeted
from overlay.domain.promotion_waves import waves
from overlay.domain.quantities import second_words
from overlay.domain.rights import Token
from overlay.domain.stage import StagedFile, StageSnapshot
from overlay.services.at_once import some_at_once
from overlay.services.promotion_attestations import read_attestations
from overlay.services.promotion_finding import find_promotion
from overlay.services.promotion_looks import Seen, Sight, note, noted, on_page, see
from overlay.services.promotion_orders import Planned, PromotionSettings, Wanted
from overlay.services.promotion_papers import put_plan
from overlay.services.promotion_survey import Ground, Survey
from overlay.services.reconcile import reconcile_project

_MICROSECONDS: Final = 1_000_000
_Grounds = Mapping[NormalizedName, Ground]


class Planning:
    """Plans promotions; `now_us` is the clock, `new_id` gives ids that sort by time."""

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
        await some_at_once(lambda project: reconcile_project(self._documents, self._ledger, project), sorted(projects))
        found = await find_promotion(self._documents, self._ledger, wanted)
        grounds = await self._survey.grounds(wanted.stage, projects)
        if isinstance(found, Underway):
            if refusals:
                raise PromotionRefused(refusals)
            return await self._resume(caller, wanted, found, grounds)
        named = {release: pledges for release, pledges in assigned.items() if pledges}
        checked = await self._checked(named, grounds, wanted, *refusals)
        promotion = self._new_id() if found is None else found
        try:
            return await self._begin(caller, wanted, promotion, checked, grounds)
        except ReleaseFrozen:  # since it was looked for: by this very order, sent twice, or by another run
            found = await find_promotion(self._documents, self._ledger, wanted)
            if isinstance(found, Underway):
                return await self._resume(caller, wanted, found, grounds)
            return await self._begin(caller, wanted, found or promotion, checked, grounds)

    async def _begin(
        self, caller: Token, wanted: Wanted, promotion: PromotionId, checked: Sequence[Preflight], grounds: _Grounds
    ) -> Planned:
        files = [file for one in checked for file in one.files]
        live = await self._live(wanted, grounds, {filename for one in checked for filename in one.live})
        warnings = (*dict.fromkeys(said for one in checked for said in one.warnings), *_unused(wanted, checked))
        if not files:
            return _nothing_left(live, warnings)
        known = {
            release
            for release in wanted.releases
            if (facts := grounds[release.project].facts) is not None
            and canonical_version(release.version) in facts.versions
        }
        # All that takes long comes before the freeze, whose lease goes on meanwhile.
        requires = await self._survey.requires(files)
        attestations = await read_attestations(self._documents, files)
        planned = Promotion(
            id=promotion,
            stage=wanted.stage,
            target=self._settings.target,
            files=waves(files, requires=requires, known=known),
            who=caller.label,
            token_id=caller.id,
            planned_at_us=self._now_us(),
            holder=wanted.holder,
            fence=1,
            ignored=tuple(found for one in checked for found in one.ignored),
            already_live=live,
        )
        freeze = await self._freeze(planned, durable=False)
        await self._check_frozen(freeze, planned, grounds)
        planned = replace(planned, fence=freeze.fence, beside=await self._beside(freeze))
        await put_plan(self._documents, planned)
        return Planned(
            held=Underway(promotion=planned, journal={}, freeze=freeze),
            already_live=live,
            warnings=warnings,
            new_projects=_new(planned, grounds),
            attestations=attestations,
        )

    async def _resume(self, caller: Token, wanted: Wanted, held: Underway, grounds: _Grounds) -> Planned:
        promotion, freeze = held.promotion, held.freeze
        assert freeze is not None
        planned = {file.filename: file.sha256 for file in promotion.files}
        others = wanted.pledges.keys() - planned.keys()
        live = await self._live(wanted, grounds, others)
        different = {name for name in planned if wanted.pledges.get(name) != planned[name]}
        different |= others - {file.filename for file in live}
        if different:
            raise PromotionRefused(tuple(differing(promotion, different)))
        if promotion.target != self._settings.target:
            raise PromotionRefused([retargeted(promotion, self._settings.target)])
        sights = await see(promotion, {project: ground.page for project, ground in grounds.items()})
        ignored = await self._check_rest(wanted, promotion, sights, grounds)
        attestations = await read_attestations(self._documents, promotion.files)
        overtakes = freeze.holder != wanted.holder
        taken = replace(
            promotion,
            who=caller.label,
            token_id=caller.id,
            holder=wanted.holder,
            # Counted by the ledger; this is for one that lost the freeze, or the last fences, since.
            fence=max(freeze.fence, promotion.fence) + (1 if overtakes else 0),
            ignored=tuple(dict.fromkeys((*promotion.ignored, *ignored))),
            already_live=_each_once(*promotion.already_live, *live),
        )
        freeze = await self._freeze(taken, durable=held.durable)
        taken = replace(taken, fence=freeze.fence)
        if taken != promotion:
            await put_plan(self._documents, taken)
        held = Underway(promotion=taken, journal=held.journal, freeze=freeze)
        if await note(self._documents, self._ledger, held, sights, who=caller.label, now_us=self._now_us) is not None:
            return _nothing_left(await self._live(wanted, grounds, wanted.pledges))
        began = f"{promotion.who} began it at {second_words(promotion.planned_at_us)}"
        return Planned(
            held=replace(held, journal=noted(held, sights, now_us=self._now_us())),
            already_live=live,
            warnings=(f"Takes up a promotion that is under way: {began}.",) if overtakes else (),
            new_projects=_new(promotion, grounds),
            attestations=attestations,
        )

    async def _check_rest(
        self, wanted: Wanted, promotion: Promotion, sights: Iterable[Sight], grounds: _Grounds
    ) -> tuple[IgnoredFinding, ...]:
        """Judge what is not live yet as if it were planned now; return what was ignored. Raises PromotionRefused.

        What the first run left out (--partial) or ignored is left out and ignored still.
        """
        rest: dict[ReleaseName, dict[str, str]] = {}
        for sight in sights:
            if sight.seen is not Seen.LIVE:
                rest.setdefault(sight.file.release, {})[sight.file.filename] = sight.file.sha256
        ignore_rules = wanted.ignore_rules.union(found.rule for found in promotion.ignored)
        checked = await self._checked(rest, grounds, replace(wanted, partial=True, ignore_rules=ignore_rules))
        return tuple(found for one in checked for found in one.ignored)

    async def _checked(
        self, assigned: Mapping[ReleaseName, Mapping[str, str]], grounds: _Grounds, wanted: Wanted, *said: Refusal
    ) -> list[Preflight]:
        """Run the preflight of every release. Raises PromotionRefused, also for what was `said` before."""
        checked = [
            preflight(
                candidate,
                rules=self._settings.rules,
                partial=wanted.partial,
                ignore_rules=wanted.ignore_rules,
                now_s=self._now_us() / _MICROSECONDS,
            )
            for candidate in await self._survey.candidates(assigned, grounds, self._settings.rules)
        ]
        refusals = (*said, *(refusal for one in checked for refusal in one.refusals))
        if refusals:
            raise PromotionRefused(refusals)
        return checked

    async def _freeze(self, promotion: Promotion, *, durable: bool) -> Freeze:
        until_us = self._now_us() + self._settings.lease_s * _MICROSECONDS
        return await self._ledger.freeze(promotion.freeze(until_us=until_us, durable=durable))

    async def _check_frozen(self, freeze: Freeze, planned: Promotion, grounds: _Grounds) -> None:
        """Compare what is frozen with the plan, and what is staged of it now with what the preflight saw.

        A freeze that was made before, and whose plan was never written, may be of something else. Raises StagedChanged.
        """
        if {*freeze.uploads} == {file.upload_id for file in planned.files} and freeze.releases == planned.releases:
            projects = dict.fromkeys(release.project for release in freeze.releases)
            now = [(await self._ledger.snapshot(project, (freeze.stage,)))[0] for project in projects]
            if all(_uploads(one, freeze) == _uploads(grounds[one.project].snapshot, freeze) for one in now):
                return
        ending = PromotionEnding(outcome=Outcome.ABANDONED, at_us=self._now_us(), who=freeze.who)
        # It is durable where this very order was sent again, answered, and begun meanwhile.
        await self._ledger.thaw(freeze.promotion, ending, unless_durable=True)
        raise StagedChanged(", ".join(map(str, planned.releases)))

    async def _beside(self, freeze: Freeze) -> tuple[UploadId, ...]:
        """Return what is staged of its releases, now that they are frozen, and is not promoted.

        Whatever is staged has a record; so the records of its projects name it, in whatever stage.
        """
        staged: set[UploadId] = set()
        for project in {release.project for release in freeze.releases}:
            listed = [upload_of_document(key) async for key in self._documents.keys(record_prefix(project))]
            entries = await self._ledger.entries(project, listed)
            files = [entry for entry in entries if isinstance(entry, StagedFile)]
            staged.update(file.upload_id for file in files if file.release in freeze.releases)
        return tuple(sorted(staged.difference(freeze.uploads)))

    async def _live(self, wanted: Wanted, grounds: _Grounds, filenames: Collection[str]) -> tuple[LivePledge, ...]:
        """Return those of the files that upstream has with the pledged digest."""
        live = []
        for ground in grounds.values():
            for filename, found in (await on_page(ground.page, filenames)).items():
                if found.sha256 is not None and found.sha256 == wanted.pledges[filename]:
                    live.append(LivePledge(filename=filename, sha256=found.sha256, url=found.url))
        return tuple(sorted(live, key=lambda file: file.filename))


def _each_once(*live: LivePledge) -> tuple[LivePledge, ...]:
    """Order them by name; of two with one name the later counts."""
    named = {file.filename: file for file in live}
    return tuple(named[filename] for filename in sorted(named))


def _nothing_left(live: tuple[LivePledge, ...], warnings: Iterable[str] = ()) -> Planned:
    return Planned(held=None, already_live=live, warnings=tuple(warnings), new_projects=(), attestations={})


def _new(promotion: Promotion, grounds: _Grounds) -> tuple[NormalizedName, ...]:
    """Name the projects that upstream does not have."""
    projects = dict.fromkeys(file.project for file in promotion.files)
    return tuple(project for project in projects if grounds[project].facts is None)


def _uploads(snapshot: StageSnapshot, freeze: Freeze) -> set[UploadId]:
    return {file.upload_id for file in snapshot.files if file.release in freeze.releases}


def _unused(wanted: Wanted, checked: Iterable[Preflight]) -> Iterator[str]:
    used = {found.rule for one in checked for found in one.ignored}
    for rule in sorted(wanted.ignore_rules - used):
        yield f"Nothing was found by the rule {rule}, which was to be ignored."
