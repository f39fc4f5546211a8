"""What every handler may use, under typed application keys."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from overlay.domain.errors import Draining
from overlay.domain.ports import BlobStore, Documents, ProjectList, StageLedger, Upstream
from overlay.services.access import Access
from overlay.services.downloads import Downloads
from overlay.services.pages import Pages
from overlay.services.projects import Projects
from overlay.services.releases import Releases
from overlay.services.uploads import Uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases and the protocols below them, as wired."""

    access: Access
    uploads: Uploads
    pages: Pages
    projects: Projects
    downloads: Downloads
    releases: Releases
    blobs: BlobStore
    documents: Documents
    ledger: StageLedger
    upstream: Upstream
    project_list: ProjectList


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What the web floor needs of the configuration."""

    public_url: str
    """Without a slash at its end; "" when it is taken from the request."""
    prefix: str
    """The path of `public_url`, "" or "/next"."""
    upstream_url: str
    read_open: bool
    grace_s: int
    upload_limit_bytes: int
    templates: str
    """A folder whose templates override ours, file by file; "" for none."""
    ephemeral: bool = False
    upload_idle_s: float = 60.0
    """An upload of which nothing arrives for this long is given up."""


class Lifecycle:
    """Whether the server takes new uploads, and how many are under way."""

    def __init__(self) -> None:
        self.draining = False
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def upload(self) -> Iterator[None]:
        """Count an upload while it is under way. Raises Draining."""
        if self.draining:
            raise Draining
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self._idle.set()

    async def idle(self) -> None:
        """Wait until no upload is under way."""
        await self._idle.wait()


SERVICES: Final = web.AppKey("services", Services)
SETTINGS: Final = web.AppKey("settings", WebSettings)
LIFECYCLE: Final = web.AppKey("lifecycle", Lifecycle)
REQUEST_ID: Final = web.RequestKey("request_id", str)


def public_root(request: web.Request) -> str:
    """Return the overlay's root URL without a slash at its end, for help, receipts and redirects.

    `public_url` where the operator set it. Else the request's own Host, which is fit for echoing to that client only.
    """
    settings = request.app[SETTINGS]
    return settings.public_url or f"{request.scheme}://{request.host}"
