"""Which upload URLs get a credential."""

import pytest

from overlay.domain.promotion_plan import Rules
from overlay.domain.promotion_target import rules_at
from overlay.promote.errors import Ending, Refused
from overlay.promote.hosts import target


@pytest.mark.parametrize(
    ("url", "index"),
    [
        ("https://upload.pypi.org/legacy/", "pypi.org"),
        ("https://UPLOAD.pypi.org:443/legacy/", "pypi.org"),
        ("https://pypi.org/legacy/", "pypi.org"),
        ("https://test.pypi.org/legacy/", "test.pypi.org"),
        ("https://upload.pypi.org.evil.test/legacy/", None),
        ("https://index.example/pypi/upload", None),
        ("http://127.0.0.1:8080/legacy/", None),
        ("http://[::1]:8080/legacy/", None),
        ("http://localhost/legacy/", None),
    ],
)
def test_targets(url: str, index: str | None) -> None:
    """Https anywhere, http on this machine only; the public indexes are known by their exact host."""
    assert target(url).index == index


@pytest.mark.parametrize("host", ["pypi.org", "upload.pypi.org", "test.pypi.org", "index.example"])
def test_whose_rules_hold_and_whose_tokens_fit_is_one_question(host: str) -> None:
    """Else a token of PyPI's would go there while nobody asks what PyPI refuses."""
    url = f"https://{host}/legacy/"
    assert (target(url).index is None) is (rules_at(url, "") is Rules.PLAIN)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "upload.pypi.org/legacy/",
        "http://upload.pypi.org/legacy/",
        "http://localhost.evil.test/",
        "http://127.0.0.1.evil.test/",
        "ftp://index.example/",
        "file:///etc/passwd",
        "https://",
        "https://[::1/",
        "https://user@index.example/",
        "https://user:secret@index.example/",
    ],
)
def test_refused_targets(url: str) -> None:
    """No credential goes elsewhere, and none that stands in the URL is used or shown."""
    with pytest.raises(Refused) as caught:
        target(url)
    assert caught.value.ending is Ending.REFUSED
    assert "secret" not in str(caught.value)
