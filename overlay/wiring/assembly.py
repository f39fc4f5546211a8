"""The services on top of the adapters, and what the web floor needs to know of the configuration."""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from overlay.config.tables import Config
from overlay.domain.measures import Measures
from overlay.domain.names import UploadId
from overlay.domain.ports import ProjectList, Upstream
from overlay.domain.promotion import promotion_id
from overlay.domain.promotion_target import rules_at, target_of
from overlay.services.access import Access
from overlay.services.downloads import Downloads
from overlay.services.facts import FactsOf, facts_reader
from overlay.services.pages import Pages
from overlay.services.projects import Projects
from overlay.services.promotion_orders import PromotionSettings
from overlay.services.promotion_planning import Planning
from overlay.services.promotion_survey import Survey
from overlay.services.promotions import Promotions
from overlay.services.releases import Releases
from overlay.services.reports import Reports
from overlay.services.settling import Settling
from overlay.services.uploads import Uploads, UploadSettings
from overlay.web.context import Services, WebSettings
from overlay.wiring.store import Store


@dataclass(frozen=True, slots=True)
class _Parts:
    """What most services are made of."""

    config: Config
    store: Store
    upstream: Upstream
    facts_of: FactsOf
    reports: Reports
    now_us: Callable[[], int]


def services_on(
    config: Config,
    store: Store,
    upstream: Upstream,
    project_list: ProjectList,
    now_s: Callable[[], float],
    measures: Measures,
) -> Services:
    """Give every service what it needs."""
    parts = _Parts(config, store, upstream, facts_reader(), Reports(store.blobs), microseconds(now_s))
    limit_bytes = config.cache.page_bytes // 2
    return Services(
        access=Access(
            store.ledger,
            store.documents,
            operator_secret=config.admin_token,
            now_s=now_s,
            new_bits=lambda: secrets.randbits(256),
        ),
        uploads=_uploads(parts),
        pages=Pages(upstream, store.ledger, parts.facts_of, limit_bytes=limit_bytes, measures=measures),
        projects=Projects(project_list, store.ledger, upstream, parts.facts_of),
        downloads=_downloads(parts),
        releases=_releases(parts),
        promotions=_promotions(parts),
        settling=_settling(parts),
        blobs=store.blobs,
        documents=store.documents,
        ledger=store.ledger,
        upstream=upstream,
        project_list=project_list,
        presigns=store.presigns,
    )


def _uploads(parts: _Parts) -> Uploads:
    return Uploads(
        blobs=parts.store.blobs,
        documents=parts.store.documents,
        ledger=parts.store.ledger,
        upstream=parts.upstream,
        facts_of=parts.facts_of,
        reports=parts.reports,
        settings=_upload_settings(parts.config, parts.store.spool),
        now_us=parts.now_us,
        new_upload_id=_new_upload_id,
    )


def _downloads(parts: _Parts) -> Downloads:
    return Downloads(
        blobs=parts.store.blobs,
        documents=parts.store.documents,
        ledger=parts.store.ledger,
        upstream=parts.upstream,
        facts_of=parts.facts_of,
        grace_s=parts.config.uploads.grace_s,
        now_us=parts.now_us,
    )


def _releases(parts: _Parts) -> Releases:
    return Releases(
        documents=parts.store.documents,
        ledger=parts.store.ledger,
        upstream=parts.upstream,
        facts_of=parts.facts_of,
        reports=parts.reports,
        now_us=parts.now_us,
        fresh_s=parts.config.upstream.fresh_s,
    )


def _promotions(parts: _Parts) -> Promotions:
    documents, ledger, settings = parts.store.documents, parts.store.ledger, _promotion_settings(parts.config)
    survey = Survey(ledger=ledger, upstream=parts.upstream, facts_of=parts.facts_of, reports=parts.reports)
    return Promotions(
        documents=documents,
        ledger=ledger,
        upstream=parts.upstream,
        survey=survey,
        planning=Planning(
            documents=documents,
            ledger=ledger,
            survey=survey,
            settings=settings,
            now_us=parts.now_us,
            new_id=lambda: promotion_id(parts.now_us(), secrets.token_bytes(10)),
        ),
        settings=settings,
        now_us=parts.now_us,
    )


def _settling(parts: _Parts) -> Settling:
    times = parts.config.upstream
    return Settling(
        documents=parts.store.documents,
        ledger=parts.store.ledger,
        upstream=parts.upstream,
        facts_of=parts.facts_of,
        # No page that readers get is older, in whatever process: see `overlay.upstream.cached`.
        stale_s=max(times.stale_s, 2 * times.fresh_s),
        now_us=parts.now_us,
    )


def _upload_settings(config: Config, spool: Path) -> UploadSettings:
    return UploadSettings(
        limit_bytes=config.uploads.limit_bytes,
        quota_bytes=config.uploads.quota_bytes,
        token_quota_bytes=config.uploads.token_quota_bytes,
        token_uploads_per_minute=config.uploads.token_uploads_per_minute,
        replace=config.uploads.replace,
        strict=config.uploads.strict,
        fresh_s=config.upstream.fresh_s,
        spool=spool,
        inspections=os.cpu_count() or 1,
    )


def _promotion_settings(config: Config) -> PromotionSettings:
    target = target_of(config.upstream.url, config.upstream.upload_url)
    return PromotionSettings(
        target=target,
        rules=rules_at(target, config.upstream.rules),
        lease_s=config.promote.lease_s,
        absent_s=config.promote.absent_s,
    )


def web_settings(config: Config, *, ephemeral: bool) -> WebSettings:
    """Say what the web floor needs of the configuration."""
    return WebSettings(
        public_url=config.public_url,
        prefix=urlsplit(config.public_url).path.rstrip("/"),
        upstream_url=config.upstream.url,
        read_open=config.read.open,
        grace_s=config.uploads.grace_s,
        upload_limit_bytes=config.uploads.limit_bytes,
        templates=config.web.templates,
        ephemeral=ephemeral,
        trusted_proxies=config.server.trusted_proxies,
        redirect_downloads=config.store.downloads == "redirect",
    )


def microseconds(now_s: Callable[[], float]) -> Callable[[], int]:
    """Return the same clock in whole microseconds."""
    return lambda: int(now_s() * 1_000_000)


def _new_upload_id() -> UploadId:
    return UploadId(secrets.token_hex(16))
