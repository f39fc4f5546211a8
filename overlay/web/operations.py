"""What an operation of /api/v1 is, and what its handlers share: one table makes the routes and the OpenAPI document."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Literal, TypeVar

import msgspec
from aiohttp import web
from packaging.version import InvalidVersion, Version

from overlay.domain.errors import BadRequest, OverlayError, TooLarge
from overlay.domain.names import NormalizedName, project_name
from overlay.domain.page import JsonValue
from overlay.domain.rights import Right
from overlay.web.context import SETTINGS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_LIMIT_BYTES: Final = 64 * 1024
NOW_S: Final[web.AppKey[Callable[[], float]]] = web.AppKey("now_s")
"""The clock, in seconds since the epoch."""

_LONGEST_VERSION: Final = 200  # as in core metadata: a version is part of a filename
_QUOTED: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of an operation; `schema` is JSON Schema."""

    name: str
    place: Literal["path", "query"]
    description: str
    schema: Mapping[str, JsonValue] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    """Below /api/v1, with parameters as {name}."""
    handler: Handler
    """Its name is the operation's id."""
    summary: str
    right: Right | None
    """The right it needs; READ only where `[read] open = false`; None: anybody."""
    responses: Mapping[int, type | None]
    """Body per status of success; None: no body."""
    raises: tuple[type[OverlayError], ...] = ()
    """Errors beyond those that every operation may answer with."""
    parameters: tuple[Parameter, ...] = ()
    request: type[msgspec.Struct] | None = None


Order = TypeVar("Order", bound=msgspec.Struct)


async def read_order(request: web.Request, kind: type[Order], *, limit_bytes: int = BODY_LIMIT_BYTES) -> Order:
    """Read the JSON body strictly. Raises BadRequest naming the key, TooLarge."""
    if request.content_type != "application/json":
        raise BadRequest(f"The body must be application/json, not {request.content_type[:_QUOTED]!r}.")
    body = await _read_body(request, limit_bytes)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as err:
        raise BadRequest(f"The body is not what this needs: {err}.") from err
    except msgspec.DecodeError as err:
        raise BadRequest(f"The body is not JSON: {err}.") from err
    except UnicodeDecodeError as err:
        raise BadRequest("The body is not UTF-8.") from err


async def _read_body(request: web.Request, limit_bytes: int) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > limit_bytes:
                raise TooLarge("The body", limit_bytes)
    except (ConnectionError, web.RequestPayloadError) as err:
        raise BadRequest("The body ended before it was complete.") from err
    return bytes(body)


def project_of(request: web.Request) -> NormalizedName:
    """Return the project of the path, normalized. Raises InvalidName."""
    return project_name(request.match_info["project"])


def version_of(request: web.Request) -> str:
    """Return the version of the path in PEP 440's normalized spelling. Raises BadRequest."""
    raw = request.match_info["version"]
    version = normalized_version(raw)
    if version is None:
        raise BadRequest(f"{raw[:_QUOTED]!r} is not a version (PEP 440).")
    return version


def normalized_version(raw: str) -> str | None:
    """Return PEP 440's normalized spelling, or None for what is no version."""
    if len(raw) > _LONGEST_VERSION:  # int() refuses more than 4,300 digits with a plain ValueError
        return None
    try:
        return str(Version(raw))
    except InvalidVersion:
        return None


def answer(request: web.Request, value: object, *, status: int = HTTPStatus.OK, storable: bool = True) -> web.Response:
    """Answer with JSON; what is not storable holds a secret or tells of tokens."""
    return answer_json(request, msgspec.json.encode(value), status=status, storable=storable)


def answer_json(
    request: web.Request, body: bytes, *, status: int = HTTPStatus.OK, storable: bool = True
) -> web.Response:
    """Answer with what is JSON already."""
    cache_control = caching(request) if storable else "no-store"
    headers = {"Content-Type": "application/json", "Cache-Control": cache_control}
    return web.Response(status=status, body=body, headers=headers)


def now_s(request: web.Request) -> float:
    """Read the application's clock."""
    return request.app[NOW_S]()


def caching(request: web.Request) -> str:
    """Form Cache-Control for what changes with every upload; what only some may read is private."""
    return "no-cache" if request.app[SETTINGS].read_open else "no-cache, private"
