"""Whether a configuration makes sense as a whole."""

import json
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from overlay.config.tables import Config, LedgerConfig, ServerConfig, StoreConfig, UpstreamConfig
from overlay.domain.errors import InvalidConfig
from overlay.domain.rights import PREFIX, SHORTEST_ADMIN_TOKEN

# Bytes that nothing names yet may be an upload between its last byte and its record: a sweep must not take them.
_SHORTEST_GRACE_S: Final = 60
_MOST_WORKERS: Final = 256


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
    problems += _target_problems(config.upstream)
    problems += _form_problems(config)
    problems += _server_problems(config.server)
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


def _target_problems(upstream: UpstreamConfig) -> list[str]:
    """Where promotions go: their credentials are sent there, so only where nobody else can read them."""
    problems = _unknown("[upstream] rules", upstream.rules, ("", "pypi", "plain"))
    if not upstream.upload_url:
        return problems
    address = _web_address(upstream.upload_url)
    if address is None:
        problems.append("[upstream] upload_url must be the http(s) URL that uploads are sent to.")
    elif "@" in address.netloc:
        problems.append("[upstream] upload_url must not hold a credential: whoever promotes has one.")
    elif address.scheme == "http" and not _is_loopback(address.hostname or ""):
        problems.append("[upstream] upload_url must begin with https://; http:// is for this machine itself.")
    return problems


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _form_problems(config: Config) -> list[str]:
    """Embedded or distributed, and nothing in between."""
    problems = [
        *_unknown("[store] kind", config.store.kind, ("directory", "s3")),
        *_unknown("[ledger] kind", config.ledger.kind, ("memory", "redis")),
    ]
    if problems:
        return problems
    match config.store.kind, config.ledger.kind:
        case "s3", "memory":
            problems.append(
                '[store] kind "s3" needs [ledger] kind "redis": a second server on the bucket would not see what the '
                "first one staged, and nothing could lock it out."
            )
        case "directory", "redis":
            problems.append(
                '[ledger] kind "redis" needs [store] kind "s3": a directory has one server, which needs no Redis.'
            )
    if config.ledger.kind == "memory" and config.server.workers > 1:
        problems.append(
            "[server] workers must be 1: the memory ledger lives in one process, and a second worker would not see "
            'what the first one staged. [store] kind "s3" with [ledger] kind "redis" can have many.'
        )
    if config.store.kind == "s3":
        problems += _s3_problems(config.store)
        problems += _mixed_problems(config)
    if config.ledger.kind == "redis":
        problems += _redis_problems(config.ledger)
    return problems


def _s3_problems(store: StoreConfig) -> list[str]:
    problems = [
        *_unknown("[store] downloads", store.downloads, ("stream", "redirect")),
        *_unknown("[store] addressing", store.addressing, ("auto", "path", "virtual")),
        *_unknown("[store] encryption", store.encryption, ("", "AES256", "aws:kms")),
    ]
    if not store.bucket:
        problems.append('[store] bucket must be named: kind is "s3".')
    if store.endpoint_url and _web_address(store.endpoint_url) is None:
        problems.append("[store] endpoint_url must be the http(s) URL of an S3 server.")
    if store.kms_key_id and store.encryption != "aws:kms":
        problems.append('[store] kms_key_id goes with encryption = "aws:kms".')
    return problems


def _mixed_problems(config: Config) -> list[str]:
    """Clients that came by https must not be sent on to http."""
    schemes = [url.partition(":")[0].lower() for url in (config.public_url, config.store.endpoint_url)]
    if config.store.downloads != "redirect" or schemes != ["https", "http"]:
        return []
    problem = (
        '[store] downloads = "redirect" would send clients from https (public_url) to http (endpoint_url), which they '
        'refuse or anyone can read. Give endpoint_url an https:// URL, or set downloads = "stream".'
    )
    return [problem]


def _redis_problems(ledger: LedgerConfig) -> list[str]:
    problems = []
    if not ledger.url and not ledger.url_file:
        problems.append('[ledger] url or url_file must be given: kind is "redis".')
    if ledger.wait_replicas < 0:
        problems.append("[ledger] wait_replicas must not be negative.")
    if ledger.reconcile_s <= 0:
        problems.append("[ledger] reconcile_s must be greater than 0.")
    return problems


def _server_problems(server: ServerConfig) -> list[str]:
    problems = _unknown("[server] log", server.log, ("text", "json"))
    if not 1 <= server.workers <= _MOST_WORKERS:
        problems.append(f"[server] workers must be between 1 and {_MOST_WORKERS}.")
    if not 0 <= server.port <= 65_535:  # noqa: PLR2004 - the ports there are
        problems.append("[server] port must be between 0 and 65535.")
    for proxy in server.trusted_proxies:
        try:
            ip_network(proxy)
        except ValueError:
            problems.append(
                f"[server] trusted_proxies: {proxy!r} is no address and no network; they look like 10.0.0.7 and "
                "10.0.0.0/8."
            )
    return problems


def _unknown(key: str, value: str, known: tuple[str, ...]) -> list[str]:
    if value in known:
        return []
    return [f"{key} {value!r} is unknown; it is {' or '.join(map(json.dumps, known))}."]


def _positive(config: Config) -> list[tuple[str, str, int]]:
    return [
        ("upstream", "fresh_s", config.upstream.fresh_s),
        ("upstream", "timeout_s", config.upstream.timeout_s),
        ("uploads", "limit_bytes", config.uploads.limit_bytes),
        ("promote", "lease_s", config.promote.lease_s),
        ("cache", "page_bytes", config.cache.page_bytes),
        ("cache", "disk_bytes", config.cache.disk_bytes),
    ]


def _natural(config: Config) -> list[tuple[str, str, int]]:
    return [
        ("upstream", "stale_s", config.upstream.stale_s),
        ("promote", "absent_s", config.promote.absent_s),
        ("uploads", "quota_bytes", config.uploads.quota_bytes),
        ("uploads", "token_quota_bytes", config.uploads.token_quota_bytes),
        ("uploads", "token_uploads_per_minute", config.uploads.token_uploads_per_minute),
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
