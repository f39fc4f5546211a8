"""From config.toml and the environment to a `Config`; every problem at once.

The packed `config.toml` names every key with its default and is the list of what exists; a file of the operator's may
set any of them, and so may `OVERLAY_<TABLE>_<KEY>`. Environment values are parsed as TOML; where that is not what the
key takes, and the key takes a string, the text is taken as it is: a user may be called 12345.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from overlay.config.checks import checked
from overlay.config.tables import TABLES, Config
from overlay.domain.errors import InvalidConfig

_RESERVED: Final = frozenset({"OVERLAY_URL", "OVERLAY_TOKEN", "OVERLAY_ADMIN_TOKEN", "OVERLAY_CONFIG"})
_MOST_SHOWN: Final = 16


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
    built = {name: _table(name, kind, tables[name], problems) for name, kind in TABLES.items()}
    admin_token = environ.get("OVERLAY_ADMIN_TOKEN", "")
    if problems:
        raise InvalidConfig(tuple(problems))
    config = Config(public_url=public_url.rstrip("/"), admin_token=admin_token, **built)  # type: ignore[arg-type]
    return checked(config)


def _from_file(
    raw: Mapping[str, object], source: str, problems: list[str]
) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
    values: dict[str, object] = {}
    tables: dict[str, dict[str, object]] = {name: {} for name in TABLES}
    for key, value in raw.items():
        if key in tables and isinstance(value, dict):
            tables[key] = dict(value)
        elif key == "public_url":
            values[key] = value
        else:
            problems.append(f"{source}: unknown key {key}{_nearest(key, [*tables, 'public_url'])}.")
    for name, table in tables.items():
        known = [one.name for one in fields(TABLES[name])]
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
        f"OVERLAY_{name}_{one.name}".upper(): (name, one.name) for name, kind in TABLES.items() for one in fields(kind)
    }
    for variable, text in environ.items():
        if variable in known:
            name, key = known[variable]
            tables[name][key] = _parsed(text, getattr(TABLES[name](), key))
        elif variable == "OVERLAY_PUBLIC_URL":
            values["public_url"] = _parsed(text, "")
        elif variable.startswith("OVERLAY_") and variable not in _RESERVED:
            problems.append(
                f"unknown environment variable {variable}{_nearest(variable, [*known, 'OVERLAY_PUBLIC_URL'])}."
            )


def _parsed(text: str, default: object) -> object:
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if isinstance(default, str) and not isinstance(value, str) else value


def _table(name: str, kind: type, values: Mapping[str, object], problems: list[str]) -> object:
    default = kind()
    checked: dict[str, object] = {}
    for one in fields(kind):
        if one.name not in values:
            continue
        value, expected = _frozen(values[one.name]), getattr(default, one.name)
        if type(value) is type(expected):
            checked[one.name] = value
        else:
            problems.append(f"[{name}] {one.name} must be {_kind(expected)}, not {value!r}.")
    return kind(**checked)


def _frozen(value: object) -> object:
    """Make a tuple of a list of strings, so that nobody changes a configuration."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    return value


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
        case tuple():
            return "a list of strings"
        case _:
            return "a string"
