"""The API's handlers about what is staged: read it, follow it, withdraw it."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web
from yarl import URL

from overlay import __version__
from overlay.domain import to_wire, to_wire_promotions
from overlay.domain.errors import BadRequest, StoreUnavailable, UnknownRelease
from overlay.domain.names import ReleaseName, project_name
from overlay.domain.wire import HistoryView, ReleasePromotionView, ReleaseView, ServerInfo, StagedList, WithdrawnView
from overlay.services.releases import StagedEntry
from overlay.web.auth import caller, check_reader
from overlay.web.context import SERVICES, SETTINGS, public_root
from overlay.web.formed import formed
from overlay.web.operations import answer, answer_json, now_s, project_of, version_of

_EVENT_NUMBER: Final = re.compile(r"[0-9]{1,18}")


async def show_server(request: web.Request) -> web.Response:
    """Answer GET /info."""
    await check_reader(request)
    settings = request.app[SETTINGS]
    info = ServerInfo(
        version=__version__,
        upstream=str(URL(settings.upstream_url).with_user(None)),  # its credentials are nobody's here
        public_url=public_root(request),
        read_open=settings.read_open,
        ephemeral=settings.ephemeral,
    )
    return answer(request, info)


async def list_staged(request: web.Request) -> web.Response:
    """Answer GET /staged."""
    await check_reader(request)
    raw = request.query.get("project")
    entries = await request.app[SERVICES].releases.staged(None if raw is None else project_name(raw))
    root = public_root(request)
    body = await formed(request.app, entries, root, lambda read: _staged_list(read, root))
    return answer_json(request, body)


def _staged_list(entries: Sequence[StagedEntry], root: str) -> bytes:
    files = tuple(to_wire.staged_file(entry.file, entry.standing, None, root=root) for entry in entries)
    return msgspec.json.encode(StagedList(files=files))


async def show_release(request: web.Request) -> web.Response:
    """Answer GET /projects/{project}/{version}."""
    await check_reader(request)
    project, version = project_of(request), version_of(request)
    try:
        release = await request.app[SERVICES].releases.release(project, version)
    except UnknownRelease as err:
        ended = await last_promotion_of(request, ReleaseName(project, version))
        if ended is None:
            raise
        more = f"Its last promotion ({ended.state}, by {ended.who}): {ended.url}"
        raise UnknownRelease(project, version, more) from err
    promotion = await promotion_of(request, ReleaseName(project, version))
    root = public_root(request)
    view = ReleaseView(
        project=release.project,
        version=release.version,
        upstream_known=release.upstream_known,
        files=tuple(
            to_wire.staged_file(entry.file, entry.standing, entry.findings, root=root) for entry in release.entries
        ),
        promotion=promotion,
    )
    return answer(request, view)


async def promotion_of(request: web.Request, release: ReleaseName) -> ReleasePromotionView | None:
    """Find the promotion that a release is in, or the last one that it was in."""
    known = await request.app[SERVICES].promotions.last_of(release)
    if known is None:
        return None
    now_us = int(now_s(request) * 1_000_000)
    return to_wire_promotions.of_release(known, release, now_us=now_us, root=public_root(request))


async def last_promotion_of(request: web.Request, release: ReleaseName) -> ReleasePromotionView | None:
    """Find the promotion that a release was in of which nothing is staged; None also where the store cannot tell.

    That nothing is staged is known without it.
    """
    try:
        return await promotion_of(request, release)
    except StoreUnavailable:
        return None


async def withdraw_release(request: web.Request) -> web.Response:
    """Answer DELETE /projects/{project}/{version}."""
    token = await caller(request)
    project, version = project_of(request), version_of(request)
    filenames = request.query.getall("filename", [])
    withdrawn = await request.app[SERVICES].releases.withdraw(token, project, version, filenames)
    view = WithdrawnView(
        project=project,
        version=version,
        files=tuple(to_wire.history_entry(gone) for gone in withdrawn.ended),
        live=tuple(file.filename for file in withdrawn.staying),
    )
    return answer(request, view)


async def show_history(request: web.Request) -> web.Response:
    """Answer GET /projects/{project}/history."""
    await check_reader(request)
    project = project_of(request)
    gone = await request.app[SERVICES].releases.history(project)
    return answer(request, HistoryView(project=project, entries=tuple(to_wire.history_entry(one) for one in gone)))


async def list_events(request: web.Request) -> web.Response:
    """Answer GET /events."""
    await check_reader(request)
    raw = request.query.get("after", "0")
    if not _EVENT_NUMBER.fullmatch(raw):
        raise BadRequest("`after` is the number of the last event seen: digits, 0 for all.")
    return answer(request, to_wire.event_feed(await request.app[SERVICES].ledger.events(int(raw))))
