"""The bare counterpart, a process of its own: aiohttp and uvloop, no application, no router, no log.

`python -m tests.bench.bare MANIFEST PORT` answers every path of the manifest with that file's bytes and headers, 304
to its ETag, and takes uploads in: multipart, sha256, disk. It stands for the least that a server in Python can do, and
serves as upstream. A path that ends in a number (`/simple/large-7/`) is answered as if it had none: a project for one
use.
"""

import asyncio
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web
from multidict import CIMultiDict

_NUMBER = re.compile(r"-\d+/$")
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Page:
    """What is sent for a path; `path` where the file goes out by FileResponse."""

    body: bytes
    headers: CIMultiDict[str]
    etag: str | None
    path: Path | None


class Counterpart:
    def __init__(self, pages: dict[str, Page], folder: Path) -> None:
        self._pages = pages
        self._folder = folder

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            return await self._receive(request)
        page = self._pages.get(request.path) or self._pages.get(_NUMBER.sub("/", request.path))
        if page is None:
            return web.Response(status=404)
        if page.path is not None:
            return web.FileResponse(page.path, headers=page.headers)
        if page.etag is not None and request.headers.get("If-None-Match") == page.etag:
            return web.Response(status=304, headers=page.headers)
        return web.Response(body=page.body, headers=page.headers)

    async def _receive(self, request: web.BaseRequest) -> web.Response:
        digest = hashlib.sha256()
        async for part in await request.multipart():
            with (self._folder / "received").open("wb", buffering=0) as file:
                while chunk := await part.read_chunk(_CHUNK_BYTES):  # type: ignore[union-attr]
                    digest.update(chunk)
                    file.write(chunk)
        return web.Response(text=digest.hexdigest())


def _page(entry: dict[str, Any]) -> Page:
    path = Path(entry["file"])
    headers = CIMultiDict(entry["headers"])
    streamed = bool(entry.get("streamed"))
    return Page(b"" if streamed else path.read_bytes(), headers, headers.get("ETag"), path if streamed else None)


async def main(manifest: Path, port: int) -> None:
    pages = {entry["path"]: _page(entry) for entry in json.loads(manifest.read_bytes())}
    runner = web.ServerRunner(web.Server(Counterpart(pages, manifest.parent).answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    print(f"listens on http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as looped:
        looped.run(main(Path(sys.argv[1]), int(sys.argv[2])))
