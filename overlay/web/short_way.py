"""Plain questions for project pages, answered before the router sees them.

They are nearly all requests, and application, router and middleware took a sixth of their time (py-spy). Plain is:
GET, the main view, a normalized name, no query, reading open. Everything else goes the long way, by the same handlers.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final

from aiohttp import hdrs, web

from overlay.domain.errors import InvalidName
from overlay.domain.names import NormalizedName, project_name
from overlay.domain.page import MAIN_VIEW
from overlay.services.ledger_patience import one_patience
from overlay.web.app import PROJECT_PAGE, failed, sign
from overlay.web.context import LAST, LIFECYCLE, REQUEST_ID, REQUEST_IDS, ROUTE, SERVICES, SETTINGS
from overlay.web.errors import Door
from overlay.web.forwarded import is_host
from overlay.web.simple import page_answer

Route = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_LONGEST_PATH: Final = 300  # longer ones, whatever they are, are not worth remembering


def short_way(app: web.Application, route: Route) -> Route:
    """Return a handler that answers plain questions itself and gives all others to `route`, the application's own."""
    settings, pages, lifecycle, ids = app[SETTINGS], app[SERVICES].pages, app[LIFECYCLE], app[REQUEST_IDS]
    root = f"{settings.prefix}/simple/"
    if not settings.read_open:  # who may read is found out on the long way
        return route

    async def answered(request: web.Request, project: NormalizedName) -> web.StreamResponse:
        request_id = next(ids)
        try:
            with one_patience():
                response = await page_answer(request.headers, None, pages, MAIN_VIEW, project, settings)
        except Exception as err:  # noqa: BLE001 - the outermost edge
            request[ROUTE], request[REQUEST_ID], request[LAST] = PROJECT_PAGE, request_id, lifecycle.leaving
            refusal = failed(request, Door.SIMPLE, err)
            await sign(request, refusal)  # the application would do so on its way out
            return refusal
        response.sign(PROJECT_PAGE, request_id, last=lifecycle.leaving)
        return response

    def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        assert isinstance(request, web.Request)  # the application makes them
        path, headers = request.raw_path, request.headers
        project = _project(path, root) if request.method == "GET" and len(path) < _LONGEST_PATH else None
        if project is None or hdrs.EXPECT in headers or not is_host(headers.get(hdrs.HOST, "")):
            return route(request)
        return answered(request, project)

    return handle


@lru_cache(maxsize=8192)
def _project(path: str, root: str) -> NormalizedName | None:
    """Return the project whose page the path names, if it does so without need of a redirect."""
    raw = path.removeprefix(root).removesuffix("/")
    if path != f"{root}{raw}/":
        return None
    try:
        project = project_name(raw)
    except InvalidName:
        return None
    return project if project == raw else None
