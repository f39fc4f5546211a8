"""Other people's index servers as targets of uploads: what they take, refuse and list."""

from collections.abc import Mapping
from dataclasses import replace

import aiohttp
import pytest

from tests.builders import sdist, wheel
from tests.clients import Clients
from tests.e2e.servers import SERVERS
from tests.pypi.sending import Sending


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_index_server_takes_uploads_with_its_password(kind: str, clients: Clients) -> None:
    """Files go in with the password and are listed at once; a name that is taken is 409, an unknown sender 401.

    The very file again is 200 at devpi and 409 at pypiserver.
    """
    async with SERVERS[kind](clients) as server, aiohttp.ClientSession() as session:
        await server.upload(wheel("demo", "1.0"), sdist("demo", "1.0"))
        async with session.get(f"{server.simple_url}demo/") as response:
            page = await response.text()
        assert "demo-1.0-py3-none-any.whl" in page
        assert "demo-1.0.tar.gz" in page
        known = {"Authorization": aiohttp.encode_basic_auth(server.username, server.password)}
        unknown: Mapping[str, str] = {}
        same, other = wheel("demo", "1.0"), wheel("demo", "1.0", payload=b"other")
        again = 200 if kind == "devpi" else 409
        for built, headers, status in ((same, known, again), (other, known, 409), (other, unknown, 401)):
            sending = replace(Sending.of(built), headers=headers)
            assert (await sending.to(server.upload_url)).status == status
