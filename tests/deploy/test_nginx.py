"""deploy/nginx.conf in a real nginx: what it does to requests on their way to an overlay."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme
from aiohttp import web

from tests.deploy.backends import LIMIT_S, always, backend, hang_up
from tests.nginx import checked, nginx_in_front_of, written
from tests.ports import HOST, free_port

MIB = 1024 * 1024
METRICS = (
    "/-/metrics",
    "/-/metrics/",
    "/-/metrics?x=1",
    "/next/-/metrics",
    "//-/metrics",
    "/-//metrics",
    "//host/-/metrics",
    "/%2d/metrics",
    "/-/met%72ics",
    "/-%2fmetrics",
    "/./-/metrics",
    "/simple/../-/metrics",
    "/-/metrics#fragment",
    "http://other.example/-/metrics",
)


async def raw(url: str, target: str, *headers: str) -> bytes:
    """Send a GET whose target is written as it is here, and return the whole answer."""
    at = urlsplit(url)
    assert at.port is not None
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    lines = (f"GET {target} HTTP/1.1", f"Host: {at.netloc}", "Connection: close", *headers)
    writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    answer = await asyncio.wait_for(reader.read(), LIMIT_S)
    writer.close()
    return answer


def certificate(folder: Path) -> ssl.SSLContext:
    """Write a certificate for the loopback address as nginx wants it; returns what clients must trust."""
    authority = trustme.CA()
    issued = authority.issue_cert(HOST)
    issued.private_key_pem.write_to_path(folder / "privkey.pem")
    (folder / "fullchain.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return trusting


@pytest.mark.parametrize("enabled", [(), ("cache",), ("tls",), ("cache", "tls")])
def test_nginx_takes_the_file(tmp_path: Path, enabled: tuple[str, ...]) -> None:
    """As it ships, and with what is in comments."""
    certificate(tmp_path)
    replaced = {"/etc/nginx/tls": str(tmp_path)}
    assert "[warn]" not in checked(written([8081, 8082], tmp_path, free_port(), enabled=enabled, replaced=replaced))


async def test_an_upload_reaches_the_overlay_while_it_is_sent(tmp_path: Path) -> None:
    """The client sends the second part only once the server has the first; nginx keeps nothing back."""
    arrived = asyncio.Event()

    async def read(request: web.Request) -> web.StreamResponse:
        first = await request.content.readexactly(5)
        arrived.set()
        return web.Response(text=f"{first.decode()} {len(await request.read())}")

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.wait_for(arrived.wait(), LIMIT_S)
        yield bytes(2 * MIB)

    async with backend(read) as served, aiohttp.ClientSession() as session:
        with nginx_in_front_of([served.port], tmp_path) as url:
            headers = {"Content-Length": str(5 + 2 * MIB)}
            async with session.post(f"{url}/legacy/", data=body(), headers=headers) as response:
                assert await response.text() == f"first {2 * MIB}"
            arrived.clear()
            async with session.post(f"{url}/legacy/", data=body()) as response:  # in chunks
                assert await response.text() == f"first {2 * MIB}"


async def test_a_download_is_not_stored_on_its_way(tmp_path: Path) -> None:
    """While the client takes nothing the server cannot send on, but for what buffers and sockets hold."""
    sent = 0

    async def send(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        response.content_length = 64 * MIB
        await response.prepare(request)
        for _ in range(64):
            await response.write(bytes(MIB))
            sent += MIB
        return response

    async with backend(send) as served, aiohttp.ClientSession(read_bufsize=2**16) as session:
        with nginx_in_front_of([served.port], tmp_path) as url:
            async with session.get(f"{url}/files/demo/id/demo-1.0.tar.gz") as response:
                seen = -1
                async with asyncio.timeout(LIMIT_S):
                    while sent != seen:
                        seen = sent
                        await asyncio.sleep(0.5)  # nothing tells that a socket stays full
                assert sent < 48 * MIB
                assert len(await response.read()) == 64 * MIB


async def test_what_a_client_says_of_itself_is_dropped(tmp_path: Path) -> None:
    """The overlay hears the client's real address, the scheme and the Host with its port, and hears them once."""
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=203.0.113.9",
    }
    async with backend() as served, aiohttp.ClientSession(headers=forged) as session:
        with nginx_in_front_of([served.port], tmp_path) as url:
            for method in ("GET", "POST"):
                async with session.request(method, f"{url}/simple/") as response:
                    assert response.status == 200
            for request in served.requests:
                assert request.headers.getall("X-Forwarded-For") == [HOST]
                assert request.headers.getall("X-Forwarded-Proto") == ["http"]
                assert request.headers.getall("X-Forwarded-Host") == [urlsplit(url).netloc]
                assert request.headers.getall("Host") == [urlsplit(url).netloc]
                assert "Forwarded" not in request.headers


async def test_with_tls_the_overlay_hears_https(tmp_path: Path) -> None:
    """So that the URLs it forms begin with it."""
    trusting, port = certificate(tmp_path), free_port()
    replaced = {"/etc/nginx/tls": str(tmp_path), "listen 8443 ssl;": f"listen {HOST}:{port} ssl;"}
    async with backend() as served, aiohttp.ClientSession() as session:
        with nginx_in_front_of([served.port], tmp_path, enabled=["tls"], replaced=replaced):
            async with session.get(f"https://{HOST}:{port}/simple/", ssl=trusting) as response:
                assert response.status == 200
        assert served.requests[0].headers["X-Forwarded-Proto"] == "https"


async def test_metrics_are_not_for_the_outside(tmp_path: Path) -> None:
    """However the path is written; health and readiness are."""
    async with backend() as served:
        with nginx_in_front_of([served.port], tmp_path) as url:
            for target in METRICS:
                assert (await raw(url, target)).startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), target
            assert served.requests == []
            for target in ("/-/health", "/-/ready", "/simple/metrics/"):
                assert (await raw(url, target)).startswith(b"HTTP/1.1 200"), target


async def test_paths_pass_as_they_were_written(tmp_path: Path) -> None:
    """What nginx makes of a path of a path (decoded, dots and double slashes gone) is not what it asks for."""
    targets = ["/simple/%64emo/", "/files/demo/id/demo-1.0%2Blocal.whl?x=1", "//simple//demo/", "/s/a+b/simple/"]
    async with backend() as served:
        with nginx_in_front_of([served.port], tmp_path) as url:
            for target in targets:
                await raw(url, target)
        assert served.paths == targets


async def test_the_overlay_decides_how_much_is_too_much(tmp_path: Path) -> None:
    """Its refusal arrives whole, with its reason, while the client is still sending; so do long headers there."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        await request.content.readany()
        return web.Response(status=413, reason="The file is larger than 1 GiB", text="too large")

    async with backend(refuse) as served, aiohttp.ClientSession() as session:
        with nginx_in_front_of([served.port], tmp_path) as url:
            async with session.post(f"{url}/legacy/", data=io.BytesIO(bytes(32 * MIB))) as response:
                assert (response.status, response.reason) == (413, "The file is larger than 1 GiB")
                assert await response.text() == "too large"
            served.answer = always(200)
            long = f"Authorization: Bearer {'x' * 17 * 1024}"
            assert (await raw(url, "/simple/", long)).startswith(b"HTTP/1.1 200")
    assert served.requests[-1].headers["Authorization"] in long


async def test_a_dead_server_is_passed_over(tmp_path: Path) -> None:
    """For every method: nothing was sent yet. And it is asked again as soon as it is back."""
    away = free_port()
    async with backend() as alive, aiohttp.ClientSession() as session:
        with nginx_in_front_of([away, alive.port], tmp_path) as url:
            for method in ("GET", "HEAD", "POST", "DELETE") * 5:
                async with session.request(method, f"{url}/simple/") as response:
                    assert response.status == 200
            assert len(alive.requests) == 20
            async with backend(port=away) as back:
                for _ in range(4):
                    async with session.get(f"{url}/simple/") as response:
                        assert response.status == 200
                assert back.requests


async def test_a_request_over_which_a_server_died_is_repeated_only_if_it_may_be(tmp_path: Path) -> None:
    """A GET is asked of the other one; a POST may have done its work, so its sender must decide."""
    async with backend(hang_up) as dying, backend() as alive, aiohttp.ClientSession() as session:
        with nginx_in_front_of([dying.port, alive.port], tmp_path) as url:
            for _ in range(6):
                async with session.get(f"{url}/simple/") as response:
                    assert response.status == 200
            assert dying.requests
            before, failed = len(alive.requests), 0
            for _ in range(6):
                async with session.post(f"{url}/legacy/", data=b"once") as response:
                    failed += response.status == 502
            assert failed
            assert len(alive.requests) - before == 6 - failed


async def test_an_overlay_that_says_503_is_believed_and_asked_again(tmp_path: Path) -> None:
    """Its answer goes out as it is, is asked for once, and takes no server out of use."""
    async with backend(always(503)) as one, backend(always(502)) as two, aiohttp.ClientSession() as session:
        with nginx_in_front_of([one.port, two.port], tmp_path) as url:
            for _ in range(10):
                async with session.get(f"{url}/simple/demo/") as response:
                    assert response.status in {502, 503}
            assert len(one.requests) + len(two.requests) == 10
            one.answer = two.answer = always(200)
            async with session.get(f"{url}/simple/demo/") as response:
                assert response.status == 200


async def test_no_write_goes_out_on_a_connection_that_may_just_be_closing(tmp_path: Path) -> None:
    """Reads share a connection; each write has its own, and says that it will be the only one."""
    async with backend() as served, aiohttp.ClientSession() as session:
        with nginx_in_front_of([served.port], tmp_path) as url:
            for method in ("GET",) * 6 + ("POST",) * 6 + ("GET",) * 2:
                async with session.request(method, f"{url}/legacy/") as response:
                    assert response.status == 200
    reads = {served.connections[n] for n, request in enumerate(served.requests) if request.method == "GET"}
    writes = [request for request in served.requests if request.method == "POST"]
    assert len(reads) == 1  # one connection of the client's, so one of nginx's workers
    assert len(set(served.connections) - reads) == len(writes) == 6
    assert {request.headers.get("Connection") for request in writes} == {"close"}


async def test_secrets_of_urls_are_not_logged(tmp_path: Path) -> None:
    """A secret stage's name, wherever it stands, and the query; other paths are."""
    async with backend() as served:
        with nginx_in_front_of([served.port], tmp_path) as url:
            for path in (
                "st_open-sesame/simple/demo/",
                "main+st_open-sesame/simple/",
                "%73t_open-sesame",
                "flags/simple/",
            ):
                await raw(url, f"/next/s/{path}?token=open-sesame")
    log = (tmp_path / "access.log").read_text()
    assert log.count("/next/s/") == 4
    assert "/next/s/.../simple/demo/" in log
    assert "/next/s/flags/simple/" in log
    assert "sesame" not in log
