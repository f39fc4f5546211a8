"""The table of /api/v1: what the command line and scripts use, and the document that describes it."""

from typing import Final

from aiohttp import web

from overlay import __version__
from overlay.domain.errors import BadRequest, UnknownFile, UnknownRelease, UnknownToken
from overlay.domain.rights import Right
from overlay.domain.wire import (
    API,
    EventFeedView,
    HistoryView,
    ReconciledView,
    ReleaseView,
    ServerInfo,
    StagedList,
    SweepOrder,
    SweptView,
    TokenCreated,
    TokenList,
    TokenOrder,
    WithdrawnView,
)
from overlay.web import api_admin, api_staged
from overlay.web.context import public_root
from overlay.web.openapi import document
from overlay.web.operations import Operation, Parameter, answer

_PROJECT: Final = Parameter(name="project", place="path", description="A project name; normalized here (PEP 503).")
_VERSION: Final = Parameter(name="version", place="path", description="A version; normalized here (PEP 440).")


async def show_document(request: web.Request) -> web.Response:
    """Answer GET /openapi.json."""
    return answer(request, document(OPERATIONS, __version__, public_root(request) + API))


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/info",
        handler=api_staged.show_server,
        summary="Say what this server is.",
        right=Right.READ,
        responses={200: ServerInfo},
    ),
    Operation(
        method="GET",
        path="/staged",
        handler=api_staged.list_staged,
        summary="List what is staged, of one project or of all.",
        right=Right.READ,
        parameters=(Parameter(name="project", place="query", description="Only this project; normalized here."),),
        responses={200: StagedList},
        raises=(BadRequest,),
    ),
    # Before {version}: the first route that matches answers, and "history" is no version.
    Operation(
        method="GET",
        path="/projects/{project}/history",
        handler=api_staged.show_history,
        summary="Read the uploads of a project that ended, the latest first.",
        right=Right.READ,
        parameters=(_PROJECT,),
        responses={200: HistoryView},
        raises=(BadRequest,),
    ),
    Operation(
        method="GET",
        path="/projects/{project}/{version}",
        handler=api_staged.show_release,
        summary="Read a staged release with what the target of a promotion would refuse.",
        right=Right.READ,
        parameters=(_PROJECT, _VERSION),
        responses={200: ReleaseView},
        raises=(BadRequest, UnknownRelease),
    ),
    Operation(
        method="DELETE",
        path="/projects/{project}/{version}",
        handler=api_staged.withdraw_release,
        summary="Withdraw a staged release, or the named files of it.",
        right=Right.STAGE,
        parameters=(
            _PROJECT,
            _VERSION,
            Parameter(
                name="filename",
                place="query",
                description="A file of the release; repeat it for several, leave it out for all.",
                schema={"type": "array", "items": {"type": "string"}},
            ),
        ),
        responses={200: WithdrawnView},
        raises=(BadRequest, UnknownRelease, UnknownFile),
    ),
    Operation(
        method="GET",
        path="/events",
        handler=api_staged.list_events,
        summary="Read the recent events.",
        right=Right.READ,
        parameters=(
            Parameter(
                name="after",
                place="query",
                description="The number of the last event seen; 0 for all that are held.",
                schema={"type": "integer", "minimum": 0, "default": 0},
            ),
        ),
        responses={200: EventFeedView},
        raises=(BadRequest,),
    ),
    Operation(
        method="GET",
        path="/tokens",
        handler=api_admin.list_tokens,
        summary="List the stored tokens, without their texts.",
        right=Right.ADMIN,
        responses={200: TokenList},
    ),
    Operation(
        method="POST",
        path="/tokens",
        handler=api_admin.create_token,
        summary="Create a token; its text is answered here and never again.",
        right=Right.ADMIN,
        request=TokenOrder,
        responses={201: TokenCreated},
        raises=(BadRequest,),
    ),
    Operation(
        method="DELETE",
        path="/tokens/{id}",
        handler=api_admin.revoke_token,
        summary="Revoke a token, for every request that begins later.",
        right=Right.ADMIN,
        parameters=(Parameter(name="id", place="path", description="The token's id, as the list shows it."),),
        responses={204: None},
        raises=(UnknownToken,),
    ),
    Operation(
        method="POST",
        path="/sweep",
        handler=api_admin.sweep_blobs,
        summary="Delete bytes that nothing names any more.",
        right=Right.ADMIN,
        request=SweepOrder,
        responses={200: SweptView},
        raises=(BadRequest,),
    ),
    Operation(
        method="POST",
        path="/reconcile",
        handler=api_admin.reconcile_ledger,
        summary="Compare the ledger with records and history, and heal what differs.",
        right=Right.ADMIN,
        responses={200: ReconciledView},
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        handler=show_document,
        summary="Read this document.",
        right=None,
        responses={200: dict},
    ),
)


def routes() -> list[web.RouteDef]:
    """Form the routes, without the prefix of the public URL."""
    return [web.route(operation.method, API + operation.path, operation.handler) for operation in OPERATIONS]
