"""The application: routes, and the one place where errors become answers."""

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Final

from aiohttp import hdrs, web

from overlay.domain.errors import LedgerUnavailable, NotFound, OverlayError, StoreUnavailable, UnknownPage
from overlay.domain.layout import STORE_MARK
from overlay.domain.names import MAIN
from overlay.web import api, files, pages, simple, upload
from overlay.web.access_log import new_request_id
from overlay.web.context import LIFECYCLE, REQUEST_ID, SERVICES, SETTINGS, Lifecycle, Services, WebSettings
from overlay.web.errors import Door, answer, said
from overlay.web.operations import NOW_S
from overlay.web.ready import SERVER

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger("overlay.web")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ANSWERING: Final = web.RequestKey("answering", bool)
_SIMPLE_PATHS: Final = ("/simple", "/staged/", "/files/", "/s/", "/pypi/", "/-/")


def application(
    services: Services, settings: WebSettings, lifecycle: Lifecycle, *, now_s: Callable[[], float]
) -> web.Application:
    """Assemble the application; every path lies below `settings.prefix`. `now_s` is the clock."""
    # Bodies are read as streams where they may be large; 64 KiB bounds what is read whole.
    app = web.Application(middlewares=[_answering], client_max_size=64 * 1024)
    app[SERVICES] = services
    app[SETTINGS] = settings
    app[LIFECYCLE] = lifecycle
    app[NOW_S] = now_s
    pages.setup_templates(app, settings)
    app.add_routes([_below(settings.prefix, route) for route in _routes()])
    app.on_response_prepare.append(sign)
    return app


def _routes() -> Sequence[web.RouteDef]:
    return [
        web.get("/simple/{project}/", simple.project_page),
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
        *api.routes(),
        *pages.routes(),
    ]


_WITHOUT_SLASH: Final = ("/simple", "/simple/{project}", "/staged/simple", "/staged/simple/{project}")


def _below(prefix: str, route: web.RouteDef) -> web.RouteDef:
    return web.RouteDef(route.method, prefix + route.path, route.handler, route.kwargs)


async def health(request: web.Request) -> web.Response:  # noqa: ARG001
    """Answer `/-/health`: the process runs."""
    return web.Response(text="ok\n")


async def ready(request: web.Request) -> web.Response:
    """Answer `/-/ready`: store and ledger answer; upstream never decides."""
    services = request.app[SERVICES]
    parts = {"server": "stopping" if request.app[LIFECYCLE].draining else "ok", "ledger": "ok", "store": "ok"}
    try:
        await services.ledger.names((MAIN,))
    except LedgerUnavailable as err:
        parts["ledger"] = str(err)
    try:
        await services.documents.get(STORE_MARK)
    except (NotFound, StoreUnavailable) as err:
        parts["store"] = str(err)
    well = all(state == "ok" for state in parts.values())
    parts["upstream"] = services.upstream.trouble or "ok"
    return web.json_response(parts, status=200 if well else 503, headers={"Cache-Control": "no-store"})


@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await answered(request, handler, _door(request))


async def answered(request: web.Request, handler: Handler, door: Door) -> web.StreamResponse:
    """Answer, and make an answer of what the handler raises."""
    request[REQUEST_ID] = new_request_id()
    if not _is_host(request.headers.get(hdrs.HOST, "")):
        return said(400, "The Host header is no host name.", door, None, {})
    try:
        return await handler(request)
    except OverlayError as err:
        if _begun(request):
            _log.warning("request %s broke off: %s", request[REQUEST_ID], err)
            raise ConnectionAbortedError from err
        return _shown(request, door, answer(err, door, request.headers.get("Accept")), str(err))
    except web.HTTPException as err:
        if err.status < 400:  # noqa: PLR2004 - a redirect is an answer of its own
            raise
        headers, sentence = _of_the_router(request, err)
        response = said(err.status, sentence, door, request.headers.get("Accept"), headers)
        return _shown(request, door, response, sentence)
    except ConnectionError:
        raise  # the client hung up: there is nobody to answer
    except Exception:  # noqa: BLE001 - the outermost edge
        _log.exception("request %s failed: %s %s", request[REQUEST_ID], request.method, request.rel_url.raw_path)
        if _begun(request):
            raise ConnectionAbortedError from None
        sentence = f"The server failed; its log has the request {request[REQUEST_ID]}."
        return said(500, sentence, door, request.headers.get("Accept"), {})


def _begun(request: web.Request) -> bool:
    """Say whether the answer is under way: a second one would be read as a part of its body."""
    return request.get(_ANSWERING, False) or request.writer.output_size > 0


@lru_cache(maxsize=256)
def _is_host(host: str) -> bool:
    """Say whether this is a host (RFC 9110 §7.2) that may be shown again: it forms the links of pages and receipts."""
    return not host or _HOST.fullmatch(host) is not None


def _of_the_router(request: web.Request, err: web.HTTPException) -> tuple[dict[str, str], str]:
    """Say in our words what the router found, or did not find."""
    match err:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(err.allowed_methods))
            said_already = err.text is not None and not err.text.startswith("405")
            sentence = err.text if said_already else f"{request.method} is not possible here; {allowed} is."
            return {"Allow": allowed}, (sentence or "").strip()
        case web.HTTPNotFound():
            return {}, str(UnknownPage())
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
    request_id = request.get(REQUEST_ID)
    if request_id is not None:
        headers["X-Request-Id"] = request_id
