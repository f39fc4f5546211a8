"""A configuration as TOML for people, secrets redacted."""

from dataclasses import fields
from typing import Final
from urllib.parse import urlsplit

from overlay.config.tables import TABLES, Config

REDACTED: Final = "********"


def shown(config: Config) -> str:
    """Form the effective configuration as TOML, secrets redacted."""
    lines = [f"public_url = {_toml(config.public_url)}"]
    for name, kind in TABLES.items():
        lines += ["", f"[{name}]"]
        table = getattr(config, name)
        lines += [f"{one.name} = {_toml(_redacted(getattr(table, one.name)))}" for one in fields(kind)]
    lines += ["", f"# OVERLAY_ADMIN_TOKEN: {'set, ' + REDACTED if config.admin_token else 'not set'}"]
    return "\n".join(lines) + "\n"


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
