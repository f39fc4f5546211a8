"""Whether a configuration makes sense as a whole."""

from typing import Final
from urllib.parse import SplitResult, urlsplit

from overlay.config.tables import Config
from overlay.domain.errors import InvalidConfig
from overlay.domain.rights import PREFIX, SHORTEST_ADMIN_TOKEN

# Bytes that nothing names yet may be an upload between its last byte and its record: a sweep must not take them.
_SHORTEST_GRACE_S: Final = 60


def checked(config: Config) -> Config:
    """Return the configuration if it makes sense as a whole. Raises InvalidConfig."""
    problems = _impossible(config)
    if problems:
        raise InvalidConfig(tuple(problems))
    return config


def _impossible(config: Config) -> list[str]:
    problems = _public_url_problems(config.public_url)
    if _web_address(config.upstream.url) is None:
        problems.append("[upstream] url must be the http(s) URL of a simple index.")
    if config.upstream.proxy and _web_address(config.upstream.proxy) is None:
        problems.append("[upstream] proxy must be the http(s) URL of a proxy.")
    if config.store.kind != "directory":
        problems.append(f'[store] kind {config.store.kind!r} is unknown; it is "directory".')
    if config.ledger.kind != "memory":
        problems.append(f'[ledger] kind {config.ledger.kind!r} is unknown; it is "memory".')
    if config.server.workers != 1:
        problems.append(
            "[server] workers must be 1: the memory ledger lives in one process, and a second worker would not see "
            "what the first one staged."
        )
    if not 0 <= config.server.port <= 65_535:  # noqa: PLR2004 - the ports there are
        problems.append("[server] port must be between 0 and 65535.")
    if bool(config.upstream.username) != bool(config.upstream.password_file):
        problems.append("[upstream] username and password_file belong together.")
    problems += [f"[{table}] {key} must be greater than 0." for table, key, value in _positive(config) if value <= 0]
    problems += [f"[{table}] {key} must not be negative." for table, key, value in _natural(config) if value < 0]
    if config.uploads.grace_s < _SHORTEST_GRACE_S:
        problems.append(
            f"[uploads] grace_s must be at least {_SHORTEST_GRACE_S}: sweep deletes what nothing names for that long, "
            "and an upload that is just being finished is not named yet."
        )
    problems += _admin_token_problems(config.admin_token)
    return problems


def _positive(config: Config) -> list[tuple[str, str, int]]:
    return [
        ("upstream", "fresh_s", config.upstream.fresh_s),
        ("upstream", "timeout_s", config.upstream.timeout_s),
        ("uploads", "limit_bytes", config.uploads.limit_bytes),
        ("cache", "page_bytes", config.cache.page_bytes),
        ("cache", "disk_bytes", config.cache.disk_bytes),
    ]


def _natural(config: Config) -> list[tuple[str, str, int]]:
    return [
        ("upstream", "stale_s", config.upstream.stale_s),
        ("uploads", "quota_bytes", config.uploads.quota_bytes),
    ]


def _public_url_problems(url: str) -> list[str]:
    if not url:
        return []
    if not url.startswith(("http:", "https:")):
        return ["public_url must begin with http:// or https://."]
    address = _web_address(url)
    if address is None:
        return ["public_url must name a host."]
    if "@" in address.netloc:
        return ["public_url must not hold a credential: every page shows it."]
    if set(url) & set("?#{}"):
        return ["public_url must end with its path, without query (?), fragment (#) and braces."]
    return []


def _web_address(url: str) -> SplitResult | None:
    """Split an http(s) URL that names a host and no impossible port; None for everything else."""
    try:
        address = urlsplit(url)
        possible = address.scheme in {"http", "https"} and address.hostname and address.port != 0
    except ValueError:
        return None
    return address if possible else None


def _admin_token_problems(token: str) -> list[str]:
    if not token:
        return []
    if not token.startswith(PREFIX) or len(token) < SHORTEST_ADMIN_TOKEN:
        return [f"OVERLAY_ADMIN_TOKEN must begin with {PREFIX} and have at least {SHORTEST_ADMIN_TOKEN} characters."]
    return []
