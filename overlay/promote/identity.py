"""The identity of a CI job, read from its identity token (a JWT, RFC 7519): for people, and to compare.

Nothing is verified here: whoever gets the token does that. The token itself is a secret for as long as it lasts.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from overlay.promote.answers import one_line
from overlay.promote.clock import moment

GITHUB: Final = "https://token.actions.githubusercontent.com"
GITLAB: Final = "https://gitlab.com"

_PARTS: Final = 3
# What PyPI compares with the registered publisher (trusted-publishing §2), in the order people look at it.
_SHOWN: Final = (
    "iss",
    "sub",
    "repository",
    "project_path",
    "job_workflow_ref",
    "ci_config_ref_uri",
    "environment",
    "event_name",
    "ref",
    "ref_path",
    "email",
    "organization",
    "project",
)


class NoIdentity(ValueError):
    """These bytes are no identity token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the CI platform says that this job is."""

    issuer: str
    repository: str
    """The repository's URL; "" where the platform is neither GitHub nor gitlab.com."""
    workflow: str
    """The URL of the file that defines the job, without branch, tag or commit; "" likewise."""
    life_s: float | None
    """How long its token lasts from when it was made; None: it does not say."""
    claims: tuple[tuple[str, str], ...]
    """What is compared with the registered publisher, for people."""

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.claims)


def read(token: str) -> Identity:
    """Read an identity token. Raises NoIdentity."""
    claims = _claims(token)
    issuer = _text(claims, "iss")
    repository, workflow = _places(issuer, claims)
    return Identity(
        issuer=issuer,
        repository=repository,
        workflow=workflow,
        life_s=_life_s(claims),
        claims=tuple((name, one_line(str(claims[name]))) for name in _SHOWN if name in claims),
    )


def _claims(token: str) -> Mapping[str, object]:
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise NoIdentity("The identity token is no JWT.")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError) as err:
        raise NoIdentity("The identity token is no JWT.") from err
    if not isinstance(claims, dict):
        raise NoIdentity("The identity token holds no claims.")
    return claims


def _places(issuer: str, claims: Mapping[str, object]) -> tuple[str, str]:
    """Return the URLs of repository and workflow as Sigstore's certificates write them."""
    if issuer == GITHUB:
        workflow = _text(claims, "job_workflow_ref").partition("@")[0]
        return f"https://github.com/{_text(claims, 'repository')}", f"https://github.com/{workflow}"
    if issuer == GITLAB:
        workflow = _text(claims, "ci_config_ref_uri").partition("@")[0]
        return f"{GITLAB}/{_text(claims, 'project_path')}", f"https://{workflow}"
    return "", ""


def _life_s(claims: Mapping[str, object]) -> float | None:
    made_s, ends_s = moment(claims.get("iat")), moment(claims.get("exp"))
    return None if made_s is None or ends_s is None else ends_s - made_s


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name, "")
    return value if isinstance(value, str) else ""
