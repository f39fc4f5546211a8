"""What `overlay promote` makes of the answers of whoever stands in front of the overlay."""

import pytest
from aiohttp import web
from yarl import URL

from overlay.cli.client import Connection, Server
from overlay.cli.promotion_client import PromotionClient
from overlay.promote.errors import ServerAnswered, ServerSilent
from tests.promote.test_proxies import proxy
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


async def said(url: str) -> list[str]:
    """Call the overlay at a URL, and read a file there; return why neither could be done."""
    async with Connection(Server(URL(url), "")) as connection:
        client = PromotionClient(connection)
        with pytest.raises((ServerSilent, ServerAnswered)) as called:
            await client.renew("a" * 32, 1)
        with pytest.raises((ServerSilent, ServerAnswered)) as read:
            async with client.open(f"{url}/files/x"):
                pass
    return [str(called.value), str(read.value)]


@pytest.mark.parametrize("url", ["https://overlay.example", "http://overlay.example"])
async def test_a_proxy_that_refuses_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """These words reach the log, the report and the step summary."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as address:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, address)
        answered = await said(url)
    silent = await said(url)  # for it is gone
    assert all("407 Proxy Authentication Required" in words for words in answered)
    assert all("The proxy cannot be reached" in words for words in silent)
    assert all("s3cret" not in words and "user" not in words for words in answered + silent)
