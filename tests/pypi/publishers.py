"""Trusted publishers: who they are, and whether an identity token is one of them (trusted-publishing §2)."""

import functools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from packaging.utils import canonicalize_name

from tests.pypi import jobs, jwt
from tests.pypi.jobs import AUDIENCE, ISSUERS
from tests.pypi.jwt import Claims
from tests.pypi.orders import Job, Kind, Publisher

_LEEWAY_S: Final = 30


class MintRefused(Exception):
    """A mint is refused, with a code of trusted-publishing §2."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


@dataclass(frozen=True)
class Identity:
    """An identity token that is what it says."""

    kind: Kind
    claims: Claims


class Publishers:
    """The issuers' keys, the publishers that were registered, and the identity tokens that were used."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._registered: list[Publisher] = []
        self._used: set[str] = set()
        self._jobs: dict[str, Job] = {}

    @functools.cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return jwt.new_key()

    # The platforms

    def start(self, job: Job) -> str:
        """Begin a job; return the secret with which it asks for identity tokens."""
        secret = secrets.token_urlsafe(24)
        self._jobs[secret] = job
        return secret

    def identity_token(self, secret: str, audience: str) -> str:
        """Form a new identity token of a job. Raises KeyError."""
        job = self._jobs[secret]
        claims = jobs.claims_of(job, audience=audience, jti=secrets.token_hex(16), now_s=self._now_s())
        return jwt.encode(claims, jwt.new_key() if job.forged else self._key, algorithm=job.algorithm)

    # The index

    def add(self, publisher: Publisher) -> None:
        """Register; one that is registered already gets more projects."""
        names = tuple(canonicalize_name(name) for name in publisher.projects)
        self._registered.append(msgspec.structs.replace(publisher, projects=names))

    def identity(self, token: str) -> Identity:
        """Verify an identity token. Raises MintRefused."""
        try:
            issuer = jwt.claims_of(token).get("iss")
        except jwt.Malformed as err:
            raise MintRefused("invalid-payload", "malformed JWT") from err
        kinds = [kind for kind, url in ISSUERS.items() if url == issuer]
        if not kinds:
            raise MintRefused("invalid-payload", "unknown trusted publishing issuer")
        claims = jwt.verified(token, self._key.public_key())
        if claims is None or not self._is_current(claims):
            raise MintRefused("invalid-token", "malformed or invalid token")
        return Identity(kinds[0], claims)

    def _is_current(self, claims: Claims) -> bool:
        now_s = self._now_s()
        issued, expires, begins = claims.get("iat"), claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(issued, int) or not isinstance(expires, int) or not isinstance(begins, int):
            return False
        within = max(issued, begins) - _LEEWAY_S <= now_s < expires + _LEEWAY_S
        return within and claims.get("aud") == AUDIENCE

    def pending(self, identity: Identity) -> Publisher | None:
        """Find a publisher whose project is yet to be created."""
        return next((found for found in self._registered if found.pending and _fits(found, identity)), None)

    def settle(self, pending: Publisher, *, created: bool) -> None:
        """Forget a pending publisher; its project was created, then it is an ordinary one, or exists by now."""
        self._registered.remove(pending)
        if created:
            self._registered.append(msgspec.structs.replace(pending, pending=False))

    def claim(self, identity: Identity) -> Publisher:
        """Find the publisher and use the identity token up. Raises MintRefused."""
        found = [publisher for publisher in self._registered if not publisher.pending and _fits(publisher, identity)]
        if not found:
            claims = {name: identity.claims.get(name) for name in ("sub", "repository", "project_path", "environment")}
            said = ", ".join(f"{name}: {value}" for name, value in claims.items() if value is not None)
            raise MintRefused("invalid-publisher", f"valid token, but no corresponding publisher ({said})")
        # One that names the environment is nearer than one that takes any.
        nearest = max(found, key=lambda publisher: bool(publisher.environment))
        jti = str(identity.claims.get("jti"))
        if jti in self._used:
            raise MintRefused("invalid-reuse-token", "invalid token: already used")
        self._used.add(jti)
        same = [publisher for publisher in found if publisher.environment == nearest.environment]
        projects = {name for publisher in same for name in publisher.projects}
        return msgspec.structs.replace(nearest, projects=tuple(sorted(projects)))


def _fits(publisher: Publisher, identity: Identity) -> bool:
    claims = identity.claims
    environment = str(claims.get("environment", ""))
    if publisher.kind != identity.kind or publisher.environment.lower() not in {"", environment.lower()}:
        return False
    if publisher.kind == "gitlab":
        config = f"gitlab.com/{publisher.repository}//{publisher.workflow}@"
        return claims["project_path"] == publisher.repository and str(claims["ci_config_ref_uri"]).startswith(config)
    workflow = f"{publisher.repository}/.github/workflows/{publisher.workflow}@"
    return (
        str(claims["repository"]).lower() == publisher.repository.lower()
        and claims["repository_owner_id"] == publisher.owner_id
        and str(claims["job_workflow_ref"]).startswith(workflow)
        and claims["event_name"] != "pull_request_target"
    )
