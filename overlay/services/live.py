"""What upstream has of a release, in the terms that the rules ask for; and whether it has a project of others."""

from datetime import UTC, datetime

from overlay.domain.ledger_port import StageLedger
from overlay.domain.listing import has_foreign_files
from overlay.domain.names import NormalizedName, StageId, canonical_version
from overlay.domain.page_facts import PageFacts
from overlay.domain.ports import Upstream
from overlay.domain.rights import EVERY_PROJECT, Token, grant_for
from overlay.domain.rules import LiveRelease
from overlay.services.facts import FactsOf


def live_release(facts: PageFacts | None, version: str) -> LiveRelease:
    """Read a version, however spelled, off upstream's facts; None stands for a project that upstream does not have."""
    if facts is None:
        return LiveRelease(exists=False, project_exists=False)
    canonical = canonical_version(version)
    first = facts.first_upload.get(canonical)
    return LiveRelease(
        exists=canonical in facts.versions,
        first_upload_s=_moment_s(first) if first is not None else None,
        sdist=facts.sdists.get(canonical),
        project_exists=True,
        filename_of=facts.filename_of,
        status=facts.status,
    )


async def is_taken(
    caller: Token,
    project: NormalizedName,
    stage: StageId,
    *,
    ledger: StageLedger,
    upstream: Upstream,
    facts_of: FactsOf,
    no_older_than_s: float,
) -> bool:
    """Say whether upstream has the project, where the caller's grant depends on it; else do not ask.

    A project of which upstream has nothing but what is staged here came from here: half promoted, it is still for
    whoever holds `*`. Raises UpstreamUnavailable, UpstreamCorrupt.
    """
    if EVERY_PROJECT not in caller.projects or grant_for(caller, project, on_upstream=True) is not None:
        return True
    facts = await facts_of(await upstream.page(project, no_older_than_s=no_older_than_s))
    if facts is None:
        return False
    return not facts.sha256_of or has_foreign_files(facts, await ledger.snapshot(project, (stage,)))


def _moment_s(upload_time: str) -> float | None:
    """Read upstream's `upload-time`, in seconds since the epoch; None for what is no time."""
    try:
        moment = datetime.fromisoformat(upload_time)
    except ValueError:
        return None
    # PEP 700: the time "MUST" end in Z, as UTC; an index that leaves it out means the same.
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
