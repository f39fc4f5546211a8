"""The API's handlers for admins: tokens, the sweep and the reconcile."""

from http import HTTPStatus

from aiohttp import web

from overlay.domain import to_wire
from overlay.domain.rights import Right
from overlay.domain.wire import ReconciledView, SweepOrder, SweptView, TokenCreated, TokenList, TokenOrder
from overlay.services.access import TokenRequest, require
from overlay.services.sweep import ORPHANED_AFTER_S, sweep
from overlay.services.upkeep import reconcile
from overlay.web.auth import caller
from overlay.web.context import SERVICES, SETTINGS
from overlay.web.operations import answer, now_s, read_order


async def list_tokens(request: web.Request) -> web.Response:
    """Answer GET /tokens."""
    await _check_admin(request)
    tokens = await request.app[SERVICES].access.tokens()
    return answer(request, TokenList(tokens=tuple(to_wire.token(token) for token in tokens)), storable=False)


async def create_token(request: web.Request) -> web.Response:
    """Answer POST /tokens."""
    await _check_admin(request)
    order = await read_order(request, TokenOrder)
    expires_at_s = None if order.expires_in_s is None else int(now_s(request)) + order.expires_in_s
    wanted = TokenRequest(
        label=order.label,
        rights=order.rights,
        projects=order.projects,
        stages=order.stages,
        expires_at_s=expires_at_s,
    )
    token, text = await request.app[SERVICES].access.create(wanted)
    created = TokenCreated(token=to_wire.token(token), text=text)
    return answer(request, created, status=HTTPStatus.CREATED, storable=False)


async def revoke_token(request: web.Request) -> web.Response:
    """Answer DELETE /tokens/{id}."""
    await _check_admin(request)
    await request.app[SERVICES].access.revoke(request.match_info["id"])
    return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Cache-Control": "no-store"})


async def sweep_blobs(request: web.Request) -> web.Response:
    """Answer POST /sweep."""
    await _check_admin(request)
    order = await read_order(request, SweepOrder)
    services = request.app[SERVICES]
    grace_s = request.app[SETTINGS].grace_s
    at_s, asked_s = now_s(request), order.older_than_s
    swept = await sweep(
        services.blobs,
        services.documents,
        ended_before_s=at_s - (grace_s if asked_s is None else asked_s),
        orphaned_before_s=at_s - (max(grace_s, ORPHANED_AFTER_S) if asked_s is None else asked_s),
        dry_run=order.dry_run,
    )
    view = SweptView(blobs=swept.blobs, size_bytes=swept.size_bytes, dry_run=swept.dry_run, abandoned=swept.abandoned)
    return answer(request, view, storable=False)


async def reconcile_ledger(request: web.Request) -> web.Response:
    """Answer POST /reconcile."""
    await _check_admin(request)
    services = request.app[SERVICES]
    reconciled = await reconcile(services.documents, services.ledger)
    view = ReconciledView(projects=reconciled.projects, tokens=reconciled.tokens)
    return answer(request, view, storable=False)


async def _check_admin(request: web.Request) -> None:
    require(await caller(request), Right.ADMIN)
