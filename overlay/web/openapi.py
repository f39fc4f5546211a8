"""The OpenAPI 3.1 document of a table of operations; what is served is what is described."""

from collections.abc import Collection, Iterable, Sequence
from http import HTTPStatus
from typing import Final, cast

import msgspec

from overlay.domain.errors import BadRequest, LedgerUnavailable, NotAuthenticated, NotGranted, OverlayError, TooLarge
from overlay.domain.page import JsonValue
from overlay.domain.promotion_errors import PromotionLost, PromotionRefused, PromotionRunning
from overlay.domain.rights import Right
from overlay.domain.wire import Problem
from overlay.domain.wire_promotions import LostProblem, RefusedProblem, RunningProblem
from overlay.web.errors import STATUSES, Door
from overlay.web.operations import Operation, Parameter

Json = dict[str, JsonValue]

_REFERENCE: Final = "#/components/schemas/{name}"
_PROBLEMS: Final[dict[type[OverlayError], type[Problem]]] = {
    PromotionLost: LostProblem,
    PromotionRefused: RefusedProblem,
    PromotionRunning: RunningProblem,
}
"""What the errors answer with that say more than a sentence."""
_SCHEMES: Final[dict[str, Json]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token of this overlay (ovl_…)."},
    "basic": {"type": "http", "scheme": "basic", "description": "Any user name; the token is the password."},
}


def document(operations: Sequence[Operation], version: str, server_url: str) -> Json:
    """Describe the operations; `server_url` is the address that their paths are relative to."""
    types = _types(operations)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema_of = dict(zip(types, cast("tuple[Json, ...]", schemas), strict=True))
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "overlay",
            "version": version,
            "description": "What is staged on this index, and who may change it.",
        },
        "servers": [{"url": server_url}],
        "paths": cast("JsonValue", paths),
        "components": {
            "schemas": cast("JsonValue", components),
            "securitySchemes": cast("JsonValue", _SCHEMES),
        },
    }


def _types(operations: Iterable[Operation]) -> list[type]:
    """Collect the bodies' types, each once, in the order of the table."""
    found: dict[type, None] = {Problem: None}
    for operation in operations:
        found.update({_PROBLEMS[kind]: None for kind in operation.raises if kind in _PROBLEMS})
        bodies = (operation.request, *operation.responses.values())
        found.update({body: None for body in bodies if body is not None})
    return list(found)


def _operation(operation: Operation, schema_of: dict[type, Json]) -> Json:
    described: Json = {
        "operationId": operation.handler.__name__,
        "summary": operation.summary,
        "description": _needs(operation.right),
        "security": _security(operation.right),
        "responses": {**_successes(operation, schema_of), **_failures(operation, schema_of)},
    }
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[operation.request]}},
        }
    return described


def _needs(right: Right | None) -> str:
    if right is None:
        return "Open to everybody."
    if right is Right.READ:
        return "Open to everybody, unless the operator closed reading; then it needs the right read."
    return f"Needs the right {right.value}."


def _security(right: Right | None) -> JsonValue:
    if right is None:
        return []
    token: list[JsonValue] = [{"bearer": []}, {"basic": []}]
    return [{}, *token] if right is Right.READ else token


def _successes(operation: Operation, schema_of: dict[type, Json]) -> Json:
    described: Json = {}
    for status, body in operation.responses.items():
        response: Json = {"description": HTTPStatus(status).phrase}
        if body is not None:
            response["content"] = {"application/json": {"schema": schema_of[body]}}
        described[str(status)] = response
    return described


def _failures(operation: Operation, schema_of: dict[type, Json]) -> Json:
    """Describe the problems per status; several errors of one status share its description."""
    raised: list[type[OverlayError]] = [*operation.raises]
    if operation.request is not None:
        raised += [BadRequest, TooLarge]
    if operation.right is not None:
        raised += [NotAuthenticated, NotGranted, LedgerUnavailable]
    sentences: dict[int, dict[str, None]] = {}
    problems: dict[int, dict[type, None]] = {}
    for kind in raised:
        sentences.setdefault(_status(kind), {})[(kind.__doc__ or "").strip()] = None
        problems.setdefault(_status(kind), {})[_PROBLEMS.get(kind, Problem)] = None
    return {
        **{
            str(status): {"description": " ".join(said), "content": _content(problems[status], schema_of)}
            for status, said in sorted(sentences.items())
        },
        "default": {"description": "Any other failure.", "content": _content([Problem], schema_of)},
    }


def _content(problems: Collection[type], schema_of: dict[type, Json]) -> Json:
    schemas: list[JsonValue] = [schema_of[problem] for problem in problems]
    return {"application/problem+json": {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}


def _status(kind: type[OverlayError]) -> int:
    return next(STATUSES[ancestor][Door.API.value] for ancestor in kind.__mro__ if ancestor in STATUSES)


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
