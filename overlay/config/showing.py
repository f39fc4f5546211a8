"""A configuration as TOML for people, secrets redacted."""

import re
from dataclasses import fields
from typing import Final

from yarl import URL

from overlay.config.tables import TABLES, Config

REDACTED: Final = "********"

_USERINFO: Final = re.compile(r"(?<=://)[^/?#]*@")
_QUERY_SECRET: Final = re.compile(r"(?<=password=)[^&]+")


def shown(config: Config) -> str:
    """Form the effective configuration as TOML, secrets redacted."""
    lines = [f"public_url = {_toml(config.public_url)}"]
    for name, kind in TABLES.items():
        lines += ["", f"[{name}]"]
        table = getattr(config, name)
        lines += [f"{one.name} = {_toml(_redacted(getattr(table, one.name)))}" for one in fields(kind)]
    lines += ["", f"# OVERLAY_ADMIN_TOKEN: {'set, ' + REDACTED if config.admin_token else 'not set'}"]
    return "\n".join(lines) + "\n"


def without_userinfo(url: str) -> str:
    """Return the URL for people: what stands before its host is nobody's."""
    return str(URL(url).with_user(None))


def _redacted(value: object) -> object:
    """Hide what a URL carries before its host (with a password or without, a user may be a token) and in its query."""
    if not isinstance(value, str):
        return value
    return _QUERY_SECRET.sub(REDACTED, _USERINFO.sub(f"{REDACTED}@", value))


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
