"""What upstream's page says of a release."""

from dataclasses import replace

import pytest

from overlay.domain.names import canonical_version
from overlay.domain.page_facts import PageFacts
from overlay.domain.rules import LiveRelease
from overlay.services.live import live_release

NOTHING = PageFacts(
    sha256_of={},
    filename_of={},
    yanked={},
    versions=frozenset(),
    first_upload={},
    sdists={},
    status=None,
)
ONE = canonical_version("1.0")


@pytest.mark.parametrize(
    ("upload_time", "first_upload_s"),
    [
        ("2024-01-02T03:04:05.5Z", 1_704_164_645.5),
        ("2024-01-02T05:04:05+02:00", 1_704_164_645.0),
        ("2024-01-02T03:04:05", 1_704_164_645.0),  # PEP 700 asks for the Z; without it, UTC is meant
        ("", None),
        ("yesterday", None),
        ("2024-13-02T03:04:05Z", None),
    ],
)
def test_a_time_that_is_none_is_unknown(upload_time: str, first_upload_s: float | None) -> None:
    """Upstream's nonsense fails no page."""
    facts = replace(NOTHING, versions=frozenset({ONE}), first_upload={ONE: upload_time})
    assert live_release(facts, "1.0").first_upload_s == first_upload_s


@pytest.mark.parametrize("spelled", ["1", "1.0", "1.0.0"])
def test_a_release_is_found_by_every_spelling_of_its_version(spelled: str) -> None:
    """PyPI has one release for all of them: one sdist, one age."""
    facts = replace(
        NOTHING,
        versions=frozenset({ONE}),
        first_upload={ONE: "1970-01-01T00:01:00Z"},
        sdists={ONE: "demo-1.0.tar.gz"},
        filename_of={"ab": "demo-1.0.tar.gz"},
    )
    assert live_release(facts, spelled) == LiveRelease(
        exists=True,
        first_upload_s=60.0,
        sdist="demo-1.0.tar.gz",
        project_exists=True,
        filename_of={"ab": "demo-1.0.tar.gz"},
    )
    assert not live_release(facts, "1.0.1").exists
