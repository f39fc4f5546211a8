"""`overlay promote` to other people's index servers: devpi and pypiserver."""

from pathlib import Path

import aiohttp
import pytest

from tests.clients import Clients
from tests.e2e.promoting import demo, staged
from tests.e2e.servers import SERVERS


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_release_is_promoted_to_another_index(kind: str, tmp_path: Path, clients: Clients) -> None:
    """With a user name and a password; what counts is their simple page. The second run has nothing to do."""
    built = demo()
    async with (
        SERVERS[kind](clients) as server,
        staged(tmp_path, server.simple_url, server.upload_url, built) as stage,
        aiohttp.ClientSession() as session,
    ):
        job = stage.job(*built, TWINE_USERNAME=server.username, TWINE_PASSWORD=server.password)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 0, ran.report.problem
        async with session.get(f"{server.simple_url}demo/") as answer:
            page = await answer.text()
        assert all(one.filename in page for one in built)
        assert {one.filename: one.sha256 for one in built}.items() <= (await stage.page("demo")).items()
        again = await job.run("--json", *job.dist)
        assert again.code == 0, again.report.problem
