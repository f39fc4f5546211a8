"""The application: routes, and the one place where errors become answers."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import hdrs, web

from overlay.caching.flight import Flight
from overlay.domain.errors import OverlayError, UnknownPage
from overlay.web import api, files, pages, simple, upload
from overlay.web.access_log import request_ids
from overlay.web.context import (
    LAST,
    LIFECYCLE,
    METRICS,
    PROXIES,
    REQUEST_ID,
    REQUEST_IDS,
    ROUTE,
    SERVICES,
    SETTINGS,
    Lifecycle,
    Services,
    WebSettings,
)
from overlay.web.errors import Door, answer, said
from overlay.web.exposition import show_metrics
from overlay.web.formed import FORMED
from overlay.web.forwarded import is_host, networks
from overlay.web.metrics import NO_ROUTE, Metrics
from overlay.web.operations import NOW_S
from overlay.web.probes import PROBES, health, probes, ready
from overlay.web.ready import SERVER, Ready

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger("overlay.web")
_ANSWERING: Final = web.RequestKey("answering", bool)
PROJECT_PAGE: Final = "/simple/{project}/"
_SIMPLE_PATHS: Final = ("/simple", "/staged/", "/files/", "/s/", "/pypi/", "/-/")


def application(
    services: Services,
    settings: WebSettings,
    lifecycle: Lifecycle,
    *,
    now_s: Callable[[], float],
    metrics: Metrics | None = None,
) -> web.Application:
    """Assemble the application; every path lies below `settings.prefix`. `now_s` is the clock.

    `metrics` are those that services and adapters report to, too; without them the web floor has its own.
    """
    # Bodies are read as streams where they may be large; 64 KiB bounds what is read whole.
    app = web.Application(middlewares=[_answering], client_max_size=64 * 1024)
    app[SERVICES] = services
    app[SETTINGS] = settings
    app[LIFECYCLE] = lifecycle
    app[NOW_S] = now_s
    app[METRICS] = metrics or Metrics()
    app[PROXIES] = networks(settings.trusted_proxies)
    app[PROBES] = probes(services)
    app[REQUEST_IDS] = request_ids()
    app[FORMED] = Flight()
    pages.setup_templates(app, settings)
    app.add_routes([_below(settings.prefix, route) for route in _routes()])
    app.on_response_prepare.append(sign)
    app.on_cleanup.append(_closed)
    return app


async def _closed(app: web.Application) -> None:
    await app[PROBES].close()
    await app[FORMED].close()
    app[METRICS].flush()


def _routes() -> Sequence[web.RouteDef]:
    return [
        web.get(PROJECT_PAGE, simple.project_page),
        web.get("/files/{project}/{upload}/{filename}", files.staged_file),
        web.get("/simple/", simple.index_page),
        web.get("/staged/simple/{project}/", simple.staged_project_page),
        web.get("/staged/simple/", simple.staged_index_page),
        *[web.get(path, simple.add_slash) for path in _WITHOUT_SLASH],
        *[web.post(path, upload.upload) for path in ("/legacy/", "/legacy")],
        *[web.route("*", path, upload.wrong_method) for path in ("/legacy/", "/legacy")],
        *[web.post(path, upload.wrong_url) for path in ("/", "/simple/", "/simple")],
        web.get("/-/health", health),
        web.get("/-/ready", ready),
        web.get("/-/metrics", show_metrics),
        *api.routes(),
        *pages.routes(),
    ]


_WITHOUT_SLASH: Final = ("/simple", "/simple/{project}", "/staged/simple", "/staged/simple/{project}")


def _below(prefix: str, route: web.RouteDef) -> web.RouteDef:
    return web.RouteDef(route.method, prefix + route.path, route.handler, route.kwargs)


@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    resource = request.match_info.route.resource
    template = NO_ROUTE if resource is None else resource.canonical
    request[ROUTE] = template.removeprefix(request.app[SETTINGS].prefix)
    ids = request.app[REQUEST_IDS]
    request[REQUEST_ID] = next(ids)
    door = _door(request)
    if not is_host(request.headers.get(hdrs.HOST, "")):
        return said(400, "The Host header is no host name.", door, None, {})
    try:
        response = await handler(request)
    except Exception as err:  # noqa: BLE001 - the outermost edge
        return failed(request, door, err)
    if isinstance(response, Ready):
        response.sign(request[ROUTE], request[REQUEST_ID], last=request.get(LAST, False))
    return response


def failed(request: web.Request, door: Door, error: Exception) -> web.StreamResponse:
    """Make an answer of what a handler raised; raises what ends the connection instead."""
    match error:
        case OverlayError():
            if _begun(request):
                _log.warning("request %s broke off: %s", request[REQUEST_ID], error)
                raise _broken_off(request) from error
            return _shown(request, door, answer(error, door, request.headers.get("Accept")), str(error))
        case web.HTTPException() if error.status < 400:  # noqa: PLR2004 - a redirect is an answer of its own
            raise error
        case web.HTTPNotFound():
            return failed(request, door, UnknownPage())
        case web.HTTPException():
            headers, sentence = _of_the_router(request, error)
            response = said(error.status, sentence, door, request.headers.get("Accept"), headers)
            return _shown(request, door, response, sentence)
        case ConnectionError():  # the client hung up: there is nobody to answer
            raise error
        case _:
            return _unexpected(request, door, error)


def _unexpected(request: web.Request, door: Door, error: Exception) -> web.Response:
    named = request[REQUEST_ID], request.method, request.rel_url.raw_path
    _log.error("request %s failed: %s %s", *named, exc_info=error)
    if _begun(request):
        raise _broken_off(request) from None
    sentence = f"The server failed; its log has the request {request[REQUEST_ID]}."
    return said(500, sentence, door, request.headers.get("Accept"), {})


def _broken_off(request: web.Request) -> ConnectionAbortedError:
    request.app[METRICS].broke_off(request[ROUTE])
    return ConnectionAbortedError()


def _begun(request: web.Request) -> bool:
    """Say whether the answer is under way: a second one would be read as a part of its body."""
    return request.get(_ANSWERING, False) or request.writer.output_size > 0


def _of_the_router(request: web.Request, err: web.HTTPException) -> tuple[dict[str, str], str]:
    """Say in our words what the router found, or did not find."""
    match err:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(err.allowed_methods))
            said_already = err.text is not None and not err.text.startswith("405")
            sentence = err.text if said_already else f"{request.method} is not possible here; {allowed} is."
            return {"Allow": allowed}, (sentence or "").strip()
        case _:
            return {}, (err.text or err.reason).strip()


def _shown(request: web.Request, door: Door, response: web.Response, sentence: str) -> web.StreamResponse:
    if door is Door.PAGE and "text/html" in request.headers.get("Accept", ""):
        return pages.error_page(request, response, sentence)
    return response


def _door(request: web.Request) -> Door:
    path = request.path.removeprefix(request.app[SETTINGS].prefix)
    if path.startswith(("/api/", "/_/", "/.well-known/")):
        return Door.API
    if path.startswith("/legacy") or request.method == "POST":
        return Door.UPLOAD
    return Door.SIMPLE if path.startswith(_SIMPLE_PATHS) else Door.PAGE


async def sign(request: web.Request, response: web.StreamResponse) -> None:
    """Say who answers, and the request's id, which the log has too."""
    request[_ANSWERING] = True
    headers = response.headers
    headers["Server"] = SERVER
    if request.get(LAST, False):
        headers["Connection"] = "close"
        response.force_close()
    request_id = request.get(REQUEST_ID)
    if request_id is not None:
        headers["X-Request-Id"] = request_id
