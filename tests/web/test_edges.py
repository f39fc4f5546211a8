"""What strangers send and what breaks in the middle: no second answer, no forged line, no stack trace."""

import asyncio
import dataclasses
import io
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from overlay.domain.errors import StoreUnavailable
from overlay.domain.layout import STORE_MARK
from overlay.domain.ports import BlobKey, BlobStore
from overlay.storage.blobs_directory import DirectoryBlobs
from overlay.web.app import application
from overlay.web.context import Lifecycle
from overlay.web.server import runner
from overlay.wiring.wired import wired
from tests.builders import wheel
from tests.fakes.index import ScriptedIndex
from tests.running import Running, config_for

FILE = wheel("demo", "1.0", payload=bytes(range(256)) * 400)


class BreakingBlobs:
    """A store without local files whose reads break after the first chunk."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def size(self, key: BlobKey) -> int:
        return await self._blobs.size(key)

    async def locate(self, key: BlobKey) -> Path | None:  # noqa: ARG002
        return None

    async def read(self, key: BlobKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:  # noqa: ARG002
        async for chunk in self._blobs.read(key, start, 1000):
            yield chunk
        raise StoreUnavailable("The disk was pulled out.")


async def raw(overlay: Running, *lines: str) -> bytes:
    """Send a request as it stands and read until the server closes."""
    host, port = overlay.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.fixture
async def index() -> AsyncIterator[ScriptedIndex]:
    async with ScriptedIndex() as made:
        made.add(wheel("demo", "0.9"))
        yield made


async def test_an_answer_that_breaks_off_is_cut_not_continued(index: ScriptedIndex, tmp_path: Path) -> None:
    """After the head is out there is no second status: the connection closes short of its Content-Length."""
    async with wired(config_for(tmp_path, index.simple_url)) as made:
        assert isinstance(made.services.blobs, DirectoryBlobs)
        broken = dataclasses.replace(made.services, blobs=BreakingBlobs(made.services.blobs))  # type: ignore[arg-type]
        served = runner(application(broken, made.web, Lifecycle(), now_s=made.now_s), shutdown_timeout_s=1)
        await served.setup()
        await web.TCPSite(served, "127.0.0.1", 0).start()
        overlay = Running(f"http://127.0.0.1:{served.addresses[0][1]}", made, aiohttp.ClientSession(), Lifecycle())
        try:
            await overlay.upload(FILE)
            (entry,) = await made.services.releases.staged()
            path = f"/files/demo/{entry.file.upload_id}/{FILE.filename}"
            answer = await raw(overlay, f"GET {path} HTTP/1.1", "Host: x")
        finally:
            await overlay.session.close()
            await served.cleanup()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == FILE.body[:1000]


@pytest.mark.parametrize("credential", ["Basic é", "Basic =", "Basic ////", "Bearer", "Basic " + "é" * 50])
async def test_a_credential_that_is_none_is_401(overlay: Running, credential: str) -> None:
    """Not a 500: whatever stands there, it is no token."""
    answer = await raw(
        overlay,
        "POST /legacy/ HTTP/1.1",
        "Host: x",
        f"Authorization: {credential}",
        "Content-Length: 0",
        "Connection: close",
    )
    assert answer.startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("host", ["[", "a b", "evil.example/path", "x:port", "<script>", "é.example"])
@pytest.mark.parametrize("path", ["/", "/help", "/api/v1/info", "/simple/demo/", "/legacy/"])
async def test_a_host_that_is_none_is_400(overlay: Running, host: str, path: str) -> None:
    """Said plainly, and not repeated."""
    answer = await raw(overlay, f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close")
    assert answer.startswith(b"HTTP/1.1 400")
    assert host.encode() not in answer


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/simple/foo%0d%0aX:%201", "/simple/foo%0d%0aX:%201/"),
        ("/simple/%C3%A9", "/simple/%C3%A9/"),
        ("/simple/a%3Fb", "/simple/a%3Fb/"),
    ],
)
async def test_a_redirect_keeps_the_encoding_of_its_path(overlay: Running, path: str, location: str) -> None:
    """Nothing decoded stands in a header."""
    answer = await raw(overlay, f"GET {path} HTTP/1.1", "Host: x", "Connection: close")
    assert answer.startswith(b"HTTP/1.1 301")
    assert f"Location: {location}\r\n".encode() in answer


async def test_nobody_forges_a_line_of_the_log(index: ScriptedIndex, tmp_path: Path) -> None:
    """Paths are written as they were sent; queries, which may hold secrets, are not written."""
    written = io.StringIO()
    async with wired(config_for(tmp_path, index.simple_url)) as made:
        app = application(made.services, made.web, Lifecycle(), now_s=made.now_s)
        served = runner(app, shutdown_timeout_s=1, access_log=written)
        await served.setup()
        await web.TCPSite(served, "127.0.0.1", 0).start()
        overlay = Running(f"http://127.0.0.1:{served.addresses[0][1]}", made, aiohttp.ClientSession(), Lifecycle())
        for path in ("/a%0aforged%1b[31m", "/s/st_secret/simple/demo/?token=ovl_hidden"):
            await raw(overlay, f"GET {path} HTTP/1.1", "Host: x", "Connection: close")
        await overlay.session.close()
        await served.cleanup()
    lines = written.getvalue().splitlines()
    assert len(lines) == 2
    assert "%0a" in lines[0]
    assert "\x1b" not in lines[0]
    assert "secret" not in lines[1]
    assert "ovl_hidden" not in lines[1]


async def test_a_lost_store_is_not_ready(overlay: Running, tmp_path: Path) -> None:
    """Readiness reads a document that must be there."""
    await overlay.probed(200)
    shutil.rmtree((tmp_path / "store" / STORE_MARK).parent)
    await overlay.probed(503, store=STORE_MARK)


async def test_head_knows_no_ranges(overlay: Running, tmp_path: Path) -> None:
    """RFC 9110 §14.2: Range is for GET; and HEAD promises nothing that GET would not find."""
    await overlay.upload(FILE)
    (entry,) = await overlay.wired.services.releases.staged()
    url = f"{overlay.url}/files/demo/{entry.file.upload_id}/{FILE.filename}"
    async with overlay.session.head(url, headers={"Range": "bytes=0-9"}) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(FILE.body)))
    shutil.rmtree(tmp_path / "store" / "blobs")
    async with overlay.session.head(url) as response:
        assert response.status == 404
