"""One line a request, with the id that its answer carries in X-Request-Id."""

import logging
import re
import secrets
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from overlay.web.context import REQUEST_ID

# The one secret a path can hold; logs show it as /s/st_…/ (design §3).
_SECRET_STAGE: Final = re.compile(r"/s/(st_)[^/]*")


def new_request_id() -> str:
    """Name a request: 64 random bits in hex."""
    return secrets.token_hex(8)


class AccessLog(AbstractAccessLogger):  # aiohttp's interface
    """Writes `client "method path" status bytes milliseconds request-id`; no header, no query string."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line."""
        self.logger.info(
            '%s "%s %s" %d %d %.1fms %s',
            request.remote,
            request.method,
            _SECRET_STAGE.sub(r"/s/\1…", request.path),
            response.status,
            response.body_length,
            time * 1000,
            request.get(REQUEST_ID, "-"),
        )

    @property
    def enabled(self) -> bool:
        """Spare the work when nobody listens."""
        return self.logger.isEnabledFor(logging.INFO)
