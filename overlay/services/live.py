"""What upstream has of a release, in the terms that the rules ask for."""

from datetime import datetime

from overlay.domain.page_facts import PageFacts
from overlay.domain.rules import LiveRelease


def live_release(facts: PageFacts | None, version: str) -> LiveRelease:
    """Read a version off upstream's facts; None stands for a project that upstream does not have."""
    if facts is None:
        return LiveRelease(exists=False, first_upload_s=None, sdist=None, project_exists=False, status=None)
    first = facts.first_upload.get(version)
    return LiveRelease(
        exists=version in facts.versions,
        first_upload_s=datetime.fromisoformat(first).timestamp() if first is not None else None,
        sdist=facts.sdists.get(version),
        project_exists=True,
        status=facts.status,
    )
