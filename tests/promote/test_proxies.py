"""The environment's proxy, as pip and twine understand it, and what becomes of a push where it refuses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from overlay.promote.answers import NotSent
from overlay.promote.clock import Clock
from overlay.promote.errors import Refused
from overlay.promote.hosts import target
from overlay.promote.http import session_to
from overlay.promote.mint import ask_audience
from overlay.promote.proxies import proxy_for
from overlay.promote.push import HttpPush, reach
from tests.builders import wheel
from tests.promote.packages import package

UPLOAD = URL("https://upload.example/legacy/")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({"HTTPS_PROXY": "proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTPS_PROXY": "https://proxy.example"}, "https://proxy.example"),
        ({"ALL_PROXY": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"ALL_PROXY": "http://other.example", "HTTPS_PROXY": "http://proxy.example"}, "http://proxy.example"),
        ({"HTTPS_PROXY": "http://proxy.example", "NO_PROXY": "upload.example:443"}, None),
        ({"HTTPS_PROXY": "http://proxy.example", "NO_PROXY": "upload.example:8443"}, "http://proxy.example"),
        ({"HTTPS_PROXY": "http://proxy.example", "NO_PROXY": ".example"}, None),
    ],
)
def test_a_proxy_is_read_as_others_read_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], proxy: str | None
) -> None:
    """Without a scheme, for all schemes, and left out for a host with its port."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(UPLOAD) == proxy


@pytest.mark.parametrize("raw", ["socks5://user:s3cret@proxy.example:1080", "http://[bad", "ftp://proxy.example"])
async def test_what_is_no_http_proxy_is_refused_by_its_variable(monkeypatch: pytest.MonkeyPatch, raw: str) -> None:
    """Before anything is sent; the address may hold a password and is not shown."""
    monkeypatch.setenv("HTTPS_PROXY", raw)
    with pytest.raises(Refused, match="HTTPS_PROXY") as caught:
        async with session_to(target(str(UPLOAD))):
            pass
    assert "s3cret" not in str(caught.value)
    assert "proxy.example:1080" not in str(caught.value)


@contextlib.asynccontextmanager
async def proxy(answer: bytes) -> AsyncIterator[str]:
    """Run a proxy that answers so to whatever it is asked; its address, with a password."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://user:s3cret@127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _now(_: float) -> None:
    """Sleep not at all."""


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407"),
        (b"HTTP/1.1 503 Not Now\r\nContent-Length: 0\r\n\r\n", "503"),
    ],
)
async def test_a_proxy_that_refuses_is_named_and_nothing_counts_as_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: bytes, why: str
) -> None:
    """By the look before the pushes, by a push, and where Trusted Publishing is asked for; never with its password."""
    to, said = target(str(UPLOAD)), list[str]()
    async with proxy(answer) as address:
        monkeypatch.setenv("HTTPS_PROXY", address)
        async with session_to(to) as session:
            with pytest.raises(Refused) as reached:
                await reach(session, to)
            pushed = await HttpPush(session, to)(package(wheel("demo", "1.1"), tmp_path), "Basic x", lambda _: None)
        with pytest.raises(Refused) as asked:
            await ask_audience(to, Clock(passed_s=float, now_s=float, sleep=_now))
    assert isinstance(pushed, NotSent)
    said += [pushed.said, str(reached.value), str(asked.value)]
    assert all(why in words and "The proxy refused" in words for words in said)
    assert all("s3cret" not in words for words in said)


async def test_a_host_that_cannot_be_reached_is_not_said_to_lack_trusted_publishing() -> None:
    """Nobody looks at a publisher's settings for a port that is closed."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(Refused) as caught:
        await ask_audience(target(f"http://127.0.0.1:{port}/legacy/"), Clock(passed_s=float, now_s=float, sleep=_now))
    assert "could not be asked for Trusted Publishing: Cannot connect" in str(caught.value)
    assert "offers no" not in str(caught.value)
