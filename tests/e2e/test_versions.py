"""This program and the next one on one bucket and one Redis, as during an upgrade (design §8)."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from overlay.domain.page import Format
from tests.builders import wheel
from tests.distributed import Backing, backing_in
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, basic, form
from tests.served import Served

LIMIT_S: Final = 60.0
CHECKOUT: Final = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def backing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backing]:
    """One S3 server and one Redis for this module."""
    with backing_in(tmp_path_factory.mktemp("backing")) as made:
        yield made


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    async with ScriptedIndex() as index:
        yield index.simple_url


def program(folder: Path, changes: dict[str, tuple[str, str]]) -> Path:
    """Copy this program and change it: by file, a text that is there once and what takes its place."""
    for name in ("overlay", "templates"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "config.toml", folder)
    for name, (old, new) in changes.items():
        text = (folder / name).read_text()
        assert text.count(old) == 1, (name, old)
        (folder / name).write_text(text.replace(old, new))
    return folder


async def upload(host: Served, version: str) -> None:
    async with (
        aiohttp.ClientSession(headers=basic(ADMIN)) as session,
        session.post(f"{host.url}/legacy/", data=form(wheel("demo", version))) as response,
    ):
        assert response.status == 200, await response.text()


async def page(host: Served) -> tuple[set[str], str]:
    """Return the versions that the host lists, and the ETag of its page."""
    async with (
        aiohttp.ClientSession(headers={"Accept": Format.JSON.value}) as session,
        session.get(f"{host.url}/simple/demo/") as response,
    ):
        assert response.status == 200, await response.text()
        return set((await response.json())["versions"]), response.headers["ETag"]


def host_of(backing: Backing, name: str, upstream_url: str, folder: Path = CHECKOUT) -> Served:
    """Describe a host that runs the program in this folder."""
    host = backing.host(name, upstream_url, workers=1, OVERLAY_LEDGER_PREFIX=name[0], OVERLAY_STORE_PREFIX=name[0])
    host.program = folder
    return host


async def test_both_serve_what_either_staged(backing: Backing, upstream: str, tmp_path: Path) -> None:
    """Also after Redis lost everything, whichever loads it again; a page is never taken for the other's."""
    changes = {
        "overlay/domain/renderer.py": ('VERSION: Final = "1"', 'VERSION: Final = "2"'),
        "overlay/domain/records.py": (
            "    replace: bool = True\n",
            "    replace: bool = True\n    checked_by: str = 'next'\n",
        ),
        "overlay/domain/stage.py": (
            "    facts: ArchiveFacts\n\n",
            "    facts: ArchiveFacts\n    seen_by: str = 'next'\n\n",
        ),
    }
    newer = host_of(backing, "a-newer", upstream, program(tmp_path, changes))
    async with host_of(backing, "a-older", upstream) as older, newer:
        await upload(older, "1.0")
        await upload(newer, "1.1")
        for _ in range(2):
            (seen, tag), (seen_too, other_tag) = await page(older), await page(newer)
            assert seen == seen_too == {"1.0", "1.1"}
            assert tag != other_tag
            backing.redis.call("FLUSHALL")
            await older.ready()
            await newer.ready()


async def test_documents_of_a_newer_schema_are_refused_and_left_alone(
    backing: Backing, upstream: str, tmp_path: Path
) -> None:
    """Never misread: the older program says what it cannot read, answers 503, and what the newer staged stays."""
    changes = {"overlay/domain/records.py": ("SCHEMA: Final = 1", "SCHEMA: Final = 2")}
    async with host_of(backing, "b-older", upstream) as older:
        await upload(older, "1.0")
        async with host_of(backing, "b-newer", upstream, program(tmp_path, changes)) as newer:
            await upload(newer, "1.1")
            backing.redis.call("FLUSHALL")
            await newer.ready()
            assert (await page(newer))[0] == {"1.0", "1.1"}
        backing.redis.call("FLUSHALL")
        async with asyncio.timeout(LIMIT_S):
            while "run the newer version of overlay" not in older.log:
                await asyncio.sleep(0.05)
        async with aiohttp.ClientSession() as session, session.get(f"{older.url}/simple/demo/") as response:
            assert response.status == 503
        async with host_of(backing, "b-again", upstream, tmp_path) as newer:
            assert (await page(newer))[0] == {"1.0", "1.1"}
