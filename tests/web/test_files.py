"""Staged files over HTTP: immutable, in ranges, and only while they may be served."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from overlay.config.tables import UploadsConfig
from tests.builders import Built, sdist, wheel
from tests.clock import Clock
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, Running, basic, config_for, running

FILE = wheel("demo", "1.0", payload=bytes(range(256)) * 40)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def index() -> AsyncIterator[ScriptedIndex]:
    async with ScriptedIndex() as made:
        made.add(wheel("demo", "0.9"))
        yield made


@pytest.fixture
async def overlay(index: ScriptedIndex, tmp_path: Path, clock: Clock) -> AsyncIterator[Running]:
    config = config_for(tmp_path, index.simple_url, uploads=UploadsConfig(grace_s=100))
    async with running(config, now_s=clock) as made:
        yield made


async def url_of(overlay: Running, filename: str, project: str = "demo") -> str:
    async with overlay.get(f"/staged/simple/{project}/", Accept="application/vnd.pypi.simple.v1+json") as response:
        files = json.loads(await response.read())["files"]
    (url,) = [file["url"] for file in files if file["filename"] == filename]
    return "/" + str(url).removeprefix("../../../")


async def staged(overlay: Running, built: Built = FILE) -> str:
    assert (await overlay.upload(built)).status == 200
    return await url_of(overlay, built.filename)


async def status(overlay: Running, url: str) -> int:
    async with overlay.get(url) as response:
        return response.status


async def test_a_file_is_sent_as_it_was_staged(overlay: Running) -> None:
    """With what caches and installers need, and without what they stumble over."""
    async with overlay.get(await staged(overlay)) as response:
        assert await response.read() == FILE.body
        headers = response.headers
        assert headers["ETag"] == f'"{FILE.sha256}"'
        assert headers["Cache-Control"] == "max-age=31536000, immutable"
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["Content-Length"] == str(len(FILE.body))
        assert "Last-Modified" in headers
        assert "Content-Disposition" not in headers
        assert "Content-Encoding" not in headers


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=5-", 5, None),
        ("bytes=-100", -100, None),
        ("bytes=0-0", 0, 1),
        ("bytes=10-99999999", 10, None),
        ("bytes=-99999999", 0, None),
        ("Bytes = 3-7", 3, 8),
    ],
)
async def test_one_range_is_answered_with_206(overlay: Running, wanted: str, start: int, stop: int | None) -> None:
    """As uv, poetry and a resuming pip ask."""
    async with overlay.get(await staged(overlay), Range=wanted) as response:
        expected = FILE.body[start:stop]
        assert response.status == 206
        assert await response.read() == expected
        first = FILE.body.index(expected) if start >= 0 else len(FILE.body) - len(expected)
        assert response.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(FILE.body)}"
        assert response.headers["Content-Length"] == str(len(expected))


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "items=0-5", "bytes=5-2", "bytes=x-", "bytes=", "0-5", "bytes=-"])
async def test_what_is_no_single_byte_range_is_ignored(overlay: Running, wanted: str) -> None:
    """RFC 9110 §14.2: the whole file."""
    async with overlay.get(await staged(overlay), Range=wanted) as response:
        assert response.status == 200
        assert await response.read() == FILE.body


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=-0"])
async def test_a_range_beyond_the_end_is_416(overlay: Running, wanted: str) -> None:
    """With the size, so that the client can ask again."""
    async with overlay.get(await staged(overlay), Range=wanted) as response:
        assert response.status == 416
        assert response.headers["Content-Range"] == f"bytes */{len(FILE.body)}"


async def test_a_download_resumes_only_on_the_same_bytes(overlay: Running) -> None:
    """If-Range with our tag: the rest. With any other: everything."""
    url = await staged(overlay)
    async with overlay.get(url, Range="bytes=100-", If_Range=f'"{FILE.sha256}"') as response:
        assert (response.status, await response.read()) == (206, FILE.body[100:])
    for other in ('"other"', "Sat, 21 Nov 2026 20:00:00 GMT", f'W/"{FILE.sha256}"'):
        async with overlay.get(url, Range="bytes=100-", If_Range=other) as response:
            assert (response.status, await response.read()) == (200, FILE.body)


async def test_a_known_tag_is_not_sent_again(overlay: Running) -> None:
    """304, with the tag."""
    async with overlay.get(await staged(overlay), If_None_Match=f'"{FILE.sha256}"') as response:
        assert response.status == 304
        assert response.headers["ETag"] == f'"{FILE.sha256}"'


async def test_head_tells_what_uv_needs(overlay: Running) -> None:
    """Exact Accept-Ranges and Content-Length, no body."""
    url = await staged(overlay)
    async with overlay.session.head(overlay.url + url) as response:
        assert response.status == 200
        assert response.headers["Accept-Ranges"] == "bytes"
        assert response.headers["Content-Length"] == str(len(FILE.body))


async def test_the_sidecar_is_the_wheels_metadata(overlay: Running) -> None:
    """PEP 658: the same bytes, at the URL with .metadata, with the advertised hash; none for an sdist."""
    url = await staged(overlay)
    async with overlay.get("/staged/simple/demo/", Accept="application/vnd.pypi.simple.v1+json") as response:
        (file,) = json.loads(await response.read())["files"]
    async with overlay.get(url + ".metadata") as response:
        assert response.status == 200
        assert b"Name: demo" in await response.read()
        assert response.headers["ETag"] == f'"{file["core-metadata"]["sha256"]}"'


async def test_a_url_needs_every_part_of_it(overlay: Running) -> None:
    """Another project, another id, another name: 404, none of them a 5xx."""
    url = await staged(overlay)
    _, files, project, upload, name = url.split("/")
    assert (files, project) == ("files", "demo")
    for wrong in (
        f"/files/other/{upload}/{name}",
        f"/files/demo/{'0' * 32}/{name}",
        f"/files/demo/{upload}/demo-1.0.tar.gz",
        f"/files/demo/{upload}/{name}.metadata.metadata",
        f"/files/demo/not-an-id/{name}",
        f"/files/-/{upload}/{name}",
        f"/files/demo/{upload}/",
        f"/files/demo/{upload}/%2e%2e%2f{name}",
    ):
        assert await status(overlay, wrong) == 404, wrong


async def test_a_plus_may_be_percent_encoded(overlay: Running) -> None:
    """Both spellings decode to the same name in pip and uv."""
    url = await staged(overlay, wheel("demo", "1.0+cpu"))
    assert "+cpu" in url
    assert await status(overlay, url) == 200
    assert await status(overlay, url.replace("+", "%2B")) == 200


async def test_a_replaced_file_is_served_for_the_grace_period(overlay: Running, clock: Clock) -> None:
    """Who resolved a moment ago can still download; afterwards it is gone."""
    old = await staged(overlay)
    new = await staged(overlay, wheel("demo", "1.0", payload=b"new"))
    assert old != new
    assert await status(overlay, old) == 200
    clock.now_s += 99
    assert await status(overlay, old) == 200
    clock.now_s += 1
    assert await status(overlay, old) == 404
    assert await status(overlay, new) == 200


async def test_a_replaced_file_is_served_across_a_restart(index: ScriptedIndex, tmp_path: Path, clock: Clock) -> None:
    """The history knows what the new ledger does not."""
    config = config_for(tmp_path / "own", index.simple_url, uploads=UploadsConfig(grace_s=100))
    async with running(config, now_s=clock) as overlay:
        old = await staged(overlay)
        await staged(overlay, wheel("demo", "1.0", payload=b"new"))
    async with running(config, now_s=clock) as overlay:
        assert await status(overlay, old) == 200
        clock.now_s += 100
        assert await status(overlay, old) == 404


async def test_a_withdrawn_file_is_gone_at_once(overlay: Running) -> None:
    """File and sidecar; the page goes back to upstream's."""
    url = await staged(overlay)
    async with overlay.session.delete(overlay.url + "/api/v1/projects/demo/1.0", headers=basic(ADMIN)) as response:
        assert response.status == 200, await response.text()
    assert await status(overlay, url) == 404
    assert await status(overlay, url + ".metadata") == 404
    assert await status(overlay, "/staged/simple/demo/") == 404


async def test_a_conflict_upstream_denies_the_file(overlay: Running, index: ScriptedIndex, clock: Clock) -> None:
    """Somebody published other bytes under the name: ours is served no more; the same bytes: ours goes on."""
    conflicting, same = await staged(overlay), await staged(overlay, sdist("demo", "1.0"))
    index.add(wheel("demo", "1.0", payload=b"theirs"), sdist("demo", "1.0"))
    clock.now_s += 200
    async with overlay.get("/simple/demo/", Accept="application/vnd.pypi.simple.v1+json") as response:
        files = json.loads(await response.read())["files"]
    assert sorted(file["filename"] for file in files) == [
        "demo-0.9-py3-none-any.whl",
        "demo-1.0-py3-none-any.whl",
        "demo-1.0.tar.gz",
    ]
    assert not any(file["url"].startswith("..") for file in files)
    assert await status(overlay, conflicting) == 404
    assert await status(overlay, same) == 200


async def test_a_file_is_served_while_upstream_is_away(overlay: Running, index: ScriptedIndex, clock: Clock) -> None:
    """What is known of upstream decides; nothing is waited for."""
    url = await staged(overlay)
    index.down = True
    clock.now_s += 10**6
    assert await status(overlay, url) == 200


async def test_a_star_token_yields_to_a_stranger_upstream(overlay: Running, index: ScriptedIndex, clock: Clock) -> None:
    """Dependency confusion: upstream has a project of that name with other files, so ours is not listed nor served."""
    token = await overlay.token("stage", projects=("*",))
    assert (await overlay.upload(wheel("ours", "1.0"), token=token)).status == 200
    url = await url_of(overlay, "ours-1.0-py3-none-any.whl", "ours")
    index.add(wheel("ours", "9.9"))
    clock.now_s += 200
    async with overlay.get("/simple/ours/", Accept="application/vnd.pypi.simple.v1+json") as response:
        assert await response.read() == index.page_json("ours")
    assert await status(overlay, url) == 404
    refused = await overlay.upload(wheel("ours", "1.1"), token=token)
    assert refused.status == 403
    assert "--project ours" in refused.body


async def test_a_release_whose_sidecar_was_lost_is_no_missing_release(index: ScriptedIndex, tmp_path: Path) -> None:
    """500 on the page and in the API: 404 would say that nothing is staged."""
    config = config_for(tmp_path, index.simple_url)
    async with running(config) as overlay:
        await staged(overlay)
    (sidecar,) = (tmp_path / "blobs").rglob("*.metadata")
    sidecar.unlink()
    async with running(config) as overlay:  # nothing is remembered of the report
        assert await status(overlay, "/api/v1/projects/demo/1.0") == 500
        assert await status(overlay, "/project/demo/1.0/") == 500


async def test_a_store_that_signs_nothing_sends_the_file_itself(index: ScriptedIndex, tmp_path: Path) -> None:
    """Redirects are wanted, and there is nowhere to redirect to."""
    async with (
        running(config_for(tmp_path, index.simple_url), redirect_downloads=True) as overlay,
        overlay.get(await staged(overlay)) as response,
    ):
        assert (response.status, await response.read()) == (200, FILE.body)
