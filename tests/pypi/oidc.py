"""Trusted Publishing over HTTP: the audience, the mint, and the endpoint that gives a job its identity tokens."""

from datetime import UTC, datetime
from email.utils import format_datetime

import msgspec
from aiohttp import web
from packaging.utils import canonicalize_name

from tests.pypi.checks_project import name_is_free
from tests.pypi.faults import Point
from tests.pypi.jobs import AUDIENCE, ISSUERS, github_environment, gitlab_environment
from tests.pypi.orders import Job, Publisher
from tests.pypi.publishers import MintRefused
from tests.pypi.refusals import Refused
from tests.pypi.world import World

AMBIENT_PATH = "/ambient/token"


class _Payload(msgspec.Struct):
    token: str


class TrustedPublishing:
    """The routes of a world."""

    def __init__(self, world: World, url: str) -> None:
        self._world = world
        self._url = url

    def environment(self, job: Job) -> dict[str, str]:
        """Begin a job, and return the variables that it finds."""
        secret = self._world.publishers.start(job)
        if job.kind == "gitlab":
            return gitlab_environment(job, identity=self._world.publishers.identity_token(secret, AUDIENCE))
        url = f"{self._url}{AMBIENT_PATH}?api-version=2.0"
        return github_environment(job, request_url=url, request_token=secret)

    async def ambient(self, request: web.Request) -> web.Response:
        """Give a job a new identity token, as GitHub does."""
        await self._world.faults.strike(request, Point.AMBIENT)
        secret = request.headers.get("Authorization", "").removeprefix("bearer ").removeprefix("Bearer ")
        try:
            token = self._world.publishers.identity_token(secret, request.query.get("audience", self._url))
        except KeyError:
            return web.json_response({"message": "This job has no identity."}, status=401)
        return web.json_response({"count": len(token), "value": token})

    async def audience(self, request: web.Request) -> web.Response:
        await self._world.faults.strike(request, Point.AUDIENCE)
        if not self._world.rules.trusted_publishing:
            return web.json_response({"message": "Trusted publishing functionality not enabled"}, status=403)
        return web.json_response({"audience": AUDIENCE})

    async def mint(self, request: web.Request) -> web.Response:
        await self._world.faults.strike(request, Point.MINT)
        try:
            minted = self._minted(await request.read())
        except MintRefused as err:
            errors = [{"code": err.code, "description": err.description}]
            return web.json_response({"message": "Token request failed", "errors": errors}, status=422)
        date = format_datetime(datetime.fromtimestamp(self._world.now_s(), UTC), usegmt=True)
        return web.json_response(minted, headers={"Date": date})

    def _minted(self, body: bytes) -> dict[str, object]:
        try:
            token = msgspec.json.decode(body, type=_Payload).token
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise MintRefused("invalid-payload", f"the body is not {{'token': string}}: {err}") from err
        identity = self._world.publishers.identity(token)
        if not self._world.rules.trusted_publishing or identity.kind in self._world.rules.issuers_off:
            raise MintRefused("not-enabled", f"{ISSUERS[identity.kind]} trusted publishing functionality not enabled")
        pending = self._world.publishers.pending(identity)
        if pending is not None:
            self._create(pending)
        publisher = self._world.publishers.claim(identity)
        expires_at_s = self._world.now_s() + self._world.rules.mint_life_s
        minted = self._world.accounts.mint(publisher, expires_at_s)
        return {"success": True, "token": minted.text, "expires": int(expires_at_s)}

    def _create(self, pending: Publisher) -> None:
        """Create the project of a pending publisher. Raises MintRefused."""
        publishers, (name,) = self._world.publishers, pending.projects
        if self._world.shelves.project(name) is not None:
            publishers.settle(pending, created=False)
            raise MintRefused("invalid-pending-publisher", "valid token, but project already exists")
        try:
            name_is_free(self._world, canonicalize_name(name))
        except Refused as err:
            raise MintRefused("invalid-payload", err.message) from err
        self._world.shelves.create(name, frozenset({pending.user}))
        publishers.settle(pending, created=True)
