"""Real upload clients stage files here, unchanged, and show what this server says when it refuses."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders import sdist, wheel
from tests.clients import USER, Clients, Ran, installed, write_project
from tests.e2e.readings import digests, history, listed, read_only, staged
from tests.fakes.index import ScriptedIndex
from tests.running import Running, config_for, running

NEW = (wheel("demo", "1.1", requires=["helper>=1"]), sdist("demo", "1.1", requires=["helper>=1"]))
LIVE = (wheel("demo", "1.2", payload=b"live"), sdist("demo", "1.2", payload=b"live"))
OTHER = (wheel("demo", "1.2", payload=b"other"), sdist("demo", "1.2", payload=b"other"))
HELPER = wheel("helper", "1.5")

# Well-formed, and nobody's.
UNKNOWN_TOKEN = "ovl_nobody-was-ever-given-this-token-at-all"
PYPI_TOKEN = "pypi-AgEIcHlwaS5vcmcCJGFiY2RlZgAABiB"


@dataclass(frozen=True)
class Uploader:
    """A client; `publish` uploads what is in the project's dist/ (flit builds that itself)."""

    name: str
    publish: Callable[[Clients, str, str, Path], Awaitable[Ran]]
    status_only: bool = False
    """It shows the status of a refusal in the standard's words, not in ours."""


async def twine(clients: Clients, url: str, token: str, folder: Path) -> Ran:
    return await clients.twine_upload(url, token, *dist(folder))


async def action(clients: Clients, url: str, token: str, folder: Path) -> Ran:
    """Do as pypa/gh-action-pypi-publish does (twine-upload.sh): check, then upload with all it knows in variables."""
    checked = await clients.run("twine", "check", *dist(folder))
    assert checked.code == 0, checked.output
    variables = {"TWINE_USERNAME": USER, "TWINE_PASSWORD": token, "TWINE_REPOSITORY_URL": url}
    return await clients.run("twine", "upload", "--verbose", "--disable-progress-bar", *dist(folder), extra=variables)


async def uv(clients: Clients, url: str, token: str, folder: Path) -> Ran:
    return await clients.uv_publish(url, token, *dist(folder))


async def hatch(clients: Clients, url: str, token: str, folder: Path) -> Ran:
    return await clients.hatch_publish(url, token, *dist(folder))


async def flit(clients: Clients, url: str, token: str, folder: Path) -> Ran:
    return await clients.flit_publish(url, token, folder)


async def poetry(clients: Clients, url: str, token: str, folder: Path) -> Ran:
    return await clients.poetry_publish(url, token, folder)


async def pdm(clients: Clients, url: str, token: str, folder: Path) -> Ran:
    return await clients.pdm_publish(url, token, folder)


UPLOADERS = [
    Uploader("twine", twine),
    Uploader("gh-action", action),
    Uploader("uv", uv),
    Uploader("flit", flit),
    Uploader("hatch", hatch),
    Uploader("poetry", poetry),
    Uploader("pdm", pdm, status_only=True),
]
every_uploader = pytest.mark.parametrize("uploader", UPLOADERS, ids=[uploader.name for uploader in UPLOADERS])


def dist(folder: Path) -> list[Path]:
    return sorted((folder / "dist").iterdir())


@every_uploader
async def test_a_client_stages_an_sdist_and_a_wheel_and_its_repeat_changes_nothing(
    uploader: Uploader, clients: Clients, tmp_path: Path
) -> None:
    """An upload is answered with success, is on the page at once, byte for byte, and may be repeated."""
    folder = write_project(tmp_path / "project", "demo", "1.1", files=NEW)
    async with ScriptedIndex() as index:
        index.add(*LIVE)
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            token = await overlay.token("stage")
            ran = await uploader.publish(clients, overlay.legacy, token, folder)
            assert ran.code == 0, ran.output
            sent = digests(*dist(folder))
            assert set(sent) == {"demo-1.1-py3-none-any.whl", "demo-1.1.tar.gz"}
            assert await staged(overlay, "demo") == sent
            page = await listed(overlay, "demo")
            assert {name: page[name]["hashes"] for name in sent} == {name: {"sha256": sent[name]} for name in sent}
            assert set(page) == set(sent) | {file.filename for file in LIVE}

            again = await uploader.publish(clients, overlay.legacy, token, folder)
            assert again.code == 0, again.output
            assert await listed(overlay, "demo") == page  # the same urls: nothing was stored anew
            assert await history(overlay, "demo") == []
        assert read_only(index)


@every_uploader
async def test_a_client_shows_the_sentence_of_a_refusal(uploader: Uploader, clients: Clients, tmp_path: Path) -> None:
    """Refused for a live file with other bytes, a wrong token or PyPI's token, the client fails and says why."""
    cases = {
        "live": ("400 Bad Request", "File already exists ('demo-1.2"),
        "unknown": ("401 Unauthorized", "This overlay does not know the token; it may have been revoked."),
        "pypi": ("403 Forbidden", "revoke it on PyPI if you do not trust this server, and use a token of this overlay"),
    }
    async with ScriptedIndex() as index:
        index.add(*LIVE)
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            tokens = {"live": await overlay.token("stage"), "unknown": UNKNOWN_TOKEN, "pypi": PYPI_TOKEN}
            runs = await asyncio.gather(
                *(
                    uploader.publish(
                        clients,
                        overlay.legacy,
                        tokens[case],
                        write_project(tmp_path / case, "demo", "1.2", files=OTHER),
                    )
                    for case in cases
                )
            )
            for (status, sentence), ran in zip(cases.values(), runs, strict=True):
                assert ran.code != 0, ran.output
                assert (status if uploader.status_only else sentence) in ran.output
            assert await staged(overlay, "demo") == {}
        assert read_only(index)


async def test_skipping_what_exists_works_where_the_client_allows_it(clients: Clients, tmp_path: Path) -> None:
    """`--skip-existing` of poetry and pdm passes over live files with other bytes, and stages the rest of the release.

    twine refuses the option for every index but PyPI and TestPyPI, before it asks anything.
    """
    new_wheel, live_sdist = wheel("demo", "1.2", tag="py2-none-any"), OTHER[1]
    async with ScriptedIndex() as index:
        index.add(*LIVE)
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            token = await overlay.token("stage")
            skip = ("--skip-existing",)

            refusing = write_project(tmp_path / "twine", "demo", "1.2", files=[new_wheel, live_sdist])
            ran = await clients.twine_upload(overlay.legacy, token, *dist(refusing), options=skip)
            assert ran.code != 0
            assert "UnsupportedConfiguration" in ran.output
            assert index.requests == []

            folder = write_project(tmp_path / "poetry", "demo", "1.2", files=[new_wheel, live_sdist])
            ran = await clients.poetry_publish(overlay.legacy, token, folder, options=skip)
            assert ran.code == 0, ran.output
            assert await staged(overlay, "demo") == {new_wheel.filename: new_wheel.sha256}

            another = wheel("demo", "1.2", tag="py311-none-any")
            folder = write_project(tmp_path / "pdm", "demo", "1.2", files=[another, live_sdist])
            ran = await clients.pdm_publish(overlay.legacy, token, folder, options=skip)
            assert ran.code == 0, ran.output
            assert set(await staged(overlay, "demo")) == {new_wheel.filename, another.filename}


async def test_uv_finds_by_its_check_url_what_is_staged_and_what_is_live(clients: Clients, tmp_path: Path) -> None:
    """`uv publish --check-url` sends only what is neither staged nor live, and stops at other bytes."""
    async with ScriptedIndex() as index:
        index.add(*LIVE)
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            token = await overlay.token("stage")
            check = ("--check-url", overlay.simple)
            await overlay.upload(NEW[0])
            folder = write_project(tmp_path / "new", "demo", "1.1", files=NEW)
            ran = await clients.uv_publish(overlay.legacy, token, *dist(folder), options=check)
            assert ran.code == 0, ran.output
            assert f"{NEW[0].filename} already exists, skipping" in ran.output
            assert f"Uploading {NEW[1].filename}" in ran.output
            again = await clients.uv_publish(overlay.legacy, token, *dist(folder), options=check)
            assert again.code == 0, again.output
            assert again.output.count("already exists, skipping") == 2
            assert "Uploading" not in again.output
            assert await staged(overlay, "demo") == digests(*dist(folder))

            folder = write_project(tmp_path / "other", "demo", "1.2", files=OTHER)
            ran = await clients.uv_publish(overlay.legacy, token, *dist(folder), options=check)
            assert ran.code != 0, ran.output
            assert LIVE[0].sha256 in ran.output  # what it found, beside what it has
            assert OTHER[0].sha256 in ran.output


async def test_right_after_the_upload_one_index_url_installs_the_staged_version_and_live_dependencies(
    clients: Clients, tmp_path: Path
) -> None:
    """Pip and uv, whose caches hold the page of before, get the new version, and its dependency from upstream."""
    async with ScriptedIndex() as index:
        index.add(wheel("demo", "1.0"), HELPER)
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            assert set(await asyncio.gather(*_installed(clients, overlay, tmp_path / "before"))) == {"demo 1.0"}
            folder = write_project(tmp_path / "project", "demo", "1.1", files=NEW)
            ran = await clients.twine_upload(overlay.legacy, await overlay.token("stage"), *dist(folder))
            assert ran.code == 0, ran.output
            after = await asyncio.gather(*_installed(clients, overlay, tmp_path / "after"))
            assert set(after) == {"demo 1.1, helper 1.5"}
        files = {asked.path.rpartition("/")[2] for asked in index.requests if asked.path.startswith("/files/")}
        assert files == {"demo-1.0-py3-none-any.whl", "demo-1.0-py3-none-any.whl.metadata"} | {
            HELPER.filename,
            HELPER.filename + ".metadata",
        }
        assert read_only(index)


def _installed(clients: Clients, overlay: Running, folder: Path) -> list[Awaitable[str]]:
    async def one(install: Callable[[str, str, Path], Awaitable[Ran]], target: Path) -> str:
        ran = await install(overlay.simple, "demo", target)
        assert ran.code == 0, ran.output
        return ", ".join(f"{name} {version}" for name, version in sorted(installed(target).items()))

    return [one(clients.pip_install, folder / "pip"), one(clients.uv_pip_install, folder / "uv")]
