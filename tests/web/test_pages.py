"""Pages for people, as a browser asks for them."""

import dataclasses
from http import HTTPStatus
from pathlib import Path

import pytest

from overlay.config.tables import Config
from overlay.domain.names import MAIN
from overlay.services.access import local_operator
from overlay.services.local_files import parts_of
from tests.builders import wheel
from tests.fakes.index import ScriptedIndex
from tests.running import Running, basic, running

DEMO = wheel("demo", "1.0")
BROWSER = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"


async def test_home_says_how_to_use_the_index_and_what_is_staged(overlay: Running, index: ScriptedIndex) -> None:
    await overlay.upload(DEMO)
    async with overlay.get("/") as response:
        page = await response.text()
    assert response.status == HTTPStatus.OK
    assert f"pip install --index-url {overlay.url}/simple/ PROJECT" in page
    assert f"twine upload --repository-url {overlay.url}/legacy/" in page
    assert '<a href="/project/demo/1.0/">1.0</a>' in page
    assert index.simple_url in page


async def test_a_project_page_shows_its_staged_versions(overlay: Running) -> None:
    for version in ("1.9", "1.10"):
        await overlay.upload(wheel("demo", version))
    async with overlay.get("/project/demo/") as response:
        page = await response.text()
    assert page.index('href="/project/demo/1.10/"') < page.index('href="/project/demo/1.9/"')


async def test_a_release_page_shows_digest_standing_and_report(overlay: Running) -> None:
    await overlay.upload(DEMO)
    async with overlay.get("/project/demo/1.0/") as response:
        page = await response.text()
    assert response.status == HTTPStatus.OK
    assert DEMO.sha256 in page
    assert "Listed here; upstream does not have it." in page
    assert "overlay withdraw demo==1.0" in page


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/project/De.Mo", "/project/de-mo/"),
        ("/project/demo", "/project/demo/"),
        ("/project/Demo/1.0-RC1/", "/project/demo/1.0rc1/"),
        ("/project/demo/1.0", "/project/demo/1.0/"),
    ],
)
async def test_other_spellings_are_redirected_for_good(overlay: Running, path: str, target: str) -> None:
    async with overlay.get(path) as response:
        assert response.status == HTTPStatus.MOVED_PERMANENTLY
        assert response.headers["Location"] == target


@pytest.mark.parametrize("version", ["1.0+local.1", "1!2.0"])
async def test_a_version_in_its_own_spelling_is_not_redirected(overlay: Running, tmp_path: Path, version: str) -> None:
    built = wheel("demo", version)
    (tmp_path / built.filename).write_bytes(built.body)
    await overlay.wired.services.uploads.receive(local_operator(), MAIN, parts_of(tmp_path / built.filename))
    async with overlay.get("/") as response:
        home = await response.text()
    assert f'href="/project/demo/{version}/"' in home
    async with overlay.get(f"/project/demo/{version}/") as response:
        assert response.status == HTTPStatus.OK


@pytest.mark.parametrize("path", ["/legacy/Demo/1.0/", "/legacy/demo/1.0"])
async def test_what_upload_clients_print_leads_to_the_release(overlay: Running, path: str) -> None:
    async with overlay.get(path) as response:
        assert response.status == HTTPStatus.FOUND
        assert response.headers["Location"] == "/project/demo/1.0/"


@pytest.mark.parametrize("path", ["/project/demo/", "/project/demo/1.0/"])
async def test_what_is_not_staged_is_404_and_names_the_live_project(
    overlay: Running, index: ScriptedIndex, path: str
) -> None:
    async with overlay.get(path) as response:
        page = await response.text()
    assert response.status == HTTPStatus.NOT_FOUND
    assert f'href="{index.simple_url}demo/"' in page


@pytest.mark.parametrize("path", ["/", "/help", "/project/demo/", "/project/nothing/", "/nonsense"])
async def test_every_page_forbids_what_it_does_not_need(overlay: Running, path: str) -> None:
    await overlay.upload(DEMO)
    async with overlay.get(path, Accept=BROWSER) as response:
        assert response.content_type == "text/html"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none';")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "same-origin"


async def test_an_error_is_a_page_for_browsers_and_keeps_its_headers(closed_overlay: Running) -> None:
    async with closed_overlay.get("/", Accept=BROWSER) as response:
        assert response.status == HTTPStatus.UNAUTHORIZED
        assert response.headers["WWW-Authenticate"].startswith("Basic ")
        assert response.content_type == "text/html"
        assert "<h1>Unauthorized</h1>" in await response.text()
    async with closed_overlay.get("/", Accept="text/plain") as response:
        assert response.content_type == "text/plain"


@pytest.mark.parametrize("path", ["/", "/project/demo/", "/project/demo/1.0/"])
async def test_closed_reading_closes_the_pages_too(closed_overlay: Running, path: str) -> None:
    await closed_overlay.upload(DEMO)
    async with closed_overlay.get(path) as response:
        assert response.status == HTTPStatus.UNAUTHORIZED
    async with closed_overlay.get(path, **basic(await closed_overlay.token("read"))) as response:
        assert response.status == HTTPStatus.OK
        assert response.headers["Cache-Control"] == "no-cache, private"


async def test_help_is_open_even_where_reading_is_not(closed_overlay: Running) -> None:
    async with closed_overlay.get("/help") as response:
        assert response.status == HTTPStatus.OK
        assert ".netrc" in await response.text()


async def test_below_a_prefix_every_link_keeps_it(config: Config) -> None:
    async with running(dataclasses.replace(config, public_url="https://index.example/next")) as overlay:
        await overlay.upload(DEMO)
        async with overlay.get("/") as response:
            page = await response.text()
        assert 'href="/next/project/demo/1.0/"' in page
        assert "https://index.example/next/simple/" in page
        async with overlay.get("/project/demo") as response:
            assert response.headers["Location"] == "/next/project/demo/"


async def test_a_hostile_label_is_text(overlay: Running) -> None:
    token = await overlay.token("stage", label="<b>ada</b>")
    await overlay.upload(DEMO, token=token)
    async with overlay.get("/project/demo/1.0/") as response:
        page = await response.text()
    assert "<b>" not in page
    assert "&lt;b&gt;ada&lt;/b&gt;" in page


async def test_withdrawing_shows_at_once(overlay: Running) -> None:
    await overlay.upload(DEMO)
    url = f"{overlay.url}/api/v1/projects/demo/1.0"
    async with overlay.session.delete(url, headers=basic(await overlay.token("stage"))) as response:
        assert response.status == HTTPStatus.OK
    async with overlay.get("/") as response:
        assert "Nothing yet" in await response.text()
