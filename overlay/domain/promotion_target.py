"""Where a promotion goes, and whose rules hold there, by the operator's `[upstream]`."""

from typing import Final
from urllib.parse import urlsplit

from overlay.domain.promotion import Promotion
from overlay.domain.promotion_errors import Refusal
from overlay.domain.promotion_plan import Rules
from overlay.domain.public_indexes import index_at

_UPLOAD_URLS: Final = {
    "https://pypi.org/simple": "https://upload.pypi.org/legacy/",
    "https://test.pypi.org/simple": "https://test.pypi.org/legacy/",
}


def target_of(simple_url: str, upload_url: str) -> str:
    """Return the upload URL; "" where nobody said where files of this upstream go.

    Only PyPI's own is known without being told: a private package must not go there because a key was forgotten.
    """
    return upload_url or _UPLOAD_URLS.get(simple_url.rstrip("/"), "")


def retargeted(promotion: Promotion, target: str) -> Refusal:
    """Refuse to go on with a promotion that went somewhere else until the operator changed that."""
    releases = " ".join(map(str, promotion.releases))
    return Refusal(
        rule="target",
        filename="",
        sentence=f"The promotion under way goes to {promotion.target}, and files of this overlay go to {target} since. "
        f"Set [upstream] upload_url back to end it, or give it up: overlay promote --abandon {releases}",
    )


def rules_at(target: str, chosen: str) -> Rules:
    """Return the rules at the target: the chosen ones, else what its host is known by."""
    if chosen:
        return Rules(chosen)
    return Rules.PLAIN if index_at(urlsplit(target).hostname or "") is None else Rules.PYPI
