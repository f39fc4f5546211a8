"""The configuration: config.toml and the environment -> frozen values; every problem at once.

The packed `config.toml` names every key with its default and is the list of what exists; a file of the operator's may
set any of them, and so may `OVERLAY_<TABLE>_<KEY>`. Environment values are parsed as TOML, else taken as strings.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from overlay.domain.errors import InvalidConfig
from overlay.domain.rights import PREFIX, SHORTEST_ADMIN_TOKEN

_RESERVED: Final = frozenset({"OVERLAY_URL", "OVERLAY_TOKEN", "OVERLAY_ADMIN_TOKEN", "OVERLAY_CONFIG"})
_PYPI: Final = "https://pypi.org/simple/"
_MOST_SHOWN: Final = 16
REDACTED: Final = "********"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """`[server]`: where it listens."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    local_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """`[upstream]`: the index we overlay."""

    url: str = _PYPI
    fresh_s: int = 60
    stale_s: int = 86_400
    timeout_s: int = 10
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """`[store]`: where bytes and documents lie."""

    kind: str = "directory"
    path: str = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfig:
    """`[ledger]`: where what is staged is indexed."""

    kind: str = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadConfig:
    """`[read]`: who may read."""

    open: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsConfig:
    """`[uploads]`: what may be staged."""

    replace: bool = True
    strict: bool = False
    limit_bytes: int = 1_073_741_824
    quota_bytes: int = 0
    grace_s: int = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """`[cache]`: how much memory and disk pages may take."""

    page_bytes: int = 268_435_456
    disk_bytes: int = 1_073_741_824


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """`[web]`: the pages for people."""

    templates: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration. `admin_token` comes from the environment only."""

    public_url: str = ""
    server: ServerConfig = field(default_factory=ServerConfig)
    upstream: UpstreamConfig = field(default_factory=UpstreamConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)
    read: ReadConfig = field(default_factory=ReadConfig)
    uploads: UploadsConfig = field(default_factory=UploadsConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    web: WebConfig = field(default_factory=WebConfig)
    admin_token: str = field(default="", repr=False)


_TABLES: Final[Mapping[str, type]] = {
    "server": ServerConfig,
    "upstream": UpstreamConfig,
    "store": StoreConfig,
    "ledger": LedgerConfig,
    "read": ReadConfig,
    "uploads": UploadsConfig,
    "cache": CacheConfig,
    "web": WebConfig,
}


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read a file and the environment. Raises InvalidConfig with every problem there is."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidConfig((f"The configuration {path} cannot be read: {err}.",)) from err
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise InvalidConfig((f"{path} is not valid TOML: {err}.",)) from err
    return parse(raw, environ, source=str(path))


def parse(raw: Mapping[str, object], environ: Mapping[str, str], *, source: str) -> Config:
    """Check parsed TOML and the environment. Raises InvalidConfig."""
    problems: list[str] = []
    values, tables = _from_file(raw, source, problems)
    _from_environment(environ, values, tables, problems)
    public_url = values.get("public_url", "")
    if not isinstance(public_url, str):
        problems.append(f"{source}: public_url must be a string.")
        public_url = ""
    built = {name: _table(name, kind, tables[name], problems) for name, kind in _TABLES.items()}
    admin_token = environ.get("OVERLAY_ADMIN_TOKEN", "")
    if problems:
        raise InvalidConfig(tuple(problems))
    config = Config(public_url=public_url.rstrip("/"), admin_token=admin_token, **built)  # type: ignore[arg-type]
    return checked(config)


def checked(config: Config) -> Config:
    """Return the configuration if it makes sense as a whole. Raises InvalidConfig."""
    problems = _impossible(config)
    if problems:
        raise InvalidConfig(tuple(problems))
    return config


def shown(config: Config) -> str:
    """Form the effective configuration as TOML, secrets redacted."""
    lines = [f"public_url = {_toml(config.public_url)}"]
    for name, kind in _TABLES.items():
        lines += ["", f"[{name}]"]
        table = getattr(config, name)
        lines += [f"{one.name} = {_toml(_redacted(getattr(table, one.name)))}" for one in fields(kind)]
    lines += ["", f"# OVERLAY_ADMIN_TOKEN: {'set, ' + REDACTED if config.admin_token else 'not set'}"]
    return "\n".join(lines) + "\n"


def _from_file(
    raw: Mapping[str, object], source: str, problems: list[str]
) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
    values: dict[str, object] = {}
    tables: dict[str, dict[str, object]] = {name: {} for name in _TABLES}
    for key, value in raw.items():
        if key in tables and isinstance(value, dict):
            tables[key] = dict(value)
        elif key == "public_url":
            values[key] = value
        else:
            problems.append(f"{source}: unknown key {key}{_nearest(key, [*tables, 'public_url'])}.")
    for name, table in tables.items():
        known = [one.name for one in fields(_TABLES[name])]
        for key in [key for key in table if key not in known]:
            problems.append(f"{source}: unknown key {key} in [{name}]{_nearest(key, known)}.")
            del table[key]
    return values, tables


def _from_environment(
    environ: Mapping[str, str],
    values: dict[str, object],
    tables: dict[str, dict[str, object]],
    problems: list[str],
) -> None:
    known = {
        f"OVERLAY_{name}_{one.name}".upper(): (name, one.name) for name, kind in _TABLES.items() for one in fields(kind)
    }
    for variable, text in environ.items():
        if variable in known:
            name, key = known[variable]
            tables[name][key] = _parsed(text)
        elif variable == "OVERLAY_PUBLIC_URL":
            values["public_url"] = text
        elif variable.startswith("OVERLAY_") and variable not in _RESERVED:
            problems.append(
                f"unknown environment variable {variable}{_nearest(variable, [*known, 'OVERLAY_PUBLIC_URL'])}."
            )


def _parsed(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _table(name: str, kind: type, values: Mapping[str, object], problems: list[str]) -> object:
    default = kind()
    checked: dict[str, object] = {}
    for one in fields(kind):
        if one.name not in values:
            continue
        value, expected = values[one.name], getattr(default, one.name)
        if type(value) is type(expected):
            checked[one.name] = value
        else:
            problems.append(f"[{name}] {one.name} must be {_kind(expected)}, not {value!r}.")
    return kind(**checked)


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


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f" (did you mean {close[0]}?)"
    return f" (known: {', '.join(sorted(known))})" if len(known) <= _MOST_SHOWN else ""


def _kind(expected: object) -> str:
    match expected:
        case bool():
            return "true or false"
        case int():
            return "a whole number"
        case _:
            return "a string"


def _redacted(value: object) -> object:
    """Hide what a URL carries before its host."""
    if isinstance(value, str) and "://" in value and (parts := urlsplit(value)).password is not None:
        return value.replace(f"{parts.username}:{parts.password}@", f"{REDACTED}@")
    return value


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case _:
            return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
