"""What `overlay promote` makes of the answers of whoever stands in front of the overlay."""

import pytest
from aiohttp import web
from yarl import URL

from overlay.cli.client import Connection, Server
from overlay.cli.promotion_client import PromotionClient
from overlay.promote.errors import ServerAnswered, ServerSilent
from tests.promote.test_push import serving


async def renewed(status: int) -> None:
    """Renew a lease at a server that answers so."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="<html>")

    async with serving(answer) as url, Connection(Server(URL(url).origin(), "")) as connection:
        await PromotionClient(connection).renew("a" * 32, 1)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_proxy_that_holds_a_call_back_does_not_end_a_run(status: int) -> None:
    """The overlay said nothing: the call is made again as long as the lease holds."""
    with pytest.raises(ServerSilent):
        await renewed(status)


@pytest.mark.parametrize("status", [400, 404, 413])
async def test_what_does_not_pass_ends_it(status: int) -> None:
    """To ask again would not help."""
    with pytest.raises(ServerAnswered):
        await renewed(status)
