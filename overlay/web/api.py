"""The table of /api/v1: what the command line and scripts use, and the document that describes it."""

from typing import Final

from aiohttp import web

from overlay import __version__
from overlay.domain.errors import BadRequest, StaysLive, UnknownFile, UnknownRelease, UnknownToken, UpstreamUnavailable
from overlay.domain.promotion_errors import (
    PromotionLost,
    PromotionRefused,
    PromotionRunning,
    ReleaseFrozen,
    StagedChanged,
    UnknownPromotion,
)
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
from overlay.domain.wire_promotions import (
    JournalOrder,
    LeaseView,
    LookView,
    PlanView,
    PromotedFileView,
    PromotionList,
    PromotionOrder,
    PromotionView,
    RunOrder,
)
from overlay.web import api_admin, api_promotions, api_staged
from overlay.web.context import public_root
from overlay.web.openapi import document
from overlay.web.operations import Operation, Parameter, answer

_PROJECT: Final = Parameter(name="project", place="path", description="A project name; normalized here (PEP 503).")
_PROMOTION: Final = Parameter(name="id", place="path", description="The promotion's id, as its plan has it.")
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
        raises=(BadRequest, UnknownRelease, UnknownFile, ReleaseFrozen, StaysLive),
    ),
    Operation(
        method="POST",
        path="/promotions",
        handler=api_promotions.plan_promotion,
        summary="Plan a promotion and freeze its releases, or take up the one that they are in.",
        right=Right.PROMOTE,
        request=PromotionOrder,
        responses={201: PlanView},
        raises=(PromotionRefused, PromotionRunning, ReleaseFrozen, StagedChanged, UpstreamUnavailable),
    ),
    Operation(
        method="GET",
        path="/promotions",
        handler=api_promotions.list_promotions,
        summary="List the promotions: all that are under way, then those that ended, of each the latest first.",
        right=Right.READ,
        parameters=(
            Parameter(name="project", place="query", description="Only of this project; normalized here."),
            Parameter(
                name="release",
                place="query",
                description="Only of this release, written PROJECT==VERSION; repeat it for several.",
                schema={"type": "array", "items": {"type": "string"}},
            ),
            Parameter(name="stage", place="query", description="Only from this stage."),
            Parameter(
                name="limit",
                place="query",
                description="How many of those that ended are listed at most.",
                schema=api_promotions.LIMIT,
            ),
        ),
        responses={200: PromotionList},
        raises=(BadRequest,),
    ),
    Operation(
        method="GET",
        path="/promotions/{id}",
        handler=api_promotions.show_promotion,
        summary="Read a promotion, under way or ended.",
        right=Right.READ,
        parameters=(_PROMOTION,),
        responses={200: PromotionView},
        raises=(UnknownPromotion,),
    ),
    Operation(
        method="POST",
        path="/promotions/{id}/lease",
        handler=api_promotions.renew_lease,
        summary="Renew the lease of a run.",
        right=Right.PROMOTE,
        parameters=(_PROMOTION,),
        request=RunOrder,
        responses={200: LeaseView},
        raises=(UnknownPromotion, PromotionLost),
    ),
    Operation(
        method="PUT",
        path="/promotions/{id}/files/{upload}",
        handler=api_promotions.journal_file,
        summary="Write down how far a file came, before its first byte goes out and once upstream accepted it.",
        right=Right.PROMOTE,
        parameters=(
            _PROMOTION,
            Parameter(name="upload", place="path", description="The file's upload id, as the plan has it."),
        ),
        request=JournalOrder,
        responses={200: PromotedFileView},
        raises=(UnknownPromotion, UnknownFile, PromotionLost),
    ),
    Operation(
        method="POST",
        path="/promotions/{id}/look",
        handler=api_promotions.look_upstream,
        summary="Ask upstream what it has of a promotion's files; once all are live, the promotion has ended.",
        right=Right.PROMOTE,
        parameters=(_PROMOTION,),
        request=RunOrder,
        responses={200: LookView},
        raises=(UnknownPromotion, PromotionLost, UpstreamUnavailable),
    ),
    Operation(
        method="POST",
        path="/promotions/{id}/end",
        handler=api_promotions.end_run,
        summary="End a run: its lease, and the promotion, too, unless something may have been pushed.",
        right=Right.PROMOTE,
        parameters=(_PROMOTION,),
        request=RunOrder,
        responses={200: PromotionView},
        raises=(UnknownPromotion, PromotionLost),
    ),
    Operation(
        method="DELETE",
        path="/promotions/{id}",
        handler=api_promotions.abandon_promotion,
        summary="Give a promotion up: what is live stays live, the rest is only staged again.",
        right=Right.PROMOTE,
        parameters=(_PROMOTION,),
        responses={200: PromotionView},
        raises=(UnknownPromotion,),
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
