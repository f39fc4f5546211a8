"""Simple pages over HTTP: representation, caching, views."""

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard

from overlay.config.tables import ReadConfig
from tests.builders import sdist, wheel
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, Running, basic, config_for, running

JSON = "application/vnd.pypi.simple.v1+json"


@pytest.fixture
async def index() -> AsyncIterator[ScriptedIndex]:
    async with ScriptedIndex() as made:
        made.add(wheel("demo", "0.9"), sdist("demo", "0.9"), wheel("other", "1.0"))
        yield made


@pytest.fixture
async def overlay(index: ScriptedIndex, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(config_for(tmp_path, index.simple_url)) as made:
        yield made


def decoded(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip":
            return gzip.decompress(body)
        case "zstd":
            return zstandard.decompress(body)
        case _:
            return body


async def page(overlay: Running, path: str) -> dict[str, object]:
    async with overlay.get(path, Accept=JSON) as response:
        assert response.status == 200, await response.text()
        read: dict[str, object] = json.loads(await response.read())
        return read


def names(page: dict[str, object]) -> list[str]:
    files = page["files"]
    assert isinstance(files, list)
    return [file["filename"] for file in files]


async def test_an_untouched_page_is_upstreams_to_the_byte(overlay: Running, index: ScriptedIndex) -> None:
    """Decoded, and compressed as upstream compressed it."""
    async with overlay.get("/simple/demo/", Accept=JSON) as response:
        assert await response.read() == index.page_json("demo")
        assert response.headers["Content-Type"] == JSON
        assert "Content-Encoding" not in response.headers
    async with overlay.get("/simple/demo/", Accept=JSON, Accept_Encoding="gzip, deflate, zstd") as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await response.read()) == index.page_json("demo")
        assert response.headers["X-PyPI-Last-Serial"]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (JSON, JSON),
        ("text/html", "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+html; charset=utf-8"),
    ],
)
async def test_every_representation_names_itself(overlay: Running, accept: str, content_type: str) -> None:
    """The type is exact: devpi compares it, uv fails on application/json."""
    for path in ("/simple/demo/", "/simple/"):
        async with overlay.get(path, Accept=accept) as response:
            assert (response.status, response.headers["Content-Type"]) == (200, content_type)
            assert response.headers["Vary"] == "Accept, Accept-Encoding"
            assert response.headers["Cache-Control"] == "no-cache"


async def test_the_format_parameter_and_406(overlay: Running) -> None:
    """`?format=` wins; what excludes everything is told so; other parameters are ignored."""
    async with overlay.get(f"/simple/demo/?format={JSON}&x=1", Accept="text/html") as response:
        assert response.headers["Content-Type"] == JSON
    async with overlay.get("/simple/demo/", Accept="*/*;q=0") as response:
        assert response.status == 406
        assert JSON in await response.text()


async def test_each_encoding_of_a_merged_page_has_its_own_strong_tag(overlay: Running) -> None:
    """And all of them hold the same page."""
    await overlay.upload(wheel("demo", "1.0"))
    bodies, tags = set(), set()
    for encoding in ("identity", "gzip", "zstd"):
        async with overlay.get("/simple/demo/", Accept=JSON, Accept_Encoding=encoding) as response:
            raw = await response.read()
            assert response.headers.get("Content-Encoding", "identity") == encoding
            tags.add(response.headers["ETag"])
        bodies.add(decoded(raw, encoding))
    assert len(bodies) == 1
    assert len(tags) == 3
    assert all(tag.startswith('"') for tag in tags)


async def test_a_304_repeats_the_tag_until_something_is_staged(overlay: Running) -> None:
    """Uv revalidates with it; the moment an upload was answered the old tag is old."""
    async with overlay.get("/simple/demo/", Accept=JSON) as response:
        tag = response.headers["ETag"]
    for condition in (tag, f'W/{tag}, "x"', "*"):
        async with overlay.get("/simple/demo/", Accept=JSON, If_None_Match=condition) as response:
            assert response.status == 304
            assert response.headers["ETag"] == tag
            assert response.headers["Vary"] == "Accept, Accept-Encoding"
            assert await response.read() == b""
    await overlay.upload(wheel("demo", "1.0"))
    async with overlay.get("/simple/demo/", Accept=JSON, If_None_Match=tag) as response:
        assert response.status == 200
        assert response.headers["ETag"] != tag


async def test_staged_files_are_listed_after_upstreams(overlay: Running, index: ScriptedIndex) -> None:
    """Upstream's files first, unchanged, in order; then ours with relative links."""
    upstream = json.loads(index.page_json("demo"))
    await overlay.upload(sdist("demo", "1.0"))
    await overlay.upload(wheel("demo", "1.0"))
    merged = await page(overlay, "/simple/demo/")
    files = merged["files"]
    assert isinstance(files, list)
    assert files[:2] == upstream["files"]
    assert names(merged)[2:] == ["demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"]
    assert merged["versions"] == ["0.9", "1.0"]
    assert all(file["url"].startswith("../../files/demo/") for file in files[2:])


async def test_a_new_project_is_there_at_once(overlay: Running) -> None:
    """404 before, listed after: as a page, in the list, and in the staged view."""
    async with overlay.get("/simple/fresh/", Accept=JSON) as response:
        assert response.status == 404
    async with overlay.get("/simple/", Accept=JSON) as response:
        before = response.headers["ETag"]
    await overlay.upload(wheel("Fresh", "1.0"))
    assert names(await page(overlay, "/simple/fresh/")) == ["fresh-1.0-py3-none-any.whl"]
    for path in ("/simple/", "/staged/simple/"):
        async with overlay.get(path, Accept=JSON, If_None_Match=before) as response:
            assert {"name": "fresh"} in json.loads(await response.read())["projects"]
        async with overlay.get(path, Accept="text/html", Accept_Encoding="gzip") as response:
            assert b'<a href="fresh/">fresh</a>' in gzip.decompress(await response.read())


async def test_the_list_names_each_project_once(overlay: Running) -> None:
    """A staged file of a live project adds nothing to the list."""
    await overlay.upload(wheel("demo", "1.0"))
    projects = (await page(overlay, "/simple/"))["projects"]
    assert isinstance(projects, list)
    assert sorted(project["name"] for project in projects) == ["demo", "other"]


async def test_the_staged_view_has_only_staged_files(overlay: Running, index: ScriptedIndex) -> None:
    """With links that lead to the same files; and it goes on when upstream does not."""
    await overlay.upload(wheel("demo", "1.0"))
    assert names(await page(overlay, "/staged/simple/demo/")) == ["demo-1.0-py3-none-any.whl"]
    async with overlay.get("/staged/simple/other/", Accept=JSON) as response:
        assert response.status == 404
    index.down = True
    staged = await page(overlay, "/staged/simple/demo/")
    files = staged["files"]
    assert isinstance(files, list)
    async with overlay.get("/staged/simple/demo/" + files[0]["url"]) as response:
        assert await response.read() == wheel("demo", "1.0").body


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/simple", "/simple/"),
        ("/simple/demo", "/simple/demo/"),
        ("/simple/De_Mo/", "/simple/de-mo/"),
        ("/staged/simple/A.B/", "/staged/simple/a-b/"),
        ("/simple/Foo.Bar_baz/?format=x", "/simple/foo-bar-baz/?format=x"),
    ],
)
async def test_other_spellings_are_redirected(overlay: Running, path: str, location: str) -> None:
    """301 to the normalized page, as PyPI does; relative, so that a forged Host poisons nothing."""
    async with overlay.get(path, Host="evil.example") as response:
        assert (response.status, response.headers["Location"]) == (301, location)


@pytest.mark.parametrize("path", ["/simple/-bad-/", "/simple/a%20b/", "/simple/" + "x" * 300 + "/"])
async def test_a_name_that_is_none_is_not_found(overlay: Running, index: ScriptedIndex, path: str) -> None:
    """And upstream is never asked for it."""
    async with overlay.get(path) as response:
        assert response.status == 404
    assert index.requests == []


async def test_head_is_get_without_a_body(overlay: Running) -> None:
    """Same headers, same length."""
    for path in ("/simple/demo/", "/simple/", "/staged/simple/"):
        async with overlay.session.head(overlay.url + path) as head, overlay.get(path) as got:
            assert head.status == got.status
            assert head.headers["ETag"] == got.headers["ETag"]
            assert head.headers["Content-Length"] == str(len(await got.read()))
            assert await head.read() == b""


async def test_the_callers_credentials_never_reach_upstream(overlay: Running, index: ScriptedIndex) -> None:
    """Neither Authorization nor Cookie; and upstream is told honestly who asks."""
    async with overlay.get("/simple/demo/", **basic(ADMIN), Cookie="a=b"):
        pass
    asked = index.requests[-1].headers
    assert "Authorization" not in asked
    assert "Cookie" not in asked
    assert asked["User-Agent"].startswith("overlay-index/")


async def test_a_prefix_moves_everything(index: ScriptedIndex, tmp_path: Path) -> None:
    """Below the path of public_url, with links and redirects that stay there."""
    config = config_for(tmp_path, index.simple_url, public_url="https://index.example/next")
    async with running(config) as overlay:
        assert overlay.url.endswith("/next")
        await overlay.upload(wheel("demo", "1.0"))
        merged = await page(overlay, "/simple/demo/")
        files = merged["files"]
        assert isinstance(files, list)
        async with overlay.get("/simple/demo/" + files[-1]["url"]) as response:
            assert await response.read() == wheel("demo", "1.0").body
        async with overlay.get("/simple/Demo/") as response:
            assert response.headers["Location"] == "/next/simple/demo/"
        root = overlay.url.removesuffix("/next")
        async with overlay.session.get(f"{root}/simple/demo/") as response:
            assert response.status == 404


async def test_closed_reading_asks_for_a_token(index: ScriptedIndex, tmp_path: Path) -> None:
    """401 with a challenge, so that pip and uv try their netrc; private for caches."""
    config = config_for(tmp_path, index.simple_url, read=ReadConfig(open=False))
    async with running(config) as overlay:
        reader = await overlay.token("read", projects=("*",))
        stager = await overlay.token("stage", projects=("*",))
        await overlay.upload(wheel("demo", "1.0"))
        merged_url = "/simple/demo/"
        for path in (merged_url, "/simple/", "/staged/simple/demo/", "/api/v1/staged", "/", "/project/demo/"):
            async with overlay.get(path) as response:
                assert response.status == 401, path
                assert response.headers["WWW-Authenticate"].startswith("Basic")
            async with overlay.get(path, **basic(stager)) as response:
                assert response.status == 403, path
            async with overlay.get(path, **basic(reader)) as response:
                assert response.status == 200, path
                assert "private" in response.headers["Cache-Control"], path


async def test_a_yanked_release_passes_its_yank_on(overlay: Running, index: ScriptedIndex) -> None:
    """PEP 592: a file staged for it is yanked too."""
    index.yanked["demo", "0.9"] = "broken"
    await overlay.upload(wheel("demo", "0.9", tag="cp311-cp311-win_amd64"))
    await overlay.upload(wheel("demo", "1.0"))
    files = (await page(overlay, "/simple/demo/"))["files"]
    assert isinstance(files, list)
    words = {file["filename"]: file.get("yanked", False) for file in files}
    assert words["demo-0.9-cp311-cp311-win_amd64.whl"] == "broken"
    assert words["demo-1.0-py3-none-any.whl"] is False


async def test_quarantine_hides_staged_files_too(overlay: Running, index: ScriptedIndex, tmp_path: Path) -> None:
    """Uploads are refused with 403."""
    index.statuses["other"] = "quarantined"
    answer = await overlay.upload(wheel("other", "2.0"))
    assert answer.status == 403
    assert "quarantined" in answer.reason
    assert not list((tmp_path / "blobs").iterdir())


async def test_health_and_readiness(overlay: Running, index: ScriptedIndex) -> None:
    """Upstream is reported and never decides; a server that is about to stop is not ready, and says so."""
    assert await overlay.probed(200) == {"server": "ok", "ledger": "ok", "store": "ok", "upstream": "ok"}
    index.down = True
    async with overlay.get("/simple/unseen/") as response:
        assert response.status == 502
    async with overlay.get("/-/health") as response:
        assert response.status == 200
    assert "503" in (await overlay.probed(200))["upstream"]
    overlay.lifecycle.leaving = True
    async with overlay.get("/-/ready") as response:
        assert response.status == 503
        assert json.loads(await response.read())["server"] == "stopping"
    overlay.lifecycle.draining = True
    refused = await overlay.upload(wheel("demo", "1.0"))
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert "stopping" in refused.body


@pytest.mark.parametrize("path", ["/_/oidc/audience", "/.well-known/pytp", "/_/oidc/mint-token"])
async def test_trusted_publishing_is_not_offered_here(overlay: Running, index: ScriptedIndex, path: str) -> None:
    """404 with a problem body, never passed on to upstream: a token for it would be shown to us."""
    for method in ("GET", "POST"):
        async with overlay.session.request(method, overlay.url + path) as response:
            assert response.status == 404
            assert response.headers["Content-Type"] == "application/problem+json"
    assert index.requests == []


@pytest.mark.parametrize("path", ["/", "/simple/", "/simple"])
async def test_a_post_elsewhere_names_the_right_url(overlay: Running, path: str) -> None:
    """405 whose reason phrase a client shows."""
    answer = await overlay.upload(wheel("demo", "1.0"), path=path)
    assert answer.status == 405
    assert "/legacy/" in answer.reason
    async with overlay.get("/legacy/") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/simple/demo/", "GET, HEAD"),
        ("DELETE", "/simple/", "GET, HEAD, POST"),
        ("PUT", "/legacy/", "POST"),
        ("POST", "/files/demo/x/y", "GET, HEAD"),
        ("PATCH", "/api/v1/tokens", "GET, HEAD, POST"),
    ],
)
async def test_another_method_is_405_with_allow(overlay: Running, method: str, path: str, allowed: str) -> None:
    """RFC 9110 §15.5.6: what is possible is said."""
    async with overlay.session.request(method, overlay.url + path) as response:
        assert response.status == 405
        assert response.headers["Allow"] == allowed


async def test_every_answer_has_a_request_id(overlay: Running) -> None:
    """So that a line of the log can be found."""
    seen = set()
    for path in ("/simple/demo/", "/nowhere", "/-/health"):
        async with overlay.get(path) as response:
            seen.add(response.headers["X-Request-Id"])
    assert len(seen) == 3
