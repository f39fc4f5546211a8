"""The promotability report: a good file has no findings, and each thing PyPI refuses has exactly its own."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import BadUpload
from overlay.domain.filenames import parse
from overlay.domain.metadata import read
from overlay.domain.names import MAIN, Serial, UploadId
from overlay.domain.rules import Finding, LiveRelease, Severity, judge, judge_release
from overlay.domain.stage import ArchiveFacts, StagedFile
from tests.staged import digest

DAY_S = 86_400
NOW_S = 1_800_000_000.0
HEAD = b"Metadata-Version: 2.4\nName: demo\nVersion: 1.0\n"
NEW = LiveRelease(exists=False, project_exists=True)


def staged(
    filename: str = "demo-1.0-py3-none-any.whl",
    *,
    facts: ArchiveFacts | None = None,
    size_bytes: int = 1000,
    sha256: str | None = None,
) -> StagedFile:
    """A staged file; without `sha256` its bytes are its own."""
    name = parse(filename)
    return StagedFile(
        stage=MAIN,
        project=name.project,
        name=name.spelled_project,
        version=name.version,
        filename=filename,
        kind=name.kind,
        upload_id=UploadId("0" * 32),
        serial=Serial(1),
        size_bytes=size_bytes,
        sha256=digest(filename) if sha256 is None else sha256,
        blake2_256="0" * 64,
        metadata_sha256="0" * 64,
        requires_python=None,
        staged_at_us=0,
        who="tests",
        token_id="0" * 16,
        grant="admin",
        facts=facts or ArchiveFacts(unpacked_bytes=2000, top_level=("demo-1.0",)),
    )


def rules_of(findings: tuple[Finding, ...], severity: Severity = Severity.ERROR) -> set[str]:
    assert all(finding.sentence.strip() for finding in findings)
    return {finding.rule for finding in findings if finding.severity is severity}


def judged(fields: bytes) -> set[str]:
    return rules_of(judge(staged(), read(HEAD + fields)))


GOOD = b"""Summary: fine
Author-email: A <a@example.org>, second
License-Expression: MIT OR Apache-2.0
Classifier: Programming Language :: Python :: 3
Project-URL: Home, https://example.org/a?b=c#d
Requires-Dist: other[x]>=1; python_version < "3.12"
Provides-Extra: all
Dynamic: Requires-Dist
Description-Content-Type: text/x-rst

Demo
====

A *good* description.
"""


def test_a_good_file_has_no_findings() -> None:
    """Nothing is reported about a wheel and an sdist as current tools build them."""
    assert judge(staged(), read(HEAD + GOOD)) == ()
    assert judge(staged("demo-1.0.tar.gz"), read(HEAD + GOOD)) == ()


@pytest.mark.parametrize(
    ("fields", "rules"),
    [
        (b"Summary: " + b"x" * 513 + b"\n", {"summary-length"}),
        (b"Summary: a\n        b\n", {"metadata-summary"}),
        (b"Author-email: nobody\n", {"author-email"}),
        (b"Maintainer-email: a@localhost\n", {"maintainer-email"}),
        (b"Maintainer-email: a@build.local\n", {"maintainer-email"}),
        (b"Classifier: Private :: Do Not Upload\n", {"private-classifier"}),
        (b"Classifier: Topic :: Nonsense\n", {"classifier-unknown"}),
        (b"Classifier: Natural Language :: Ukranian\n", {"classifier-deprecated"}),
        (b"Home-page: example.org\n", {"home-page"}),
        (b"Download-URL: ftp://example.org/\n", {"download-url"}),
        (b"Project-URL: Home, not a url\n", {"project-url"}),
        (b"Project-URL: , https://example.org\n", {"project-url"}),
        (b"Project-URL: Home\n", {"project-url"}),
        (b"Project-URL: " + b"x" * 33 + b", https://example.org\n", {"project-url"}),
        (b"Requires-Dist: other @ https://example.org/other.whl\n", {"direct-reference"}),
        (b"Provides-Dist: other @ https://example.org/other.whl\n", {"direct-reference"}),
        (b"Obsoletes-Dist: ???\n", {"metadata-obsoletes-dist"}),
        (b"Requires-Dist: other>=\n", {"metadata-requires-dist"}),
        (b"Requires-Dist: other; colour == 'red'\n", {"metadata-requires-dist"}),
        (b"Requires-Dist: a; " + b"(" * 900 + b"os_name=='x'" + b")" * 900 + b"\n", {"metadata-invalid"}),
        (b"Requires-Dist: a; os_name=='" + b"x" * 20_000 + b"'\n", {"metadata-length"}),
        (b"Dynamic: Version\n", {"metadata-dynamic"}),
        (b"Dynamic: Dynamic\n", {"metadata-dynamic"}),
        (b"License-Expression: Free\n", {"metadata-license-expression"}),
        (b"License-Expression: " + b"(" * 900 + b"MIT" + b")" * 900 + b"\n", {"metadata-license-expression"}),
        (b"License: MIT\nLicense-Expression: MIT\n", {"license-twice"}),
        (b"License-File: ../LICENSE\n", {"metadata-license-file"}),
        (b"Description-Content-Type: text/html\n\n<p>\n", {"metadata-description-content-type"}),
        (b"Description-Content-Type: text/x-rst\n\n.. nonsense::\n", {"description"}),
        (b"\n*broken rst\n\n====\nx\n", {"description"}),
        (b"Colour: red\n", {"metadata-field"}),
        (b"Summary: a\nSummary: b\n", {"metadata-field"}),
        (b"Import-Name: demo\n", {"metadata-import-name"}),
    ],
)
def test_bad_metadata_has_its_finding(fields: bytes, rules: set[str]) -> None:
    """Each field PyPI refuses is reported under its own rule and no other."""
    assert judged(fields) == rules


@pytest.mark.parametrize("version", [b"2.6", b"2.0", b"9"])
def test_an_unknown_metadata_version_has_its_finding(version: bytes) -> None:
    """PyPI knows 1.0 to 2.5, whatever packaging knows."""
    core = read(HEAD.replace(b"2.4", version))
    assert rules_of(judge(staged(), core)) == {"metadata-version"}


def test_markdown_renders_and_long_text_is_not_tried() -> None:
    """Markdown is rendered; what would take too long is said, not judged."""
    kind = b"Description-Content-Type: text/markdown; variant=GFM\n\n"
    assert judge(staged(), read(HEAD + kind + b"# Hello\n")) == ()
    assert rules_of(judge(staged(), read(HEAD + b"\n" + b"x " * 200_000)), Severity.NOTE) == {"description"}


def test_a_flood_of_findings_is_cut() -> None:
    """The report stays readable, and says that it was cut."""
    findings = judge(staged(), read(HEAD + b"".join(b"Classifier: No %d\n" % number for number in range(50))))
    assert len(findings) == 6
    assert "45 more" in findings[-1].sentence


@pytest.mark.parametrize(
    ("filename", "rules"),
    [
        ("Demo-1.0-py3-none-any.whl", {"wheel-name"}),
        ("my.demo-1.0-py3-none-any.whl", {"wheel-name"}),
        ("demo-1.0+x-py3-none-any.whl", {"local-version"}),
        ("demo-1.0-cp311-cp311-linux_x86_64.whl", {"wheel-platform-tag"}),
        ("demo-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", set()),
        ("demo-1.0-cp311-cp311-manylinux_2_17_mips.whl", {"wheel-platform-tag"}),
        ("demo-1.0-cp311-cp311-musllinux_1_2_ppc64.whl", {"wheel-platform-tag"}),
        ("demo-1.0-cp311-cp311-macosx_10_9_universal2.whl", set()),
        ("demo-1.0-cp311-cp311-macosx_11_1_arm64.whl", {"wheel-platform-tag"}),
        ("demo-1.0-cp311-cp311-ios_13_0_arm64_iphoneos.whl", set()),
        ("demo-1.0-cp313-cp313-android_24_arm64_v8a.whl", set()),
        ("demo-1.0-cp313-cp313-pyemscripten_2025_0_wasm32.whl", set()),
        ("demo-1.0.dev3-py3-none-win_arm64.whl", set()),
        ("my_demo-1.0rc1.tar.gz", set()),
        ("my-demo-1.0.tar.gz", {"sdist-name"}),
        ("demo-1.0.RC1.tar.gz", {"sdist-name"}),
        ("demo-1.0.zip", {"sdist-zip"}),
    ],
)
def test_names_and_tags_are_judged_as_pypi_does(filename: str, rules: set[str]) -> None:
    """PEP 625, PEP 427 and the table of platform tags."""
    assert rules_of(judge(staged(filename), read(HEAD))) == rules


@pytest.mark.parametrize(
    ("file", "rules"),
    [
        (staged(size_bytes=100 * 2**20), set()),
        (staged(size_bytes=100 * 2**20 + 1), {"file-size"}),
        (staged(facts=ArchiveFacts(unpacked_bytes=2**27), size_bytes=2**20), {"archive-ratio"}),
        (staged(facts=ArchiveFacts(unpacked_bytes=2**26), size_bytes=2**20), set()),
        (staged(facts=ArchiveFacts(unpacked_bytes=1, has_wheel_file=False)), {"wheel-file"}),
        (staged(facts=ArchiveFacts(unpacked_bytes=1, has_record=False)), {"wheel-record"}),
        (staged(facts=ArchiveFacts(unpacked_bytes=1, bad_entry_points="it is bad")), {"entry-points"}),
        (staged(facts=ArchiveFacts(unpacked_bytes=1, odd_framing="data descriptors")), {"archive-framing"}),
        (staged(facts=ArchiveFacts(unpacked_bytes=1, missing_license_files=("A",))), {"license-file"}),
        (staged("demo-1.0.tar.gz", facts=ArchiveFacts(unpacked_bytes=1, top_level=("a", "b"))), {"sdist-top-level"}),
        (
            staged("demo-1.0.tar.gz", facts=ArchiveFacts(unpacked_bytes=2**27, top_level=("a",)), size_bytes=2**20),
            set(),
        ),
    ],
)
def test_facts_of_the_archive_have_their_findings(file: StagedFile, rules: set[str]) -> None:
    """What reading the archive showed is reported, with PyPI's limits."""
    assert rules_of(judge(file, read(HEAD))) == rules


@given(st.text(max_size=300), st.sampled_from(["Requires-Dist", "Project-URL", "Author-email", "License-Expression"]))
def test_judging_is_total(value: str, field: str) -> None:
    """No value of a field makes the report itself fail."""
    try:
        core = read(HEAD + f"{field}: {value}\n".encode("utf-8", "replace"))
    except BadUpload:
        return
    rules_of(judge(staged(), core))


def test_a_new_release_of_a_live_project_has_no_findings() -> None:
    """The usual case is silent."""
    assert judge_release(staged(), siblings=[staged("demo-1.0.tar.gz")], live=NEW, now_s=NOW_S) == ()


@pytest.mark.parametrize(
    ("age_s", "words"),
    [(0, "14 days more"), (12.5 * DAY_S, "1 day more"), (13.5 * DAY_S, "less than a day"), (14 * DAY_S, "less than a")],
)
def test_adding_to_a_live_release_counts_down(age_s: float, words: str) -> None:
    """The note says how long PyPI still takes files."""
    live = replace(NEW, exists=True, first_upload_s=NOW_S - age_s)
    (finding,) = judge_release(staged(), siblings=[], live=live, now_s=NOW_S)
    assert (finding.rule, finding.severity) == ("adds-to-live-release", Severity.NOTE)
    assert words in finding.sentence


@pytest.mark.parametrize(
    ("file", "siblings", "live", "rules"),
    [
        (staged(), [], replace(NEW, exists=True, first_upload_s=NOW_S - 14 * DAY_S - 1), {"release-closed"}),
        (staged(), [], replace(NEW, status="archived"), {"project-archived"}),
        (staged(), [], replace(NEW, status="quarantined"), {"project-quarantined"}),
        (staged("json-1.0.tar.gz"), [], replace(NEW, project_exists=False), {"stdlib-name"}),
        (staged("json-1.0.tar.gz"), [], NEW, set()),
        (staged("demo-1.0.tar.gz"), [], replace(NEW, sdist="demo-1.0.tar.gz"), set()),
        (staged("demo-1.0.tar.gz"), [], replace(NEW, sdist="Demo-1.0.tar.gz"), {"second-sdist"}),
        (staged("demo-1.0.tar.gz"), [staged("demo-1.0.zip")], NEW, {"second-sdist"}),
        (staged("demo-1.0.tar.gz"), [staged("demo-1.0.tar.gz"), staged()], NEW, set()),
        (staged(), [staged("demo-1.0.zip"), staged("demo-1.0.tar.gz")], NEW, set()),
        (staged(sha256="a"), [staged("demo-1.0-py2.py3-none-any.whl", sha256="a")], NEW, {"same-content"}),
        (staged(sha256="a"), [staged(sha256="a"), staged("demo-1.0.tar.gz", sha256="b")], NEW, set()),
        (staged(sha256="a"), [], replace(NEW, filename_of={"a": "demo-1.0-py3.whl"}), {"same-content"}),
        (staged(sha256="a"), [], replace(NEW, filename_of={"a": staged().filename, "b": "b-1.0.zip"}), set()),
    ],
)
def test_the_state_of_upstream_is_judged(
    file: StagedFile, siblings: list[StagedFile], live: LiveRelease, rules: set[str]
) -> None:
    """Closed releases, closed projects, names of the standard library, second sdists and second names are errors."""
    assert rules_of(judge_release(file, siblings=siblings, live=live, now_s=NOW_S)) == rules


def test_a_new_project_says_which_credential_it_needs() -> None:
    """A project-scoped token cannot create the project."""
    findings = judge_release(staged(), siblings=[], live=replace(NEW, project_exists=False), now_s=NOW_S)
    assert rules_of(findings, Severity.NOTE) == {"new-project"}


def test_an_unknown_age_is_a_warning() -> None:
    """Without an upload-time the countdown cannot be given."""
    findings = judge_release(staged(), siblings=[], live=replace(NEW, exists=True), now_s=NOW_S)
    assert rules_of(findings, Severity.WARNING) == {"adds-to-live-release"}
