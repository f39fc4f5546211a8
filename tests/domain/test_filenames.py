"""The name of an upload becomes a path component: what `parse` returns must be harmless, whatever came in."""

from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import BadUpload
from overlay.domain.filenames import DistributionName, parse

LETTERS = st.text("abzAZ019._-+!/\\ \x00\x7f\r\né%~'\"", max_size=40)
ENDINGS = st.sampled_from([".whl", ".tar.gz", ".zip", "-1.0-py3-none-any.whl", "-1.0.tar.gz", "-1.0.zip", ""])


@given(st.builds(lambda stem, ending: stem + ending, st.one_of(LETTERS, st.text()), ENDINGS))
def test_a_parsed_filename_is_one_harmless_path_component(filename: str) -> None:
    """Whatever the name, it is refused with BadUpload or is one plain component on every system."""
    try:
        name = parse(filename)
    except BadUpload:
        return
    assert name.filename == filename
    assert PurePosixPath(filename).parts == PureWindowsPath(filename).parts == (filename,)
    assert filename.isascii()
    assert filename.isprintable()
    assert quote(filename, safe="+!") == filename
    assert ".." not in filename
    assert filename[0].isalnum()
    assert len(f"{filename}.metadata") <= 255


@pytest.mark.parametrize(
    ("filename", "kind", "project", "version"),
    [
        ("demo-1.0-py3-none-any.whl", "wheel", "demo", "1.0"),
        (
            "My_Demo-1.0.RC1-2b-cp311.cp312-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "wheel",
            "my-demo",
            "1.0rc1",
        ),
        ("demo-1.0+local.1-py3-none-any.whl", "wheel", "demo", "1.0+local.1"),
        ("my.demo-1.0.tar.gz", "sdist", "my-demo", "1.0"),
        ("my-demo-1.0.zip", "sdist", "my-demo", "1.0"),
        ("demo-1!2.0.tar.gz", "sdist", "demo", "1!2.0"),
    ],
)
def test_wheels_and_sdists_are_read(filename: str, kind: str, project: str, version: str) -> None:
    """Kind, project and version are read in their normalized forms."""
    name = parse(filename)
    assert (name.kind, name.project, name.version) == (kind, project, version)


def test_the_spelling_and_the_tags_are_kept() -> None:
    """The rules need the filename's own spelling and every platform."""
    name: DistributionName = parse("My_Demo-1.0.0RC1-py2.py3-none-any.whl")
    assert (name.spelled_project, name.spelled_version) == ("My_Demo", "1.0.0RC1")
    assert {str(tag) for tag in name.tags} == {"py2-none-any", "py3-none-any"}


@pytest.mark.parametrize(
    ("filename", "words"),
    [
        ("", "no name"),
        ("a/demo-1.0.tar.gz", "slash"),
        ("a\\demo-1.0.tar.gz", "slash"),
        ("demo-1.0\n.tar.gz", "cannot be printed"),
        ("demo-1.0\x7f.tar.gz", "cannot be printed"),
        (".demo-1.0.tar.gz", "begins with a dot"),
        ("demo-1..0.tar.gz", "'..'"),
        ("d" * 250 + "-1.0.tar.gz", "longer than"),
        ("démo-1.0.tar.gz", "ASCII"),
        ("-demo-1.0.tar.gz", "letter or digit"),
        ("demo-1.0.tar.bz2", "neither a wheel"),
        ("demo-1.0.WHL", "neither a wheel"),
        ("demo-1.0.whl", "not the filename of a wheel"),
        ("demo-one-py3-none-any.whl", "not the filename of a wheel"),
        ("demo.tar.gz", "not the filename of an sdist"),
        ("demo-one.tar.gz", "not the filename of an sdist"),
        ("demo_-1.0.tar.gz", "valid project name"),
    ],
)
def test_a_bad_filename_is_refused_with_its_reason(filename: str, words: str) -> None:
    """Each mistake has a sentence that names it."""
    with pytest.raises(BadUpload, match=words.replace(".", r"\.")):
        parse(filename)
