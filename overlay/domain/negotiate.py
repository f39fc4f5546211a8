"""Content negotiation of the simple API (PEP 691, RFC 9110 §12.5).

The order inside Accept has no meaning, only q-values do. A client that names the JSON type gets it when its q is at
least that of HTML; whoever says only `*/*`, or nothing, gets text/html as from PyPI (hatch, curl and browsers rely on
it). Nothing acceptable: text/html too, as PyPI does, unless Accept excludes all three types with q=0 (then 406).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from overlay.domain.errors import NotAcceptable
from overlay.domain.page import Encoding, Format

_JSON: Final = ("application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.latest+json")
_HTML_V1: Final = ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.latest+html")
_HTML: Final = ("text/html",)
_BY_QUERY: Final = {
    **dict.fromkeys(_JSON, Format.JSON),
    **dict.fromkeys(_HTML_V1, Format.HTML_V1),
    "text/html": Format.HTML,
}


@lru_cache(maxsize=1024)
def page_format(accept: str | None, query: str | None = None) -> Format:
    """Choose the representation; `query` is the value of `?format=`, which wins. Raises NotAcceptable."""
    if query is not None:
        chosen = _BY_QUERY.get(query.replace(" ", "+"))  # a literal + in a query string means a space
        if chosen is None:
            raise NotAcceptable
        return chosen
    ranges = _quality_values(accept or "*/*")
    json, html_v1, html = (_quality(ranges, names) for names in (_JSON, _HTML_V1, _HTML))
    best_html = max(html_v1 or 0.0, html or 0.0)
    if json and json >= best_html and any(name in ranges for name in _JSON):
        return Format.JSON
    if html_v1 and html_v1 >= (html or 0.0) and any(name in ranges for name in _HTML_V1):
        return Format.HTML_V1
    for quality, covered in ((html, Format.HTML), (json, Format.JSON), (html_v1, Format.HTML_V1)):
        if quality:  # covered by a wildcard, or named
            return covered
    for quality, fallback in ((html, Format.HTML), (html_v1, Format.HTML_V1), (json, Format.JSON)):
        if quality is None:
            return fallback
    raise NotAcceptable


@lru_cache(maxsize=1024)
def prefers_json(accept: str | None) -> bool:
    """Say whether an answer that is no page goes out as application/json: when it is named and no less than text."""
    ranges = _quality_values(accept or "*/*")
    named = [ranges[name] for name in ("application/json", "application/problem+json") if name in ranges]
    others = [q for name, q in ranges.items() if name.startswith("text/")]
    return bool(named) and max(named) > 0 and max(named) >= max(others, default=0.0)


@lru_cache(maxsize=1024)
def content_encoding(accept_encoding: str | None, offered: Sequence[Encoding]) -> Encoding:
    """Choose a coding among those offered (the preferred first); identity when none fits (RFC 9110 §12.5.3)."""
    if accept_encoding is None:
        return Encoding.IDENTITY
    ranges = _quality_values(accept_encoding)
    best, best_quality = Encoding.IDENTITY, ranges.get("identity", 0.0)
    for encoding in reversed(offered):
        quality = ranges.get(encoding.value, ranges.get("*", 0.0))
        if quality > 0 and quality >= best_quality:
            best, best_quality = encoding, quality
    return best


def _quality(ranges: dict[str, float], names: Sequence[str]) -> float | None:
    """Return the q of the most specific range that covers the type; None where none does."""
    named = [ranges[name] for name in names if name in ranges]
    if named:
        return max(named)
    family = names[0].partition("/")[0] + "/*"
    return ranges.get(family, ranges.get("*/*"))


def _quality_values(header: str) -> dict[str, float]:
    ranges: dict[str, float] = {}
    for item in header.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name:
            ranges[name.lower()] = _weight(parameters)
    return ranges


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
