"""Whether what the overlay planned is what was pledged: it does not decide what this job's credential is used for.

Theory. The overlay says what is pushed, and the job's credential lets it be pushed. So before anything is fetched the
plan is compared with the order, which this job formed from its own files: every file of the plan, to be pushed or live
already, has a pledge with its digest and belongs to a release that was named, and every pledge is in the plan. No
option leaves a pledge out: `--partial` is about what is staged and not pledged.

The order of the pushes is checked, too, as far as names tell: whoever installs while an sdist is out before its wheels
builds it from source. Whether a release of a known project is new only the overlay knows.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from overlay.domain.errors import BadUpload
from overlay.domain.filenames import parse
from overlay.domain.names import NormalizedName, ReleaseName
from overlay.domain.wire_promotions import PlanView, PromotedFileView, PromotionOrder
from overlay.promote.answers import one_line
from overlay.promote.errors import Refused


def require_pledged(order: PromotionOrder, plan: PlanView) -> None:
    """Raise Refused, with every difference, unless the plan is exactly what was pledged."""
    if differences := "\n".join(_differences(order, plan)):
        raise Refused(
            f"The overlay's plan is not what was pledged, so nothing is pushed:\n{differences}\nIs OVERLAY_URL the "
            "overlay that you trust? Its operator should hear of this."
        )


def _differences(order: PromotionOrder, plan: PlanView) -> Iterator[str]:
    planned = () if plan.promotion is None else plan.promotion.files
    sha256_of = {pledge.filename: pledge.sha256 for pledge in order.pledges}
    named = [(file.filename, file.sha256) for file in planned]
    named += [(live.filename, live.sha256) for live in plan.already_live]
    shown = Counter(filename for filename, _ in named)
    if plan.promotion is not None and plan.promotion.stage != order.stage:
        yield f"It is for the stage {one_line(plan.promotion.stage)}, not for {order.stage}."
    for filename, digest in named:
        if filename not in sha256_of:
            yield f"{one_line(filename)} was not pledged."
        elif digest != sha256_of[filename]:
            yield f"{filename} has the sha256 {one_line(digest)}; {sha256_of[filename]} was pledged."
        elif shown[filename] > 1:
            yield f"{filename} is in it more than once."
    ordered = {_named(release) for release in order.releases}
    for file in planned:
        if file.filename in sha256_of and _release(file.filename) not in ordered:
            yield f"{file.filename} is of none of the releases to promote."
        elif file.filename in sha256_of and release_of(file) != _release(file.filename):
            yield f"{file.filename} is said to be of {one_line(file.project)} {one_line(file.version)}."
    yield from _too_early([file for file in planned if file.filename in sha256_of], plan.new_projects)
    for filename in sorted(sha256_of.keys() - shown.keys()):
        yield f"{filename} was pledged and is missing."


def _too_early(files: Sequence[PromotedFileView], new_projects: Collection[str]) -> Iterator[str]:
    """Say what would go out before its turn: an sdist comes last, and what creates a project goes alone."""
    if any(later.wave < file.wave for file, later in pairwise(files)):
        yield "Its waves are not in order."
    groups: dict[ReleaseName | None, list[PromotedFileView]] = {}
    for file in files:
        groups.setdefault(_release(file.filename), []).append(file)
    for release, group in groups.items():
        last_wheel = max((file.wave for file in group if _is_wheel(file)), default=-math.inf)
        for file in group:
            if not _is_wheel(file) and file.wave <= last_wheel:
                yield f"{file.filename} would not go out after all wheels of its release."
        first, *others = sorted(group, key=lambda file: file.wave)
        is_new = release is not None and release.project in new_projects
        if is_new and others and others[0].wave == first.wave:
            yield f"{first.filename} would create the release, and not go out alone."


def _is_wheel(file: PromotedFileView) -> bool:
    return file.filename.endswith(".whl")


def release_of(file: PromotedFileView) -> ReleaseName:
    """Return the release that a file is said to be of."""
    return ReleaseName(NormalizedName(file.project), file.version)


def _named(release: str) -> ReleaseName:
    project, _, version = release.partition("==")
    return ReleaseName(NormalizedName(project), version)


def _release(filename: str) -> ReleaseName | None:
    try:
        named = parse(filename)
    except BadUpload:
        return None
    return ReleaseName(named.project, named.version)
