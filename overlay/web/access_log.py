"""One line a request, with the id that its answer carries in X-Request-Id."""

import asyncio
import contextlib
import re
import secrets
import time
from typing import Final, TextIO

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from overlay.web.context import REQUEST_ID

# The one secret a path can hold; logs show it as /s/st_…/ (design §3).
_SECRET_STAGE: Final = re.compile(r"/s/(st_)[^/]*")


def new_request_id() -> str:
    """Name a request: 64 random bits in hex."""
    return secrets.token_hex(8)


class Lines:
    """Takes the lines of all connections; those of one turn of the loop are one write.

    In the shape that `overlay serve` gives its other lines, but not through logging: a record per request took as long
    as the request itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: list[str] = []

    def add(self, line: str) -> None:
        """Write the line when this turn of the loop has ended."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append(line)

    def _write(self) -> None:
        now_s = time.time()
        written_at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now_s))
        prefix = f"{written_at},{int(now_s * 1000) % 1000:03} INFO overlay.access: "
        text = "".join([f"{prefix}{line}\n" for line in self._waiting])
        self._waiting.clear()
        # Nobody is served better when the log cannot be written: a full disk, a closed pipe.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


class AccessLog(AbstractAccessLogger):  # aiohttp's interface
    """Writes `client "method path" status bytes milliseconds request-id`: no header, no query string."""

    def __init__(self, lines: Lines, log_format: str) -> None:  # noqa: ARG002 - ours is the one above
        self._lines = lines

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line."""
        # As it was sent, percent-encoded: decoded, a line break in it would forge a line here.
        path = request.raw_path.partition("?")[0]
        if not path.isascii():
            path = path.encode("ascii", "backslashreplace").decode("ascii")
        if "/st_" in path:
            path = _SECRET_STAGE.sub(r"/s/\1…", path)
        self._lines.add(
            f'{request.remote} "{request.method} {path}" {response.status} {response.body_length} '
            f"{time * 1000:.1f}ms {request.get(REQUEST_ID, '-')}"
        )
