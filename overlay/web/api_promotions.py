"""The API's handlers of promotions: a run plans, keeps its lease, writes its journal, looks at upstream, and ends."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Literal

from aiohttp import web
from yarl import URL

from overlay.domain import to_wire_promotions
from overlay.domain.errors import BadRequest
from overlay.domain.merge import timestamp
from overlay.domain.names import ReleaseName, project_name, stage_id
from overlay.domain.page import JsonValue
from overlay.domain.promotion import FileState, PromotionId, PromotionReceipt
from overlay.domain.promotion_errors import UnknownPromotion
from overlay.domain.rights import Right, Token
from overlay.domain.wire_promotions import (
    JournalOrder,
    LeaseView,
    LookedAtView,
    LookView,
    PlanView,
    PromotionList,
    PromotionOrder,
    PromotionView,
    RunOrder,
)
from overlay.services.access import require
from overlay.services.promotion_listing import Known
from overlay.services.promotion_looks import Sight
from overlay.services.promotion_orders import Planned, Wanted
from overlay.services.promotions import Promotions, Step
from overlay.web.auth import caller, check_reader
from overlay.web.context import SERVICES, SETTINGS, public_root
from overlay.web.operations import answer, normalized_version, now_s, read_order

# A thousand files with long names.
_ORDER_LIMIT_BYTES: Final = 1024 * 1024
_QUOTED: Final = 100
# How many promotions that ended are listed, each a document that is read: unless it is said, and at most.
_LISTED: Final = 20
_MOST_LISTED: Final = 1000
LIMIT: Final[Mapping[str, JsonValue]] = {"type": "integer", "minimum": 0, "maximum": _MOST_LISTED, "default": _LISTED}
_NUMBER: Final = re.compile(r"[0-9]{1,4}")
_PROMOTION: Final = re.compile(r"[0-9a-f]{32}")
_STATES: Final[dict[str, Literal[FileState.PLANNED, FileState.PUSHING, FileState.PUSHED]]] = {
    "planned": FileState.PLANNED,
    "pushing": FileState.PUSHING,
    "pushed": FileState.PUSHED,
}


async def plan_promotion(request: web.Request) -> web.Response:
    """Answer POST /promotions."""
    token = await _promoter(request)
    order = await read_order(request, PromotionOrder, limit_bytes=_ORDER_LIMIT_BYTES)
    planned = await _promotions(request).plan(token, _wanted(order))
    return answer(request, _plan_view(request, planned), status=HTTPStatus.CREATED, storable=False)


async def list_promotions(request: web.Request) -> web.Response:
    """Answer GET /promotions."""
    await check_reader(request)
    project, stage = request.query.get("project"), request.query.get("stage")
    found = await _promotions(request).find_all(
        None if project is None else project_name(project),
        [_release(named) for named in request.query.getall("release", [])],
        None if stage is None else stage_id(stage),
        limit=_limit(request.query.get("limit", str(_LISTED))),
    )
    return answer(request, PromotionList(promotions=tuple(_view(request, one) for one in found)))


async def show_promotion(request: web.Request) -> web.Response:
    """Answer GET /promotions/{id}."""
    await check_reader(request)
    return answer(request, _view(request, await _promotions(request).find(_id(request))))


async def renew_lease(request: web.Request) -> web.Response:
    """Answer POST /promotions/{id}/lease."""
    token = await _promoter(request)
    order = await read_order(request, RunOrder)
    freeze = await _promotions(request).renew(token, _id(request), order.fence)
    return answer(request, LeaseView(leased_until=timestamp(freeze.until_us)), storable=False)


async def journal_file(request: web.Request) -> web.Response:
    """Answer PUT /promotions/{id}/files/{upload}."""
    token = await _promoter(request)
    order = await read_order(request, JournalOrder)
    step = Step(state=_STATES[order.state], status=order.status, said=order.said, attempt=order.attempt)
    file, entry = await _promotions(request).journal(
        token, _id(request), request.match_info["upload"], order.fence, step
    )
    return answer(request, to_wire_promotions.promoted_file(file, entry, root=public_root(request)), storable=False)


async def look_upstream(request: web.Request) -> web.Response:
    """Answer POST /promotions/{id}/look."""
    token = await _promoter(request)
    order = await read_order(request, RunOrder)
    sights, ended = await _promotions(request).look(token, _id(request), order.fence)
    view = LookView(files=tuple(_looked_at(sight) for sight in sights), ended=ended is not None)
    return answer(request, view, storable=False)


async def end_run(request: web.Request) -> web.Response:
    """Answer POST /promotions/{id}/end."""
    token = await _promoter(request)
    order = await read_order(request, RunOrder)
    known = await _promotions(request).end(token, _id(request), order.fence)
    return answer(request, _view(request, known), storable=False)


async def abandon_promotion(request: web.Request) -> web.Response:
    """Answer DELETE /promotions/{id}."""
    token = await _promoter(request)
    receipt = await _promotions(request).abandon(token, _id(request))
    return answer(request, _view(request, receipt), storable=False)


async def _promoter(request: web.Request) -> Token:
    token = await caller(request)
    require(token, Right.PROMOTE)
    return token


def _promotions(request: web.Request) -> Promotions:
    return request.app[SERVICES].promotions


def _id(request: web.Request) -> PromotionId:
    """Return the promotion of the path; a name of documents is formed from it. Raises UnknownPromotion."""
    raw = request.match_info["id"]
    if not _PROMOTION.fullmatch(raw):
        raise UnknownPromotion(raw[:_QUOTED])
    return PromotionId(raw)


def _wanted(order: PromotionOrder) -> Wanted:
    """Read an order. Raises BadRequest, InvalidName."""
    pledges: dict[str, str] = {}
    for pledge in order.pledges:
        if pledges.setdefault(pledge.filename, pledge.sha256) != pledge.sha256:
            raise BadRequest(f"{pledge.filename[:_QUOTED]!r} is pledged twice, with different digests.")
    return Wanted(
        releases=frozenset(_release(named) for named in order.releases),
        pledges=pledges,
        holder=order.holder,
        stage=stage_id(order.stage),
        partial=order.partial,
        ignore_rules=frozenset(order.ignore_rules),
    )


def _limit(raw: str) -> int:
    """Read how many ended promotions are wanted. Raises BadRequest."""
    if not _NUMBER.fullmatch(raw) or int(raw) > _MOST_LISTED:
        raise BadRequest(f"`limit` is how many promotions that ended are listed: 0 to {_MOST_LISTED}.")
    return int(raw)


def _release(named: str) -> ReleaseName:
    """Read PROJECT==VERSION. Raises BadRequest, InvalidName."""
    project, separator, raw = named.partition("==")
    version = normalized_version(raw.strip()) if separator else None
    if version is None:
        raise BadRequest(f"{named[:_QUOTED]!r} is no release; one is written PROJECT==VERSION.")
    return ReleaseName(project_name(project.strip()), version)


def _plan_view(request: web.Request, planned: Planned) -> PlanView:
    settings = _promotions(request).settings
    held = planned.held
    promotion = None
    if held is not None:
        promotion = to_wire_promotions.underway(
            held, now_us=_now_us(request), root=public_root(request), attestations=planned.attestations
        )
    return PlanView(
        promotion=promotion,
        already_live=to_wire_promotions.already_live(planned.already_live),
        warnings=planned.warnings,
        new_projects=planned.new_projects,
        upstream=str(URL(request.app[SETTINGS].upstream_url).with_user(None)),
        fence=0 if held is None or held.freeze is None else held.freeze.fence,
        lease_s=settings.lease_s,
        absent_s=settings.absent_s,
    )


def _view(request: web.Request, known: Known) -> PromotionView:
    root = public_root(request)
    if isinstance(known, PromotionReceipt):
        return to_wire_promotions.ended(known, root=root)
    return to_wire_promotions.underway(known, now_us=_now_us(request), root=root)


def _looked_at(sight: Sight) -> LookedAtView:
    found = sight.on_page
    return LookedAtView(
        filename=sight.file.filename,
        upload_id=sight.file.upload_id,
        seen=sight.seen.value,
        sha256=None if found is None else found.sha256,
        url=None if found is None else found.url,
    )


def _now_us(request: web.Request) -> int:
    return int(now_s(request) * 1_000_000)
