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
from overlay.web.app import PROJECT_PAGE, answered, sign
from overlay.web.context import ROUTE, SERVICES, SETTINGS
from overlay.web.errors import Door
from overlay.web.ready import Ready
from overlay.web.simple import page_answer

Route = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_LONGEST_PATH: Final = 300  # longer ones, whatever they are, are not worth remembering


def short_way(app: web.Application, route: Route) -> Route:
    """Return a handler that answers plain questions itself and gives all others to `route`, the application's own."""
    settings, pages = app[SETTINGS], app[SERVICES].pages
    root = f"{settings.prefix}/simple/"
    if not settings.read_open:  # who may read is found out on the long way
        return route

    async def answer_page(request: web.Request) -> web.StreamResponse:
        project = _plain(request.raw_path, root)
        assert project is not None
        return await page_answer(request, pages, MAIN_VIEW, project, settings)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.Request)  # the application makes them
        path = request.raw_path
        plain = request.method == "GET" and len(path) < _LONGEST_PATH and _plain(path, root) is not None
        if not plain or hdrs.EXPECT in request.headers:
            return await route(request)
        request[ROUTE] = PROJECT_PAGE
        response = await answered(request, answer_page, Door.SIMPLE)
        if not isinstance(response, Ready):  # the application would sign it on its way out
            await sign(request, response)
        return response

    return handle


@lru_cache(maxsize=8192)
def _plain(path: str, root: str) -> NormalizedName | None:
    """Return the project whose page the path names, if it does so without need of a redirect."""
    raw = path.removeprefix(root).removesuffix("/")
    if path != f"{root}{raw}/":
        return None
    try:
        project = project_name(raw)
    except InvalidName:
        return None
    return project if project == raw else None
