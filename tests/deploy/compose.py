"""Reads deploy/compose.yaml as Compose does: with the variables of .env filled in."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from tests.deploy.documents import DEPLOY, Value, documents, mapping

COMPOSE: Final = DEPLOY / "compose.yaml"
VARIABLE: Final = re.compile(r"\$\{(?P<name>[A-Z_0-9]+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
SECRETS: Final = {"OVERLAY_ADMIN_TOKEN": "ovl_" + "x" * 40, "S3_ACCESS_KEY": "access", "S3_SECRET_KEY": "secret" * 5}


def services(environ: Mapping[str, str] = SECRETS) -> Mapping[str, Value]:
    """Return the services. Raises KeyError with Compose's words for a variable that must be set and is not."""
    return mapping(_interpolated(documents(COMPOSE)[0], environ), "services")


def environment(service: Value) -> dict[str, str]:
    """Return the variables of a service."""
    return {name: str(value) for name, value in mapping(service, "environment").items()}


def _interpolated(value: Value, environ: Mapping[str, str]) -> Value:
    match value:
        case str():
            return VARIABLE.sub(lambda found: _filled(found, environ), value)
        case Mapping():
            return {key: _interpolated(one, environ) for key, one in value.items()}
        case Sequence():
            return [_interpolated(one, environ) for one in value]
        case _:
            return value


def _filled(found: re.Match[str], environ: Mapping[str, str]) -> str:
    value = environ.get(found["name"], "")
    if not value and found["kind"] == "?":
        raise KeyError(f"{found['name']} {found['rest']}")
    return value or (found["rest"] if found["kind"] == "-" else "")
