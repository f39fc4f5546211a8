"""A running overlay without its HTTP server."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from overlay.config.tables import Config
from overlay.domain.measures import Measures
from overlay.services.first_token import ensure_admin_token
from overlay.services.rebuild import Rebuilt
from overlay.services.settling import notice_regularly, settle_regularly
from overlay.services.sweep import sweep_regularly
from overlay.web.context import Services, WebSettings
from overlay.web.metrics import Metrics, shared_folder
from overlay.wiring.assembly import microseconds, services_on, web_settings
from overlay.wiring.embedded import directory_store
from overlay.wiring.store import Store, ended
from overlay.wiring.upstream import cached_list, cached_pages, upstream_client


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """The services, and what serves and watches them needs."""

    services: Services
    web: WebSettings
    rebuilt: Rebuilt | None
    """What was loaded at the start; None where the ledger was there already, or is loaded in the background."""
    admin_token_file: Path | None
    """Where the admin token of the first start lies; None when the operator brought one."""
    now_s: Callable[[], float]
    metrics: Metrics
    """What all of it reports to."""
    watched: tuple[asyncio.Task[NoReturn], ...]
    """What runs beside the requests: when one of these ends, the process cannot keep its promises any more."""


@contextlib.asynccontextmanager
async def wired(
    config: Config, *, ephemeral: bool = False, now_s: Callable[[], float] = time.time
) -> AsyncIterator[Wired]:
    """Open the store, connect upstream; close everything at the end.

    `ephemeral` only marks the pages for people; `now_s` is the one clock, in seconds since the epoch.
    Raises StoreInUse, RecordCorrupt, StoreUnavailable, InvalidConfig.
    """
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics(shared_folder(os.environ))
        store = await stack.enter_async_context(_opened(config, now_s, metrics))
        client = await stack.enter_async_context(upstream_client(config, now_s, metrics))
        upstream = cached_pages(config, client, store.local, now_s)
        stack.push_async_callback(upstream.close)
        project_list = cached_list(config, client, store.local, now_s)
        stack.push_async_callback(project_list.close)
        services = services_on(config, store, upstream, project_list, now_s, metrics)
        stack.push_async_callback(services.pages.close)
        stack.push_async_callback(services.releases.close)
        stack.push_async_callback(services.uploads.close)
        spread, wait = random.SystemRandom().random(), asyncio.sleep
        sweeping = asyncio.ensure_future(
            sweep_regularly(
                store.blobs,
                store.documents,
                grace_s=config.uploads.grace_s,
                now_s=now_s,
                spread=spread,
                wait=wait,
            )
        )
        stack.push_async_callback(ended, sweeping)
        settling = asyncio.ensure_future(settle_regularly(services.settling, spread=spread, wait=wait))
        stack.push_async_callback(ended, settling)
        noticing = asyncio.ensure_future(notice_regularly(services.settling, spread=spread, wait=wait))
        stack.push_async_callback(ended, noticing)
        token_file = None
        if store.token_folder is not None and not config.admin_token:
            token_file = await ensure_admin_token(store.token_folder, services.access, store.ledger)
        if store.rebuilt is not None:
            metrics.rebuilt(store.rebuilt.took_s)
        yield Wired(
            services=services,
            web=web_settings(config, ephemeral=ephemeral),
            rebuilt=store.rebuilt,
            admin_token_file=token_file,
            now_s=now_s,
            metrics=metrics,
            watched=(sweeping, settling, noticing, *store.watched),
        )


def _opened(config: Config, now_s: Callable[[], float], measures: Measures) -> AbstractAsyncContextManager[Store]:
    if config.store.kind == "directory":
        return directory_store(config, microseconds(now_s))
    # boto3 and redis take a third of a second and 26 MiB, which the embedded form should not pay.
    from overlay.wiring.distributed import shared_store  # noqa: PLC0415

    return shared_store(config, now_s, measures)
