"""Project pages as JSON."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain import simple_json
from overlay.domain.errors import UpstreamCorrupt
from overlay.domain.merge import merge
from overlay.domain.names import canonical_version
from overlay.domain.page import File, ProjectPage, ProjectStatus
from tests import strategies

DATA = Path(__file__).parents[1] / "data"
BASE = "https://index.example/simple/demo/"
REAL_PAGES = ["packaging.json.gz", "attrs.json.gz", "jinja2.json.gz"]


def page_of(**keys: object) -> bytes:
    return json.dumps({"meta": {"api-version": "1.4"}, "name": "demo", "files": [], **keys}).encode()


def entry(**keys: object) -> dict[str, object]:
    return {"filename": "demo-1.0.tar.gz", "url": "https://f.example/demo-1.0.tar.gz", "hashes": {}, **keys}


def real(name: str) -> bytes:
    return gzip.decompress((DATA / name).read_bytes())


class TestCheck:
    @pytest.mark.parametrize("name", REAL_PAGES)
    def test_a_real_page_comes_back_as_the_same_object(self, name: str) -> None:
        """A page whose urls are all absolute is not copied."""
        body = real(name)
        assert simple_json.check(body, BASE) is body

    def test_relative_urls_become_absolute_and_the_rest_stays(self) -> None:
        """devpi, Pulp and nginx write relative urls; unknown keys and number spellings survive making them absolute."""
        body = (
            b'{ "_odd" : 1.50 , "files":[{"url":"../../f/demo-1.0.tar.gz","hashes":{},"filename":"demo-1.0.tar.gz",'
            b'"_x":{"a": [1e3]}}], "meta":{"api-version":"1.0"}}'
        )
        assert simple_json.check(body, BASE) == (
            b'{"_odd":1.50,"files":[{"url":"https://index.example/f/demo-1.0.tar.gz","hashes":{},'
            b'"filename":"demo-1.0.tar.gz","_x":{"a": [1e3]}}],"meta":{"api-version":"1.0"}}'
        )

    def test_an_empty_list_of_files_is_a_page(self) -> None:
        """`files: []` is what PyPI says of a quarantined project."""
        body = page_of()
        assert simple_json.check(body, BASE) is body

    def test_a_missing_meta_means_version_1_0(self) -> None:
        """PEP 629: a client assumes 1.0 when there is no version."""
        body = b'{"files":[]}'
        assert simple_json.check(body, BASE) is body

    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b"[]",
            b"",
            b"null",
            b"not json",
            b'{"files":{}}',
            b'{"files":[',
            b'{"files":[]} trailing',
            b'{"files":[1]}',
            page_of(files=[{"filename": "a", "url": "https://x/a"}]),
            page_of(files=[entry(hashes=[])]),
            page_of(files=[entry(filename=None)]),
            page_of(files=[entry(url=1)]),
            page_of(files=[entry(url="ftp://x/demo-1.0.tar.gz")]),
            page_of(files=[entry(url="//[")]),
            page_of(meta={"api-version": "2.0"}),
            page_of(meta={"api-version": "0.9"}),
            page_of(meta={"api-version": "one"}),
            b'{"files":[],"_x":"\xff"}',
            b'{"files":[],"_x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        ],
    )
    def test_what_is_no_page_is_corrupt(self, body: bytes) -> None:
        """A wrong or truncated answer is an error with a sentence, never an empty page."""
        with pytest.raises(UpstreamCorrupt, match=r"Upstream's page .*\.$"):
            simple_json.check(body, BASE)

    @given(st.data())
    def test_every_truncation_is_corrupt(self, data: st.DataObject) -> None:
        """No prefix of a page is a page."""
        body = page_of(files=[entry(), entry(filename="demo-2.0.tar.gz")])
        with pytest.raises(UpstreamCorrupt):
            simple_json.check(body[: data.draw(st.integers(0, len(body) - 1))], BASE)

    @given(strategies.pages())
    def test_what_is_checked_always_decodes(self, page: ProjectPage) -> None:
        """A page that was let in never fails a reader later."""
        simple_json.decode(simple_json.check(simple_json.encode(page), BASE))


class TestDecodeAndEncode:
    @given(strategies.pages())
    def test_encode_then_decode_is_identity(self, page: ProjectPage) -> None:
        """Nothing is lost, unknown keys and non-ASCII text included."""
        assert simple_json.decode(simple_json.encode(page)) == page

    @pytest.mark.parametrize("name", REAL_PAGES)
    def test_a_real_page_keeps_its_meaning(self, name: str) -> None:
        """Decoding and encoding PyPI's page changes nothing but nulls and `yanked: false`."""
        body = real(name)
        expected = json.loads(body)
        for file in expected["files"]:
            for key in [key for key, value in file.items() if value is None or (key == "yanked" and value is False)]:
                del file[key]
        assert json.loads(simple_json.encode(simple_json.decode(body))) == expected

    def test_nulls_mean_nothing_said(self) -> None:
        """PyPI writes null for what it does not know; we leave such keys out."""
        file = entry(**{"requires-python": None, "provenance": None, "yanked": False, "core-metadata": False})
        page = simple_json.decode(page_of(files=[file], versions=None))
        assert page.versions is None
        assert page.files == (
            File(
                filename="demo-1.0.tar.gz",
                url="https://f.example/demo-1.0.tar.gz",
                hashes={},
                core_metadata=False,
            ),
        )
        assert b"null" not in simple_json.encode(page)

    def test_the_legacy_twins_of_core_metadata_pass_through(self) -> None:
        """PyPI's `data-dist-info-metadata` is kept beside `core-metadata`, unchanged."""
        twins = {"core-metadata": {"sha256": "aa"}, "data-dist-info-metadata": {"sha256": "aa"}}
        file = simple_json.decode(page_of(files=[entry(**twins)])).files[0]
        assert file.core_metadata == {"sha256": "aa"}
        assert file.extra == {"data-dist-info-metadata": {"sha256": "aa"}}

    def test_the_order_of_hashes_stays(self) -> None:
        """Pip checks only the first hash of a file, so sorting them would change what it does."""
        file = File(filename="a.zip", url="https://x/a.zip", hashes={"sha256": "aa", "blake2b": "bb"})
        body = simple_json.encode(ProjectPage(name="a", files=(file,)))
        assert body.index(b"sha256") < body.index(b"blake2b")


class TestSplice:
    @given(
        strategies.pages(),
        st.lists(strategies.files(strategies.FILENAMES), max_size=3),
        st.lists(strategies.VERSIONS, max_size=3),
    )
    def test_splicing_is_merging(self, page: ProjectPage, staged: list[File], versions: list[str]) -> None:
        """The fast way over bytes gives the page that the nouns give."""
        listed = {file.filename for file in page.files}
        staged = [file for file in staged if file.filename not in listed]
        body = simple_json.encode(page)
        spliced = simple_json.splice(body, staged, versions)
        assert simple_json.decode(spliced) == merge(simple_json.decode(body), staged, versions)

    @pytest.mark.parametrize("name", REAL_PAGES)
    def test_upstreams_bytes_stay(self, name: str) -> None:
        """Upstream's files are a prefix of the result's, byte for byte, and so is every other key but versions."""
        body = real(name)
        start, end = body.index(b"["), body.index(b'], "meta"')
        spliced = simple_json.splice(body, [File(filename="x-9.zip", url="../x-9.zip", hashes={})], ["9"])
        assert spliced.startswith(b'{"files":' + body[start:end] + b',{"filename":"x-9.zip"')
        assert body[body.index(b'{"api-version"') : body.index(b', "name"')] in spliced
        assert json.loads(spliced)["versions"] == [*json.loads(body)["versions"], "9"]

    def test_nothing_staged_changes_nothing(self) -> None:
        """Without staged files the very bytes go out."""
        body = page_of()
        assert simple_json.splice(body, [], ["1.0"]) is body

    def test_an_empty_page_takes_staged_files(self) -> None:
        """No comma stands before the first file of an empty list, however it is spelled."""
        staged = File(filename="demo-1.0.zip", url="x/demo-1.0.zip", hashes={})
        spliced = simple_json.splice(b'{"files": [ \n ], "name":"demo"}', [staged], ["1.0"])
        assert simple_json.decode(spliced).files == (staged,)
        assert b"versions" not in spliced

    def test_an_equal_version_is_not_added_in_another_spelling(self) -> None:
        """PEP 700: versions MUST be unique; 1.0 and 1.0.0 are one under PEP 440."""
        staged = File(filename="demo-1.0.zip", url="x/demo-1.0.zip", hashes={})
        body = page_of(versions=["1.0.0", "odd spelling"])
        assert json.loads(simple_json.splice(body, [staged], ["1.0", "2.0"]))["versions"] == [
            "1.0.0",
            "odd spelling",
            "2.0",
        ]


class TestFacts:
    def test_of_a_real_page(self) -> None:
        """Digests, versions, sdists and first uploads of a page of PyPI, with every listed version found."""
        body = real("packaging.json.gz")
        facts = simple_json.facts(body)
        page = json.loads(body)
        assert facts.sha256_of == {file["filename"]: file["hashes"]["sha256"] for file in page["files"]}
        assert facts.filename_of == {file["hashes"]["sha256"]: file["filename"] for file in page["files"]}
        assert facts.versions == frozenset(map(canonical_version, page["versions"]))
        assert facts.sdists[canonical_version("26.3")] == "packaging-26.3.tar.gz"
        assert facts.first_upload[canonical_version("14.0")] == "2014-09-05T00:26:05.098753Z"
        assert not facts.quarantined

    def test_a_version_is_yanked_when_all_its_files_are(self) -> None:
        """One file that is not yanked keeps the version; the first reason stands for all."""
        files = [
            entry(filename="demo-1.0.tar.gz", yanked="broken"),
            entry(filename="demo-1.0-py3-none-any.whl", yanked=True),
            entry(filename="demo-2.0.tar.gz", yanked=True),
            entry(filename="demo-2.0-py3-none-any.whl", yanked=False),
        ]
        facts = simple_json.facts(page_of(files=files))
        assert facts.yanked == {canonical_version("1.0"): "broken"}
        assert facts.versions == {canonical_version("1.0"), canonical_version("2.0")}

    def test_equal_versions_are_one_release(self) -> None:
        """Whatever its files are called: yanked when all of them are, as old as the oldest."""
        files = [
            entry(filename="demo-1.0.tar.gz", yanked="broken", **{"upload-time": "2024-02-01T00:00:00Z"}),
            entry(filename="demo-1.0.0-py3-none-any.whl", **{"upload-time": "2024-01-01T00:00:00Z"}),
        ]
        facts = simple_json.facts(page_of(files=files))
        assert facts.versions == {canonical_version("1")}
        assert facts.first_upload == {canonical_version("1"): "2024-01-01T00:00:00Z"}
        assert (facts.yanked, facts.sdists) == ({}, {canonical_version("1"): "demo-1.0.tar.gz"})

    def test_digests_are_compared_in_lower_case(self) -> None:
        """An index that writes them in capitals has the same bytes."""
        digest = "0123456789abcdef" * 4
        body = page_of(files=[entry(filename="demo-1.0.tar.gz", hashes={"sha256": digest.upper()})])
        facts = simple_json.facts(body)
        assert facts.sha256_of == {"demo-1.0.tar.gz": digest}
        assert facts.filename_of == {digest: "demo-1.0.tar.gz"}
        assert simple_json.seen(body, ["demo-1.0.tar.gz"])["demo-1.0.tar.gz"].sha256 == digest

    @pytest.mark.parametrize(
        ("filename", "version"),
        [
            ("Demo_Tool-1.0.tar.gz", "1.0"),
            ("demo.tool-1.0-beta1.zip", "1.0b1"),
            ("demo-tool-1.0-1.tar.gz", "1.0.post1"),
            ("demo_tool-01.0-py3-none-any.whl", "1.0"),
            ("demo_tool-1.0-py2.7.egg", "1.0"),
            ("demo-tool-1.0.win32-py2.7.exe", "1.0"),
            ("demo-tool-1.0.win-amd64.msi", "1.0"),
            ("demo-tool-1.0-1.noarch.rpm", "1.0"),
            ("demo-tool-1.0.linux-x86_64.tar.gz", None),
            ("demo-tool-latest.tar.gz", None),
            ("README.txt", None),
            ("x.whl", None),
            pytest.param(f"demo-tool-{'1' * 5000}.tar.gz", None, id="thousands of digits"),
            (".tar.gz", None),
        ],
    )
    def test_versions_are_read_out_of_odd_names(self, filename: str, version: str | None) -> None:
        """Every name of the last twenty years has its version, or none; no name is an error."""
        facts = simple_json.facts(page_of(name="demo-tool", files=[entry(filename=filename)]))
        assert facts.versions == (frozenset() if version is None else {canonical_version(version)})
        assert filename in facts.sha256_of

    def test_quarantined_is_said(self) -> None:
        """PEP 792's word is read."""
        facts = simple_json.facts(page_of(**{"project-status": {"status": "quarantined"}}))
        assert facts.quarantined

    @given(strategies.pages())
    def test_facts_agree_with_the_nouns(self, page: ProjectPage) -> None:
        """The lean reading and the complete one see the same files and status."""
        facts = simple_json.facts(simple_json.encode(page))
        assert facts.sha256_of == {file.filename: file.hashes.get("sha256") for file in page.files}
        assert facts.status == (page.status and page.status.status)


def test_a_status_without_a_reason_has_no_such_key() -> None:
    """Uv rejects a page with nulls in it."""
    page = replace(ProjectPage(name="a", files=()), status=ProjectStatus(status="archived"))
    assert b'"project-status":{"status":"archived"}' in simple_json.encode(page)
