"""Project pages as HTML."""

import gzip
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain import html_reader, simple_html, simple_json
from overlay.domain.page import File, ProjectPage
from tests import strategies

DATA = Path(__file__).parents[1] / "data"
BASE = "https://index.example/simple/demo/"


def rendered(file: File) -> str:
    lines = simple_html.render(ProjectPage(name="demo", files=(file,))).decode().splitlines()
    return next(line for line in lines if line.startswith("<a "))


@st.composite
def tellable_files(draw: st.DrawFn) -> File:
    """Files of which HTML can tell all."""
    file = draw(strategies.files(strategies.FILENAMES))
    digest = draw(strategies.DIGESTS)
    return replace(
        file,
        url=f"https://files.example/{quote(file.filename)}",
        hashes={"sha256": digest},
        core_metadata=file.core_metadata or None,
        size=None,
        upload_time=None,
        extra={},
    )


@given(strategies.pages(tellable_files()))
def test_what_html_can_tell_survives_rendering_and_reading(page: ProjectPage) -> None:
    """Names, urls, hashes, markers and status come back, whatever characters they hold."""
    told = replace(page, versions=None, meta={"api-version": "1.0"}, extra={})
    assert html_reader.read(simple_html.render(page), BASE, "utf-8") == told


@given(strategies.pages())
def test_every_anchor_is_one_line(page: ProjectPage) -> None:
    """Hatch reads anchors with a regular expression; nothing in a page breaks out of its attribute."""
    lines = simple_html.render(page).decode().split("\n")
    anchors = [line for line in lines if line.startswith("<a href=")]
    if all("\n" not in repr(file) and "\\n" not in repr(file) for file in page.files):
        assert len(anchors) == len(page.files)
        assert all(re.fullmatch(r'<a( [a-z-]+="[^"<>]*")+>[^<>]*</a><br />', line) for line in anchors)


def test_a_file_with_everything() -> None:
    """The anchor has PyPI's shape: both twins of core metadata, yank, provenance, escaped specifiers."""
    file = File(
        filename="demo-1.0-py3-none-any.whl",
        url="https://files.example/demo-1.0-py3-none-any.whl",
        hashes={"blake2b": "bb", "sha256": "aa"},
        requires_python=">=3.8,<4",
        core_metadata={"sha256": "cc"},
        gpg_sig=False,
        yanked='bad & "ugly"',
        provenance="https://index.example/p",
    )
    assert rendered(file) == (
        '<a href="https://files.example/demo-1.0-py3-none-any.whl#sha256=aa" data-requires-python="&gt;=3.8,&lt;4"'
        ' data-dist-info-metadata="sha256=cc" data-core-metadata="sha256=cc" data-gpg-sig="false"'
        ' data-yanked="bad &amp; &quot;ugly&quot;" data-provenance="https://index.example/p">'
        "demo-1.0-py3-none-any.whl</a><br />"
    )


@pytest.mark.parametrize(
    ("hashes", "fragment"),
    [
        ({"sha1": "aa"}, ""),
        ({"sha224": "aa", "md5": "bb"}, "#md5=bb"),
        ({"sha512": "aa", "sha256": "bb"}, "#sha256=bb"),
        ({}, ""),
    ],
)
def test_only_fragments_that_uv_knows(hashes: dict[str, str], fragment: str) -> None:
    """Uv fails the whole page on sha1 or sha224."""
    file = File(filename="d-1.zip", url="d-1.zip#egg=d", hashes=hashes)
    assert rendered(file) == f'<a href="d-1.zip{fragment}">d-1.zip</a><br />'


def test_a_sidecar_said_only_by_a_legacy_key_is_told() -> None:
    """PyPI's `data-dist-info-metadata` stands in for `core-metadata`."""
    file = File(filename="d-1.whl", url="d-1.whl", hashes={}, extra={"data-dist-info-metadata": {"sha256": "aa"}})
    assert 'data-core-metadata="sha256=aa"' in rendered(file)


def test_a_real_page_has_the_anchors_of_pypi() -> None:
    """Rendered from PyPI's JSON, every file has the address, name and specifier that PyPI's own HTML gives it."""
    page = simple_json.decode(gzip.decompress((DATA / "packaging.json.gz").read_bytes()))
    theirs = html_reader.read(gzip.decompress((DATA / "packaging.html.gz").read_bytes()), BASE, None)
    ours = html_reader.read(simple_html.render(page), BASE, None)

    def facts(page: ProjectPage) -> set[tuple[str, str, str | None, str]]:
        return {(file.filename, file.url, file.requires_python, file.hashes["sha256"]) for file in page.files}

    assert facts(ours) == facts(theirs)
