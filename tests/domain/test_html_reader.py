"""Reading project pages in HTML."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain import html_reader
from overlay.domain.errors import UpstreamCorrupt
from overlay.domain.page import File, ProjectStatus

DATA = Path(__file__).parents[1] / "data"
BASE = "https://index.example/simple/demo/"
META = '<meta name="pypi:repository-version" content="1.0">'


def files(body: str) -> tuple[File, ...]:
    return html_reader.read(body.encode(), BASE, None).files


def test_a_real_page() -> None:
    """PyPI's page gives as many files as it has anchors."""
    body = gzip.decompress((DATA / "packaging.html.gz").read_bytes())
    page = html_reader.read(body, "https://pypi.org/simple/packaging/", "utf-8")
    assert page.name == "packaging"
    assert len(page.files) == body.count(b"<a ")
    assert page.files[-1].filename == "packaging-26.3.tar.gz"
    assert page.files[-1].requires_python == ">=3.9"


def test_every_attribute_is_read() -> None:
    """All that HTML can say of a file becomes part of the noun."""
    (file,) = files(
        '<a href="../../f/demo-1.0%2Bx-py3-none-any.whl#sha256=AA" data-requires-python="&gt;=3.8" data-yanked="bad"'
        ' data-core-metadata="sha256=bb" data-gpg-sig="true" data-provenance="https://x/p" data-size="12"'
        ' data-upload-time="2024-01-02T03:04:05Z">demo</a>'
    )
    assert file == File(
        filename="demo-1.0+x-py3-none-any.whl",
        url="https://index.example/f/demo-1.0%2Bx-py3-none-any.whl",
        hashes={"sha256": "aa"},
        requires_python=">=3.8",
        core_metadata={"sha256": "bb"},
        gpg_sig=True,
        yanked="bad",
        size=12,
        upload_time="2024-01-02T03:04:05Z",
        provenance="https://x/p",
    )


def test_yanked_without_a_reason() -> None:
    """PEP 592: the presence of the attribute says it."""
    assert files('<a href="d-1.zip" data-yanked>x</a>')[0].yanked is True
    assert files('<a href="d-1.zip" data-yanked="">x</a>')[0].yanked is True
    assert files('<a href="d-1.zip">x</a>')[0].yanked is False


def test_the_base_element_counts() -> None:
    """Relative addresses are relative to `<base href>` where there is one."""
    page = '<html><head><base href="/files/"></head><body><a href="d-1.zip">x</a></body></html>'
    assert files(page)[0].url == "https://index.example/files/d-1.zip"


def test_links_that_are_no_files_are_passed_over() -> None:
    """An nginx listing has links to its parent, pages have links to home pages."""
    found = files('<a href="../">..</a><a href="https://x/">home</a><a href="mailto:a@b">m</a><a href="d-1.zip">d</a>')
    assert [file.filename for file in found] == ["d-1.zip"]


def test_status_is_read() -> None:
    """PEP 792's words in HTML."""
    page = html_reader.read(
        (
            META + '<meta name="pypi:project-status" content="archived">'
            '<meta name="pypi:project-status-reason" content="done">'
        ).encode(),
        BASE,
        None,
    )
    assert page.files == ()
    assert page.status == ProjectStatus(status="archived", reason="done")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Please log in</body></html>",
        b'<html><body><a href="d-1.zip">d</a>',
        b'<a href="d-1.zip">d',
        b'<a href="d-1.zip">d</a><a href="d-2',
        b'<meta name="pypi:repository-version" content="2.0"><a href="d-1.zip">d</a>',
        b'<a href="d-1.zip">\xff</a>',
    ],
)
def test_what_is_no_whole_page_is_corrupt(body: bytes) -> None:
    """A login form, half a page or a foreign major version is an error, never a page with fewer files."""
    with pytest.raises(UpstreamCorrupt):
        html_reader.read(body, BASE, None)


def test_an_unknown_charset_is_corrupt() -> None:
    """A content type may name any nonsense."""
    with pytest.raises(UpstreamCorrupt, match="klingon"):
        html_reader.read(b"<a href=d-1.zip>d</a>", BASE, "klingon")


@given(st.binary(max_size=200) | st.text("<>/ahref=\"'&;#.zip -!", max_size=60).map(str.encode))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    """Whatever upstream sends, it is a page or it is corrupt."""
    try:
        html_reader.read(body, BASE, None)
    except UpstreamCorrupt:
        return
