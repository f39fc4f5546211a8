"""What every handler may use, under typed application keys."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from overlay.domain.errors import Draining
from overlay.domain.ledger_port import StageLedger
from overlay.domain.ports import BlobStore, Documents, Presigns, ProjectList, Upstream
from overlay.services.access import Access
from overlay.services.downloads import Downloads
from overlay.services.pages import Pages
from overlay.services.projects import Projects
from overlay.services.promotions import Promotions
from overlay.services.releases import Releases
from overlay.services.settling import Settling
from overlay.services.uploads import Uploads
from overlay.web.forwarded import Network, Origin, believed
from overlay.web.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases and the protocols below them, as wired."""

    access: Access
    uploads: Uploads
    pages: Pages
    projects: Projects
    downloads: Downloads
    releases: Releases
    promotions: Promotions
    settling: Settling
    blobs: BlobStore
    documents: Documents
    ledger: StageLedger
    upstream: Upstream
    project_list: ProjectList
    presigns: Presigns | None = None
    """The blob store again, where clients may fetch from it themselves."""


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
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose X-Forwarded-* headers are believed."""
    redirect_downloads: bool = False
    """Send clients to the blob store for the files, where it can sign URLs."""


class Lifecycle:
    """Whether the server takes new connections and new uploads, and how many of these are under way."""

    def __init__(self) -> None:
        self.leaving = False
        """Every answer is the last one on its connection."""
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
METRICS: Final = web.AppKey("metrics", Metrics)
PROXIES: Final[web.AppKey[tuple[Network, ...]]] = web.AppKey("proxies")
"""`trusted_proxies`, read once."""
REQUEST_IDS: Final[web.AppKey[Iterator[str]]] = web.AppKey("request_ids")
"""The ids of the requests to come."""
REQUEST_ID: Final = web.RequestKey("request_id", str)
LAST: Final = web.RequestKey("last", bool)
"""There, and true, when the connection is closed after this request's answer."""
ROUTE: Final = web.RequestKey("route", str)
"""The template of the route that the request took, without the prefix; not there before it reached the router."""


def public_root(request: web.Request) -> str:
    """Return the overlay's root URL without a slash at its end, for help, receipts and redirects.

    `public_url` where the operator set it. Else the request's own Host, or what a trusted proxy says that was: fit for
    echoing to that client only.
    """
    settings = request.app[SETTINGS]
    if settings.public_url:
        return settings.public_url
    seen = Origin(request.remote or "", request.scheme, request.host)
    origin = believed(seen, request.headers, request.app[PROXIES])
    return f"{origin.scheme}://{origin.host}"
