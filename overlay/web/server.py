"""The HTTP server below the application: limits of headers, and answers to requests that are no HTTP.

aiohttp answers such requests with a text that quotes them; a header that is too long may be a credential, so ours say
what is wrong and quote nothing, neither to the client nor to the log.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TextIO

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from overlay.web.access_log import AccessLog, Lines, Watch
from overlay.web.context import LAST, LIFECYCLE, METRICS, PROXIES, Lifecycle
from overlay.web.log_format import LogForm
from overlay.web.short_way import Route, short_way

# standards trusted-publishing §5: foreign tokens may be long; 9 KiB are met in the wild.
FIELD_BYTES: Final = 16 * 1024
LINE_BYTES: Final = 8190
# Long enough for a client that sends its whole body before it looks at an early refusal.
_LINGERING_S: Final = 30.0
_READ_BYTES: Final = 256 * 1024

_log = logging.getLogger("overlay.server")


class _Connection(web.RequestHandler):  # the one place where aiohttp offers inheritance as its interface
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """Answer what never reached the application."""
        if request.writer.output_size > 0:
            raise ConnectionError("The answer was already under way.")
        text = "The server failed; its log says more."
        if status == 400:  # noqa: PLR2004 - aiohttp's word for everything its parser refuses
            status, text = _refusal(exc)
            _log.info("refused a request: %s", text)
        else:
            _log.error("a request failed", exc_info=exc)
        response = web.Response(status=status, text=text + "\n")
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)


class Runner(web.AppRunner):
    """Runs the application on our server."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        handler = short_way(self.app, _leaving(self.app[LIFECYCLE], server.request_handler))
        return _Server(handler, request_factory=server.request_factory, **server._kwargs)  # noqa: SLF001


def runner(
    app: web.Application,
    *,
    shutdown_timeout_s: float,
    access_log: TextIO | None = None,
    log_form: LogForm = LogForm.TEXT,
) -> web.AppRunner:
    """Make a runner with the overlay's limits; requests under way get `shutdown_timeout_s` at cleanup.

    `access_log` takes a line for every request, in the form of the log.
    """
    lines = None if access_log is None else Lines(access_log, log_form)
    if lines is not None:
        app.on_cleanup.append(_flushing(lines))  # when the last connection is closed
    return Runner(
        app,
        access_log_class=AccessLog,
        access_log=Watch(app[METRICS], lines, app[PROXIES]),
        max_field_size=FIELD_BYTES,
        max_line_size=LINE_BYTES,
        auto_decompress=False,  # bodies are taken as they come: a bomb is refused, not unpacked
        lingering_time=_LINGERING_S,
        read_bufsize=_READ_BYTES,
        shutdown_timeout=shutdown_timeout_s,
    )


def _flushing(lines: Lines) -> Callable[[web.Application], Awaitable[None]]:
    async def flush(_: web.Application) -> None:
        lines.flush()

    return flush


def _leaving(lifecycle: Lifecycle, route: Route) -> Route:
    """Mark the requests after which their connections are closed."""

    def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        if lifecycle.leaving:
            request[LAST] = True
        return route(request)

    return handle


def _refusal(exc: BaseException | None) -> tuple[int, str]:
    if isinstance(exc, LineTooLong):
        limit = exc.args[1]
        if limit == LINE_BYTES:
            return 414, f"The request line is longer than {LINE_BYTES} bytes."
        return 431, f"A header field is longer than {FIELD_BYTES} bytes."
    return 400, "The request is not well-formed HTTP."
