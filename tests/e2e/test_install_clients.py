"""Real installers read through the overlay: what nobody staged as from upstream, and what is staged on top of it."""

import asyncio
import gzip
import hashlib
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders import sdist, wheel
from tests.clients import Clients, installed, locked, write_project
from tests.e2e.readings import fetch, history, listed, path_of, withdraw
from tests.e2e.servers import SERVERS
from tests.fakes.index import JSON, ScriptedIndex
from tests.running import Running, config_for, running

APP = (
    wheel("app", "1.0", requires=["helper>=1.2"]),
    sdist("app", "1.0", requires=["helper>=1.2"]),
    wheel("app", "0.9"),
    wheel("app", "1.1.dev1"),
)
HELPER = (wheel("helper", "1.5"), sdist("helper", "1.5"), wheel("helper", "1.6"))


async def resolutions(clients: Clients, index_url: str, folder: Path) -> dict[str, str]:
    """Resolve `app` with every client: what each would install or lock, its index's URL replaced by a word."""
    report = folder / "report.json"
    poetry = write_project(folder / "poetry", "root", "1.0", requires=["app"], index_url=index_url)
    pdm = write_project(folder / "pdm", "root", "1.0", requires=["app"])
    where = ("--index-url", index_url, "--ignore-installed", "--dry-run", "--report", report)
    runs = await asyncio.gather(
        clients.run("pip", "install", *where, "app"),
        clients.uv_pip_compile(index_url, "app", "--quiet", "--generate-hashes", "--emit-index-annotation"),
        clients.uv_pip_compile(index_url, "app", "--quiet", "--format", "pylock.toml"),
        clients.poetry_lock(poetry),
        clients.pdm_lock(index_url, pdm, "--strategy", "static_urls"),
    )
    for ran in runs:
        assert ran.code == 0, ran.output
    plan = [
        {key: wanted[key] for key in ("download_info", "metadata")}
        for wanted in json.loads(report.read_text())["install"]
    ]
    texts = {
        "pip": json.dumps(plan, indent=1),
        "uv hashes": runs[1].output,
        "uv pylock": runs[2].output,
        # The hash is that of pyproject.toml, which has the index's URL.
        "poetry": re.sub('content-hash = ".*"', "", (poetry / "poetry.lock").read_text()),
        "pdm": (pdm / "pdm.lock").read_text(),
    }
    return {client: text.replace(index_url.rstrip("/"), "INDEX") for client, text in texts.items()}


async def test_what_nobody_staged_is_resolved_and_locked_as_from_upstream(clients: Clients, tmp_path: Path) -> None:
    """Pip's plan and the locks of uv, poetry and pdm (versions, digests, file URLs) do not tell the two apart."""
    away = Clients(tmp_path / "away")
    away.root.mkdir()
    async with ScriptedIndex() as index:
        index.add(*APP, *HELPER)
        index.yanked["helper", "1.6"] = "broken"
        config = config_for(tmp_path / "store", index.simple_url)
        async with running(config) as overlay:
            await overlay.upload(wheel("demo", "1.1"))  # another project
            direct = await resolutions(away, index.simple_url, tmp_path / "direct")
            through = await resolutions(clients, overlay.simple, tmp_path / "through")
        for client, text in direct.items():
            assert "1.5" in text, client  # of helper: 1.6 is yanked
            assert HELPER[0].sha256 in text, client
            assert through[client] == text, client


@pytest.mark.parametrize("gzipped", [True, False], ids=["gzip", "identity"])
async def test_the_page_of_what_nobody_staged_is_upstreams_byte_for_byte(gzipped: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Clients get upstream's very bytes, as upstream compressed them, with links to upstream's files."""
    async with ScriptedIndex(gzip=gzipped) as index:
        index.add(*APP)
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            await overlay.upload(wheel("demo", "1.1"))
            _, body = await fetch(overlay, "/simple/app/", Accept=JSON, Accept_Encoding="identity")
            assert body == index.page_json("app")
            _, packed = await fetch(overlay, "/simple/app/", Accept=JSON, Accept_Encoding="gzip")
            assert gzip.decompress(packed) == body
            if gzipped:
                assert packed == gzip.compress(body, 6, mtime=0)
            urls = {file["url"] for file in (await listed(overlay, "app")).values()}
            assert {url.rpartition("/files/")[0] for url in urls} == {index.url}


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_real_server_with_relative_links_can_be_upstream(kind: str, clients: Clients, tmp_path: Path) -> None:
    """Pip and uv install devpi's and pypiserver's files through the overlay, and what is staged on top of them."""
    home = Clients(tmp_path / "server")
    home.root.mkdir()
    ours = (wheel("app", "1.1", requires=["helper"]), wheel("helper", "1.6"))
    async with SERVERS[kind](home) as server:
        await server.upload(*APP[:2], *HELPER[:2])
        async with running(config_for(tmp_path / "store", server.simple_url)) as overlay:
            page = await listed(overlay, "helper")
            assert set(page) == {file.filename for file in HELPER[:2]}
            for file in HELPER[:2]:
                async with overlay.session.get(
                    page[file.filename]["url"]
                ) as response:  # absolute: the session has no base
                    assert hashlib.sha256(await response.read()).hexdigest() == file.sha256
            assert await everywhere(clients, overlay, "app", tmp_path / "live") == {"app 1.0, helper 1.5"}
            for built in ours:
                assert (await overlay.upload(built)).status == 200
            assert await everywhere(clients, overlay, "app", tmp_path / "staged") == {"app 1.1, helper 1.6"}
            found = await everywhere(clients, overlay, "app==1.1", tmp_path / "mixed", "helper<1.6")
            assert found == {"app 1.1, helper 1.5"}


async def test_a_staged_sdist_without_a_wheel_is_built_and_installed(clients: Clients, tmp_path: Path) -> None:
    """Pip and uv build the staged sdist, and fetch what it needs from upstream."""
    async with ScriptedIndex() as index:
        index.add(*HELPER[:1])
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            await overlay.upload(sdist("demo", "1.1", requires=["helper"], payload=b"built"))
            found = await everywhere(clients, overlay, "demo", tmp_path / "target")
            assert found == {"demo 1.1, helper 1.5"}
            for client in ("pip", "uv"):
                assert b"built" in (tmp_path / "target" / client / "demo.py").read_bytes()


async def test_poetry_and_pdm_lock_a_staged_release_with_its_digests(clients: Clients, tmp_path: Path) -> None:
    """What is staged, and the live dependency, stand in the locks with the bytes' digests."""
    ours = (wheel("demo", "1.1", requires=["helper<1.6"]), sdist("demo", "1.1", requires=["helper<1.6"]))
    async with ScriptedIndex() as index:
        index.add(wheel("demo", "1.0"), *HELPER)
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            for built in ours:
                await overlay.upload(built)
            poetry = write_project(tmp_path / "poetry", "root", "1.0", requires=["demo"], index_url=overlay.simple)
            pdm = write_project(tmp_path / "pdm", "root", "1.0", requires=["demo"])
            runs = await asyncio.gather(clients.poetry_lock(poetry), clients.pdm_lock(overlay.simple, pdm))
            for ran in runs:
                assert ran.code == 0, ran.output
            for lock in (poetry / "poetry.lock", pdm / "pdm.lock"):
                packages = locked(lock)
                assert {name: package.version for name, package in packages.items()} == {"demo": "1.1", "helper": "1.5"}
                assert packages["demo"].hashes == {file.filename: f"sha256:{file.sha256}" for file in ours}


async def test_replaced_bytes_reach_the_next_install_and_the_old_url_serves_its_time(
    clients: Clients, tmp_path: Path
) -> None:
    """Installers with warm caches get the new bytes; the old URL serves the old ones until `grace_s` is over."""
    clock = Clock()
    old, new = (wheel("demo", "1.1", payload=payload) for payload in (b"old", b"new"))
    async with ScriptedIndex() as index:
        index.add(wheel("demo", "1.0"))
        config = config_for(tmp_path / "store", index.simple_url)
        config = replace(config, uploads=replace(config.uploads, grace_s=600))
        async with running(config, now_s=clock) as overlay:
            await overlay.upload(old)
            old_path = path_of((await listed(overlay, "demo"))[old.filename])
            assert await payloads(clients, overlay, "demo==1.1", tmp_path / "before") == {b"old"}

            assert (await overlay.upload(new)).status == 200
            assert await payloads(clients, overlay, "demo==1.1", tmp_path / "after") == {b"new"}
            assert await history(overlay, "demo") == [(old.filename, old.sha256, "replaced")]

            assert await fetch(overlay, old_path) == (200, old.body)
            clock.ahead_s = 599
            assert await fetch(overlay, old_path) == (200, old.body)
            clock.ahead_s = 601
            assert (await fetch(overlay, old_path))[0] == 404
            assert (await fetch(overlay, old_path + ".metadata"))[0] == 404
            assert await payloads(clients, overlay, "demo==1.1", tmp_path / "later") == {b"new"}


async def test_a_withdrawn_release_is_gone_at_once_for_installers_with_caches(clients: Clients, tmp_path: Path) -> None:
    """The file is 404 and the page lacks it, so pip and uv fall back to what is live, and refuse the withdrawn pin."""
    ours = wheel("demo", "1.1")
    async with ScriptedIndex() as index:
        index.add(wheel("demo", "1.0"))
        async with running(config_for(tmp_path / "store", index.simple_url)) as overlay:
            await overlay.upload(ours)
            path = path_of((await listed(overlay, "demo"))[ours.filename])
            assert await everywhere(clients, overlay, "demo", tmp_path / "before") == {"demo 1.1"}

            assert await withdraw(overlay, "demo", "1.1") == 200
            assert (await fetch(overlay, path))[0] == 404
            assert (await fetch(overlay, path + ".metadata"))[0] == 404
            assert set(await listed(overlay, "demo")) == {"demo-1.0-py3-none-any.whl"}
            assert await history(overlay, "demo") == [(ours.filename, ours.sha256, "withdrawn")]
            assert await everywhere(clients, overlay, "demo", tmp_path / "after") == {"demo 1.0"}
            for install in (clients.pip_install, clients.uv_pip_install):
                ran = await install(overlay.simple, "demo==1.1", tmp_path / "refused")
                assert ran.code != 0, ran.output


class Clock:
    """A clock that stands still, so that a slow client uses up no grace, until a test moves it."""

    def __init__(self) -> None:
        self._stopped_at_s = time.time()
        self.ahead_s = 0

    def __call__(self) -> float:
        return self._stopped_at_s + self.ahead_s


async def everywhere(
    clients: Clients, overlay: Running, requirement: str, folder: Path, *requirements: str
) -> set[str]:
    """Install with pip and with uv, below the folder; what each has afterwards, in words."""
    targets = {folder / "pip": clients.pip_install, folder / "uv": clients.uv_pip_install}
    runs = await asyncio.gather(
        *(install(overlay.simple, requirement, target, *requirements) for target, install in targets.items())
    )
    for ran in runs:
        assert ran.code == 0, ran.output
    return {", ".join(f"{name} {version}" for name, version in sorted(installed(target).items())) for target in targets}


async def payloads(clients: Clients, overlay: Running, requirement: str, folder: Path) -> set[bytes]:
    """Install with pip and with uv; the payload of the module that each wrote."""
    await everywhere(clients, overlay, requirement, folder)
    found = set()
    for module in folder.glob("*/demo.py"):
        matched = re.search(rb"PAYLOAD = b'(.*)'", module.read_bytes())
        assert matched is not None
        found.add(matched[1])
    return found
