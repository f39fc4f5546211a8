"""What upstream has of a release, in the terms that the rules ask for."""

from datetime import UTC, datetime

from overlay.domain.page_facts import PageFacts
from overlay.domain.rules import LiveRelease


def live_release(facts: PageFacts | None, version: str) -> LiveRelease:
    """Read a version off upstream's facts; None stands for a project that upstream does not have."""
    if facts is None:
        return LiveRelease(exists=False, first_upload_s=None, sdist=None, project_exists=False, status=None)
    first = facts.first_upload.get(version)
    return LiveRelease(
        exists=version in facts.versions,
        first_upload_s=_moment_s(first) if first is not None else None,
        sdist=facts.sdists.get(version),
        project_exists=True,
        status=facts.status,
    )


def _moment_s(upload_time: str) -> float | None:
    """Read upstream's `upload-time`, in seconds since the epoch; None for what is no time."""
    try:
        moment = datetime.fromisoformat(upload_time)
    except ValueError:
        return None
    # PEP 700: the time "MUST" end in Z, as UTC; an index that leaves it out means the same.
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
