"""Whether a configuration makes sense as a whole."""

from urllib.parse import urlsplit

from overlay.config.tables import Config
from overlay.domain.errors import InvalidConfig
from overlay.domain.rights import PREFIX, SHORTEST_ADMIN_TOKEN


def checked(config: Config) -> Config:
    """Return the configuration if it makes sense as a whole. Raises InvalidConfig."""
    problems = _impossible(config)
    if problems:
        raise InvalidConfig(tuple(problems))
    return config


def _impossible(config: Config) -> list[str]:
    problems = []
    if config.public_url and urlsplit(config.public_url).scheme not in {"http", "https"}:
        problems.append("public_url must begin with http:// or https://.")
    upstream = urlsplit(config.upstream.url)
    if upstream.scheme not in {"http", "https"} or not upstream.hostname:
        problems.append("[upstream] url must be the http(s) URL of a simple index.")
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


def _admin_token_problems(token: str) -> list[str]:
    if not token:
        return []
    if not token.startswith(PREFIX) or len(token) < SHORTEST_ADMIN_TOKEN:
        return [f"OVERLAY_ADMIN_TOKEN must begin with {PREFIX} and have at least {SHORTEST_ADMIN_TOKEN} characters."]
    return []
