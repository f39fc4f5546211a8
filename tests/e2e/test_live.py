"""In front of the live index: one small page as PyPI sends it, and a staged project installed with what is live."""

import json
import os
from pathlib import Path

import aiohttp
import pytest

from overlay.config.tables import UpstreamConfig
from tests.builders import wheel
from tests.clients import Clients, installed
from tests.e2e.readings import fetch
from tests.fakes.index import JSON
from tests.running import config_for, running

pytestmark = pytest.mark.live

LIVE_URL = "https://pypi.org/simple/"
PROJECT = "iniconfig"  # pure, without dependencies, and its page has seven kilobytes

# Whom this machine trusts (a proxy's certificates, perhaps): the clients' environment has nothing else of it.
TRUST = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT") if name in os.environ}


async def test_one_index_url_serves_the_live_page_and_installs_a_staged_project_with_a_live_dependency(
    clients: Clients, tmp_path: Path
) -> None:
    """PyPI's page passes through byte for byte; pip takes the staged project here and its dependency from PyPI."""
    config = config_for(tmp_path / "store", LIVE_URL, upstream=UpstreamConfig(url=LIVE_URL))
    async with running(config) as overlay:
        async with (
            aiohttp.ClientSession(headers={"Accept": JSON}) as session,
            session.get(f"{LIVE_URL}{PROJECT}/") as response,
        ):
            assert response.status == 200
            sent = await response.read()
        status, body = await fetch(overlay, f"/simple/{PROJECT}/", Accept=JSON, Accept_Encoding="identity")
        assert status == 200, body
        assert body == sent
        assert all(file["url"].startswith("https://") for file in json.loads(body)["files"])

        name = "overlay-index-staged-in-a-test"  # which nobody has
        answer = await overlay.upload(wheel(name, "1.0", requires=[f"{PROJECT}>=2"]))
        assert answer.status == 200, answer
        target = tmp_path / "target"
        where = ("--index-url", overlay.simple, "--target", target, "--no-compile", "--only-binary", ":all:")
        ran = await clients.run("pip", "install", *where, f"{name}==1.0", extra=TRUST)
        assert ran.code == 0, ran.output
        found = installed(target)
        assert set(found) == {name, PROJECT}
        assert int(found[PROJECT].partition(".")[0]) >= 2
