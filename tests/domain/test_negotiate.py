"""Content negotiation answers every client with the type it expects."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import NotAcceptable
from overlay.domain.negotiate import content_encoding, page_format, prefers_json
from overlay.domain.page import Encoding, Format

V1 = "application/vnd.pypi.simple.v1"
LATEST = "application/vnd.pypi.simple.latest"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (f"{V1}+json, {V1}+html; q=0.1, text/html; q=0.01", Format.JSON),  # pip, pdm
        (f"{V1}+json, {V1}+html;q=0.2, text/html;q=0.01", Format.JSON),  # uv
        (f"{V1}+json, */*;q=0.1", Format.JSON),  # poetry
        (f"{V1}+json", Format.JSON),  # bandersnatch
        (f"{V1}+html;q=0.2, {V1}+json, text/html;q=0.01", Format.JSON),  # devpi's mirror
        ("*/*", Format.HTML),  # hatch, curl
        (None, Format.HTML),
        ("", Format.HTML),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format.HTML),  # browsers
        ("text/html", Format.HTML),
        (f"{V1}+html", Format.HTML_V1),
        (f"{LATEST}+json", Format.JSON),
        (f"{LATEST}+html", Format.HTML_V1),
        (f"text/html, {V1}+json", Format.JSON),
        (f"text/html, {V1}+json;q=0.9", Format.HTML),
        (f"{V1}+json;q=0, */*", Format.HTML),
        ("text/html;q=0, application/*", Format.JSON),
        ("application/json", Format.HTML),  # as PyPI does
        (f"{V1}+json;q=nonsense, text/html;q=0.1", Format.HTML),
    ],
)
def test_each_accept_header_gets_its_type(accept: str | None, expected: Format) -> None:
    """Only q-values decide; text/html is the default, JSON for whoever names it."""
    assert page_format(accept) is expected


@pytest.mark.parametrize("accept", ["*/*;q=0", f"{V1}+json;q=0, {V1}+html;q=0, text/html;q=0"])
def test_excluding_all_three_types_is_not_acceptable(accept: str) -> None:
    """406 is for whoever excludes everything."""
    with pytest.raises(NotAcceptable):
        page_format(accept)


@pytest.mark.parametrize(
    ("query", "expected"),
    [(f"{V1}+json", Format.JSON), (f"{V1} json", Format.JSON), (f"{LATEST}+html", Format.HTML_V1)],
)
def test_the_format_parameter_beats_accept(query: str, expected: Format) -> None:
    """PEP 691: the URL parameter wins; a literal + may have become a space."""
    assert page_format("text/html", query) is expected


def test_an_unknown_format_parameter_is_not_acceptable() -> None:
    """A format that does not exist is said, not replaced by another."""
    with pytest.raises(NotAcceptable):
        page_format("*/*", "json")


OFFERED = (Encoding.ZSTD, Encoding.GZIP)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Encoding.IDENTITY),
        ("", Encoding.IDENTITY),
        ("identity", Encoding.IDENTITY),
        ("gzip, deflate", Encoding.GZIP),
        ("gzip, deflate, zstd", Encoding.ZSTD),
        ("zstd;q=0.5, gzip", Encoding.GZIP),
        ("br", Encoding.IDENTITY),
        ("*", Encoding.ZSTD),
        ("gzip;q=0, *;q=0", Encoding.IDENTITY),
        ("gzip;q=0.2, identity", Encoding.IDENTITY),
    ],
)
def test_each_accept_encoding_gets_its_coding(header: str | None, expected: Encoding) -> None:
    """The client's best coding is chosen, ours first among equals."""
    assert content_encoding(header, OFFERED) is expected


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_breaks_negotiation(accept: str, encoding: str) -> None:
    """Any text is answered with a format, or with NotAcceptable."""
    assert content_encoding(encoding, OFFERED) in Encoding
    prefers_json(accept)
    with suppress(NotAcceptable):
        assert page_format(accept) in Format
