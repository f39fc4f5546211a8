"""The preflight of a promotion: what is to be pushed, and every reason against it (design §7).

Theory. A pledge is settled by comparison: upstream has these bytes under the name (done), they are staged (to be
pushed), or neither (a refusal). What is certain is never let pass: other bytes, live or staged, a quarantine, names
that somebody else has on upstream. What a rule of the target says may be ignored by wish, and then stands in the
receipt. Under `plain` there are no rules of the target but its project's status.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from overlay.domain import filenames
from overlay.domain.findings import Finding, Severity, error
from overlay.domain.listing import Standing, standing
from overlay.domain.names import ReleaseName
from overlay.domain.page_facts import ARCHIVED, PageFacts
from overlay.domain.promotion import IgnoredFinding, Promotion
from overlay.domain.promotion_errors import Refusal
from overlay.domain.rules import judge_release
from overlay.domain.rules_release import NEW_PROJECT, PROJECT_ARCHIVED, PROJECT_QUARANTINED, LiveRelease
from overlay.domain.stage import StagedFile, StageSnapshot

NO_TARGET: Final = Refusal(
    rule="target",
    filename="",
    sentence="This overlay was not told where files of its upstream are uploaded to, so nothing is promoted. Its "
    "operator sets [upstream] upload_url (OVERLAY_UPSTREAM_UPLOAD_URL).",
)


class Rules(StrEnum):
    """Whose rules hold at the target."""

    PYPI = "pypi"
    PLAIN = "plain"
    """Only what is certain: digests, the name taken, the project's status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One release that is to be promoted, with all that decides about it."""

    release: ReleaseName
    """Of the spellings of its version that are promoted, the first."""
    pledges: Mapping[str, str]
    """Filename to sha256, of this release's files."""
    staged: Sequence[StagedFile]
    """What the stage has of the release."""
    snapshot: StageSnapshot
    """Everything that the stage has of the project."""
    upstream: PageFacts | None
    """None: upstream has no such project."""
    live: LiveRelease
    findings: Mapping[str, Sequence[Finding]]
    """What the target says about the files themselves, by filename."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What the preflight found; with refusals nothing of the plan may be pushed."""

    files: tuple[StagedFile, ...] = ()
    """Pledged, staged and not live: to be pushed; in order of their names."""
    live: tuple[str, ...] = ()
    """Names of pledged files that are live with the pledged digest."""
    refusals: tuple[Refusal, ...] = ()
    ignored: tuple[IgnoredFinding, ...] = ()
    warnings: tuple[str, ...] = ()


def assign(
    releases: Collection[ReleaseName], pledges: Mapping[str, str]
) -> tuple[Mapping[ReleaseName, Mapping[str, str]], tuple[Refusal, ...]]:
    """Give each release its pledges. Raises BadUpload for what is no name of a distribution file.

    Releases whose versions are equal (1.0 and 1.0.0) are one, here as at the target.
    """
    assigned: dict[ReleaseName, dict[str, str]] = {release: {} for release in sorted(releases)}
    refusals = []
    for filename in sorted(pledges):
        named = filenames.parse(filename)
        release = ReleaseName(named.project, named.version)
        if release in assigned:
            assigned[release][filename] = pledges[filename]
        else:
            refusals.append(_outside(release, filename))
    refusals += [_nothing_named(release) for release, named_files in assigned.items() if not named_files]
    return assigned, tuple(refusals)


def preflight(
    candidate: Candidate, *, rules: Rules, partial: bool, ignore_rules: Collection[str], now_s: float
) -> Preflight:
    """Decide about one release. `now_s` is in seconds since the epoch.

    Every pledge ends in exactly one of `files`, `live` and `refusals`. Of `ignore_rules` only the target's count.
    """
    if candidate.upstream is not None and candidate.upstream.quarantined:
        return Preflight(refusals=(_quarantined(candidate.release),))
    files, live, refusals = _settled(candidate)
    if not partial:
        refusals += _not_named(candidate)
    said = list(_said(candidate, files, rules, now_s))
    errors = [(filename, found) for filename, found in said if found.severity is Severity.ERROR]
    return Preflight(
        files=tuple(files),
        live=tuple(live),
        refusals=(
            *refusals,
            *(_refused(filename, found) for filename, found in errors if found.rule not in ignore_rules),
        ),
        ignored=tuple(
            IgnoredFinding(rule=found.rule, filename=filename, sentence=found.sentence)
            for filename, found in errors
            if found.rule in ignore_rules
        ),
        warnings=tuple(_warnings(said)),
    )


def differing(promotion: Promotion, filenames: Iterable[str]) -> Iterator[Refusal]:
    """Refuse to take a promotion up with other files than it has: those of these names differ."""
    planned = {file.filename: file for file in promotion.files}
    releases = " ".join(map(str, promotion.releases))
    for filename in sorted(filenames):
        file = planned.get(filename)
        how = "without this file" if file is None else f"with the sha256 {file.sha256} of it"
        yield Refusal(
            rule="promotion-differs",
            filename=filename,
            sentence=f"{filename}: these releases are being promoted {how}, by {promotion.who}. Repeat the command "
            f"that began it, or give it up: overlay promote --abandon {releases}",
        )


def _settled(candidate: Candidate) -> tuple[list[StagedFile], list[str], list[Refusal]]:
    """Compare every pledge with upstream and with what is staged."""
    staged = {file.filename: file for file in candidate.staged}
    sha256_of = {} if candidate.upstream is None else candidate.upstream.sha256_of
    files, live, refusals = [], [], []
    for filename, pledged in sorted(candidate.pledges.items()):
        file = staged.get(filename)
        if filename in sha256_of:
            if sha256_of[filename] == pledged:
                live.append(filename)
            else:
                refusals.append(_other_bytes_live(filename, sha256_of[filename], pledged))
        elif file is None:
            refusals.append(_not_staged(filename))
        elif file.sha256 != pledged:
            refusals.append(_built_again(file, pledged))
        elif _stands(candidate, file) is Standing.FOREIGN:
            refusals.append(_foreign(file))
        else:
            files.append(file)
    return files, live, refusals


def _not_named(candidate: Candidate) -> list[Refusal]:
    """Refuse what is staged beside the pledged files; a copy of what is live has stepped back already."""
    return [
        Refusal(
            rule="not-named",
            filename=file.filename,
            sentence=f"{file.filename} is staged for {candidate.release} and was not named. Name it, too, withdraw it, "
            "or leave it out with --partial.",
        )
        for file in candidate.staged
        if file.filename not in candidate.pledges and _stands(candidate, file) is not Standing.LIVE
    ]


def _stands(candidate: Candidate, file: StagedFile) -> Standing:
    return standing(file, candidate.upstream, (candidate.snapshot,))


def _said(
    candidate: Candidate, files: Sequence[StagedFile], rules: Rules, now_s: float
) -> Iterator[tuple[str, Finding]]:
    """Yield what the target says, with the file's name, or "" for what is about several files of the release."""
    if rules is Rules.PLAIN:
        if files and candidate.live.status == ARCHIVED:
            yield "", error(PROJECT_ARCHIVED, f"{candidate.release.project} is archived upstream; unarchive it first.")
        return
    for file in files:
        for found in candidate.findings.get(file.filename, ()):
            yield file.filename, found
    about: dict[Finding, list[str]] = {}
    for file in files:
        # What is staged and left out (--partial) does not count: only what is pushed meets at the target.
        for found in judge_release(file, siblings=files, live=candidate.live, now_s=now_s):
            about.setdefault(found, []).append(file.filename)
    for found, names in about.items():
        yield names[0] if len(names) == 1 else "", found


def _warnings(said: Iterable[tuple[str, Finding]]) -> Iterator[str]:
    for filename, found in said:
        if found.severity is not Severity.ERROR:
            # That a project is new is about the project, however few of its files are pushed.
            yield f"{filename}: {found.sentence}" if filename and found.rule != NEW_PROJECT else found.sentence


def _refused(filename: str, found: Finding) -> Refusal:
    sentence = f"{found.sentence} To push it all the same: --ignore-rule {found.rule}"
    return Refusal(rule=found.rule, filename=filename, sentence=sentence)


def _outside(release: ReleaseName, filename: str) -> Refusal:
    return Refusal(
        rule="outside",
        filename=filename,
        sentence=f"{filename} belongs to {release}, which is not among the releases to promote. Name the release, too, "
        "or leave the file out.",
    )


def _nothing_named(release: ReleaseName) -> Refusal:
    return Refusal(
        rule="nothing-named",
        filename="",
        sentence=f"No file of {release} was named, so there is nothing to promote of it. Name its files, or leave the "
        "release out.",
    )


def _quarantined(release: ReleaseName) -> Refusal:
    return Refusal(
        rule=PROJECT_QUARANTINED,
        filename="",
        sentence=f"{release.project} is quarantined upstream: nothing of it is promoted until upstream lifts that.",
    )


def _other_bytes_live(filename: str, held: str | None, pledged: str) -> Refusal:
    has = f"other bytes (sha256 {held})" if held is not None else "bytes of which it does not say the sha256"
    return Refusal(
        rule="live-differs",
        filename=filename,
        sentence=f"Upstream has {filename} with {has}, not with the ones named ({pledged}). A name that is live is "
        "taken for good: release the change under a new version.",
    )


def _not_staged(filename: str) -> Refusal:
    return Refusal(
        rule="not-staged",
        filename=filename,
        sentence=f"{filename} is neither staged nor live. Stage it first (twine upload), or leave it out.",
    )


def _built_again(file: StagedFile, pledged: str) -> Refusal:
    return Refusal(
        rule="pledge-differs",
        filename=file.filename,
        sentence=f"{file.filename} is staged with the sha256 {file.sha256}, and the one named has {pledged}: dist/ was "
        "built again; use the build job's artifact.",
    )


def _foreign(file: StagedFile) -> Refusal:
    return Refusal(
        rule="foreign-project",
        filename=file.filename,
        sentence=f"{file.filename} was staged with a token for *, but upstream has a project {file.project} with files "
        f"that were never staged here. If it is yours, stage the file again with a token for {file.project}.",
    )
