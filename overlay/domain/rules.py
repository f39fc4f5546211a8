"""The promotability report: what PyPI would say to a staged file, before it is asked.

Theory. `judge` depends on nothing but the file's bytes and its name, so its findings hold per sha256, filename and
RULES_VERSION and may be remembered; `judge_release` depends on what is staged beside it and on upstream now, and is
asked again each time. Numbers like "step 33" are those of legacy-upload §3; quoted words are PyPI's. The rules are
those of one target, PyPI; another index (design §7: target `plain`) has other functions of the same two shapes.
"""

from collections.abc import Sequence

from overlay.domain import rules_archive, rules_metadata, rules_release
from overlay.domain.findings import RULES_VERSION, Finding, Severity
from overlay.domain.metadata import CoreMetadata
from overlay.domain.rules_release import LiveRelease
from overlay.domain.stage import StagedFile

__all__ = ["RULES_VERSION", "Finding", "LiveRelease", "Severity", "judge", "judge_release"]


def judge(file: StagedFile, core: CoreMetadata) -> tuple[Finding, ...]:
    """Report what PyPI refuses about the file itself; may render its description, so run it in a thread."""
    return (*rules_archive.judge(file), *rules_metadata.judge(core))


def judge_release(
    file: StagedFile, *, siblings: Sequence[StagedFile], live: LiveRelease, now_s: float
) -> tuple[Finding, ...]:
    """Report what PyPI refuses about adding the file to its release now.

    `siblings` are the staged files of the same release (whose versions are equal, however spelled), with or without
    `file` itself; `now_s` is in seconds since the epoch.
    """
    return rules_release.judge(file, siblings, live, now_s)
