"""Runs the overlay in this process on a loopback port, wired as in production, for tests that speak HTTP to it."""

import asyncio
import base64
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import aiohttp
from aiohttp import web

from overlay.config.tables import CacheConfig, Config, StoreConfig, UpstreamConfig
from overlay.services.access import Access, TokenRequest
from overlay.web.app import application
from overlay.web.context import Lifecycle
from overlay.web.log_format import LogForm
from overlay.web.server import runner
from overlay.wiring.wired import Wired, wired
from tests.builders import Built

ADMIN = "ovl_an-operators-own-secret-for-tests-only"
UPSTREAM_S: Final = 30  # longer than a loaded machine stalls; tests of an upstream that hangs have their own
_PROBED_S: Final = 60.0
_PROBED_EVERY_S: Final = 0.05


@dataclass
class Running:
    """A server under test."""

    url: str
    wired: Wired
    session: aiohttp.ClientSession
    lifecycle: Lifecycle

    @property
    def legacy(self) -> str:
        return f"{self.url}/legacy/"

    @property
    def simple(self) -> str:
        return f"{self.url}/simple/"

    def get(self, path: str, **headers: str) -> "aiohttp.client._RequestContextManager":
        """GET without following redirects; `Accept_Encoding` becomes Accept-Encoding."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.get(f"{self.url}{path}", headers=named, allow_redirects=False)

    async def upload(
        self, built: Built, *, token: str = ADMIN, fields: Mapping[str, str] | None = None, path: str = "/legacy/"
    ) -> "Answer":
        """Upload as twine does: fields first, then the file."""
        async with self.session.post(
            f"{self.url}{path}", data=form(built, fields), headers=basic(token), allow_redirects=False
        ) as response:
            return Answer(response.status, response.reason or "", await response.text(), dict(response.headers))

    async def probed(self, status: int, **said: str) -> dict[str, str]:
        """Ask `/-/ready` until it answers with this status, and these parts with these words; return what it says.

        A part that does not answer within a second is said to be down, also where only the machine stalls.
        """
        ends_at_s = time.monotonic() + _PROBED_S
        while True:
            async with self.get("/-/ready") as response:
                states: dict[str, str] = json.loads(await response.read())
            if response.status == status and all(words in states[part] for part, words in said.items()):
                return states
            assert time.monotonic() < ends_at_s, (response.status, states)
            await asyncio.sleep(_PROBED_EVERY_S)

    async def token(self, *rights: str, projects: tuple[str, ...] = ("demo",), label: str = "ada") -> str:
        """Mint a token and return its text."""
        access: Access = self.wired.services.access
        _, text = await access.create(
            TokenRequest(label=label, rights=rights, projects=projects, stages=("main",), expires_at_s=None)
        )
        return text


@dataclass
class Answer:
    status: int
    reason: str
    body: str
    headers: dict[str, str]


def basic(token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"__token__:{token}".encode()).decode()}


def form(built: Built, fields: Mapping[str, str] | None = None) -> aiohttp.FormData:
    stem = built.filename.removesuffix(".tar.gz").split("-")
    values = {
        ":action": "file_upload",
        "protocol_version": "1",
        "filetype": "bdist_wheel" if built.filename.endswith(".whl") else "sdist",
        "pyversion": "py3" if built.filename.endswith(".whl") else "source",
        "metadata_version": "2.1",
        "name": stem[0],
        "version": stem[1] if len(stem) > 1 else "1.0",
        "sha256_digest": built.sha256,
    }
    values.update(fields or {})
    data = aiohttp.FormData(quote_fields=False)  # as requests sends names: + stays +
    for name, value in values.items():
        data.add_field(name, value)
    data.add_field("content", built.body, filename=built.filename, content_type="application/octet-stream")
    return data


def config_for(store: Path, upstream_url: str, **changes: object) -> Config:
    """The embedded form on a store of its own; `changes` replace whole tables or top-level keys."""
    config = Config(
        upstream=UpstreamConfig(url=upstream_url, timeout_s=UPSTREAM_S),
        store=StoreConfig(path=str(store)),
        cache=CacheConfig(page_bytes=64 * 1024 * 1024),
        admin_token=ADMIN,
    )
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def running(
    config: Config,
    *,
    now_s: Callable[[], float] = time.time,
    access_log: TextIO | None = None,
    log_form: LogForm = LogForm.TEXT,
    **changes: object,
) -> AsyncIterator[Running]:
    """Serve on a free loopback port until the block ends; `changes` replace what the web floor is set to."""
    async with AsyncExitStack() as stack:
        lifecycle = Lifecycle()
        made = await stack.enter_async_context(wired(config, now_s=now_s))
        settings = dataclasses.replace(made.web, **changes)  # type: ignore[arg-type]
        app = application(made.services, settings, lifecycle, now_s=now_s, metrics=made.metrics)
        served = runner(app, shutdown_timeout_s=5, access_log=access_log, log_form=log_form)
        await served.setup()
        stack.push_async_callback(served.cleanup)
        site = web.TCPSite(served, "127.0.0.1", 0)
        await site.start()
        port = served.addresses[0][1]
        session = await stack.enter_async_context(
            aiohttp.ClientSession(auto_decompress=False, headers={"Accept-Encoding": "identity"})
        )
        yield Running(f"http://127.0.0.1:{port}{made.web.prefix}", made, session, lifecycle)
