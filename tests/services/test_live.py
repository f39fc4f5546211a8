"""What upstream's page says of a release."""

import pytest

from overlay.domain.page_facts import PageFacts
from overlay.services.live import live_release


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
    facts = PageFacts(
        sha256_of={},
        yanked={},
        versions=frozenset({"1.0"}),
        first_upload={"1.0": upload_time},
        sdists={},
        status=None,
    )
    assert live_release(facts, "1.0").first_upload_s == first_upload_s
