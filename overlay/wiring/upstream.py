"""The live index: the client, and what keeps its pages and its list of projects."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from overlay import __version__
from overlay.config.tables import Config
from overlay.domain.errors import InvalidConfig
from overlay.domain.measures import NO_MEASURES, Measures
from overlay.upstream.cached import CachedUpstream
from overlay.upstream.client import UpstreamClient, UpstreamSettings
from overlay.upstream.page_files import PageFiles
from overlay.upstream.project_list import UpstreamProjectList


@contextlib.asynccontextmanager
async def upstream_client(
    config: Config, now_s: Callable[[], float], measures: Measures = NO_MEASURES
) -> AsyncIterator[UpstreamClient]:
    """Connect to upstream. Raises InvalidConfig."""
    async with UpstreamClient(_settings(config), now_s=now_s, measures=measures).open() as client:
        yield client


def _settings(config: Config) -> UpstreamSettings:
    password = ""
    if config.upstream.password_file:
        try:
            password = Path(config.upstream.password_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as err:
            raise InvalidConfig((f"[upstream] password_file cannot be read: {err}.",)) from err
    return UpstreamSettings(
        url=config.upstream.url,
        timeout_s=config.upstream.timeout_s,
        username=config.upstream.username,
        password=password,
        ca_file=config.upstream.ca_file,
        proxy=config.upstream.proxy,
        user_agent=f"overlay-index/{__version__}",
    )


def cached_pages(config: Config, client: UpstreamClient, local: Path, now_s: Callable[[], float]) -> CachedUpstream:
    """Keep pages in memory and, the last good ones, on local disk."""
    return CachedUpstream(
        client,
        files=PageFiles(local / "pages", config.cache.disk_bytes, config.upstream.url),
        limit_bytes=config.cache.page_bytes // 2,  # the other half is for renditions
        fresh_s=config.upstream.fresh_s,
        stale_s=config.upstream.stale_s,
        now_s=now_s,
    )


def cached_list(config: Config, client: UpstreamClient, local: Path, now_s: Callable[[], float]) -> UpstreamProjectList:
    """Keep the list of projects on local disk."""
    return UpstreamProjectList(
        client, local / "pages", fresh_s=config.upstream.fresh_s, stale_s=config.upstream.stale_s, now_s=now_s
    )
