"""Core metadata is read leniently, refused where installers could not use it, and compared with its surroundings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import BadUpload
from overlay.domain.filenames import parse
from overlay.domain.metadata import agree, read, sent

HEAD = b"Metadata-Version: 2.4\nName: My.Demo\nVersion: 1.0.RC1\n"
FULL = (
    HEAD
    + b"""Summary: It demos
Keywords: a,b
Author-email: A <a@example.org>
License-Expression: MIT
License-File: LICENSE
Classifier: Programming Language :: Python
Project-URL: Home, https://example.org/
Requires-Python: >=3.8
Requires-Dist: other>=1
Provides-Extra: all
Dynamic: Requires-Dist
Description-Content-Type: text/markdown

# Demo

Caf\xc3\xa9.
"""
)


def test_every_field_is_read() -> None:
    """The fields come as the file has them; the version is normalized."""
    core = read(FULL)
    assert (core.name, core.project, core.version, core.metadata_version) == ("My.Demo", "my-demo", "1.0rc1", "2.4")
    assert (core.summary, core.keywords, core.author_email) == ("It demos", ("a", "b"), "A <a@example.org>")
    assert (core.license_expression, core.license_files) == ("MIT", ("LICENSE",))
    assert core.classifiers == ("Programming Language :: Python",)
    assert core.project_urls == {"Home": "https://example.org/"}
    assert (core.requires_python, core.requires_dist, core.provides_extra) == (">=3.8", ("other>=1",), ("all",))
    assert (core.dynamic, core.description_content_type) == (("Requires-Dist",), "text/markdown")
    assert core.description == "# Demo\n\nCafé.\n"
    assert core.unreadable == ()


def test_a_multipart_body_is_only_text() -> None:
    """A Content-Type field does not make the e-mail parser follow parts into the body."""
    core = read(HEAD + b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\npart\n--x--\n")
    assert core.description == "--x\n\npart\n--x--\n"
    assert core.unreadable == ("content-type",)


def test_unknown_and_repeated_fields_are_remembered() -> None:
    """What cannot be understood is for the rules to report."""
    assert read(HEAD + b"Summary: a\nSummary: b\nColour: red\n").unreadable == ("colour", "summary")


def test_a_description_in_both_places_is_remembered() -> None:
    """Packaging calls a description in header and body malformed."""
    assert read(HEAD + b"Description: a\n\nb").unreadable == ("description",)


@given(st.one_of(st.binary(), st.text().map(str.encode)), st.sampled_from([b"", HEAD, FULL]))
def test_reading_is_total(noise: bytes, before: bytes) -> None:
    """No bytes raise anything but BadUpload."""
    try:
        core = read(before + noise)
    except BadUpload:
        return
    assert core.project


@pytest.mark.parametrize(
    "fields",
    [
        b"Name: a\nVersion: " + b"1" * 5000,
        b"Name: a\nVersion: 1\nRequires-Python: >=" + b"1" * 5000,
        b"Name: a\nVersion: 1\nRequires-Python: >=3\nRequires-Python: >=4",
        b"Name: a b\nVersion: 1",
    ],
)
def test_unusable_fields_are_refused(fields: bytes) -> None:
    """A field that installers must parse and cannot is refused at once."""
    with pytest.raises(BadUpload):
        read(fields + b"\n")


@pytest.mark.parametrize("filename", ["my_demo-1.0rc1.tar.gz", "My.Demo-1.0c1.tar.gz", "my_demo-1.0.0rc1.tar.gz"])
def test_other_spellings_of_one_release_agree(filename: str) -> None:
    """Names are compared normalized and versions by PEP 440."""
    agree(read(FULL), filename=parse(filename), form_name="MY_demo", form_version="1.0-rc.1")


@pytest.mark.parametrize(
    ("filename", "form_name", "form_version", "words"),
    [
        ("other-1.0rc1.tar.gz", "my-demo", "1.0rc1", "filename"),
        ("my_demo-1.0.tar.gz", "my-demo", "1.0rc1", "filename"),
        ("my_demo-1.0rc1.tar.gz", "other", "1.0rc1", "form says name"),
        ("my_demo-1.0rc1.tar.gz", "my-demo", "1.0", "form says version"),
        ("my_demo-1.0rc1.tar.gz", "my-demo", "", "form says version"),
    ],
)
def test_a_disagreement_is_refused_with_its_side(filename: str, form_name: str, form_version: str, words: str) -> None:
    """The sentence says whether filename or form is off."""
    with pytest.raises(BadUpload, match=words):
        agree(read(FULL), filename=parse(filename), form_name=form_name, form_version=form_version)


def test_fields_before_their_time_are_not_sent() -> None:
    """Twine drops License-File below 2.4 and Provides-Extra below 2.1."""
    old = read(FULL.replace(b"2.4", b"1.2", 1))
    assert not {"license_files", "provides_extra"} & sent(old).keys()
    assert {"license_files", "provides_extra"} <= sent(read(FULL)).keys()
