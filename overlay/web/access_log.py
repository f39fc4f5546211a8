"""One line a request, with the id that its answer carries in X-Request-Id; and every request is counted.

Both happen in the one place that each answer passes, whichever way it came: aiohttp's access logger.
"""

import asyncio
import contextlib
import secrets
import select
import time
from dataclasses import dataclass
from typing import Final, TextIO

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from overlay.web.context import REQUEST_ID, ROUTE
from overlay.web.forwarded import Network, Origin, believed
from overlay.web.log_format import LogForm, head, masked
from overlay.web.metrics import Metrics

_LOGGER: Final = "overlay.access"
# POSIX: what is written to a pipe at once and no longer than this is not mixed with what other workers write.
_AT_ONCE_BYTES: Final = select.PIPE_BUF
_LONGEST_PATH: Final = 1500


def new_request_id() -> str:
    """Name a request: 64 random bits in hex."""
    return secrets.token_hex(8)


class Lines:
    """Takes the lines of all connections; those of one turn of the loop are written together.

    In the shape of the process's other lines (`overlay.web.log_format`), but not through logging: a record per request
    took as long as the request itself.
    """

    def __init__(self, stream: TextIO, form: LogForm = LogForm.TEXT) -> None:
        self.form = form
        self._stream = stream
        self._waiting: list[str] = []

    def add(self, line: str) -> None:
        """Write the line, which lacks its head, when this turn of the loop has ended."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append(line)

    def _write(self) -> None:
        before = head(self.form, _LOGGER, "INFO", time.time())
        lines = [f"{before}{line}\n" for line in self._waiting]
        self._waiting.clear()
        # Nobody is served better when the log cannot be written: a full disk, a closed pipe.
        with contextlib.suppress(OSError, ValueError):
            for text in _pieces(lines):
                self._stream.write(text)
                self._stream.flush()


def _pieces(lines: list[str]) -> list[str]:
    """Join the lines to texts of at most `_AT_ONCE_BYTES`."""
    text = "".join(lines)
    if len(text.encode()) <= _AT_ONCE_BYTES:
        return [text]
    pieces, left = [""], _AT_ONCE_BYTES
    for line in lines:
        left -= len(line.encode())
        if left < 0:
            pieces.append("")
            left = _AT_ONCE_BYTES - len(line.encode())
        pieces[-1] += line
    return pieces


def _text(client: str, method: str, path: str, status: int, size_bytes: int, took_s: float, request_id: str) -> str:
    return f'{client} "{method} {path}" {status} {size_bytes} {took_s * 1000:.1f}ms {request_id}'


def _object(client: str, method: str, path: str, status: int, size_bytes: int, took_s: float, request_id: str) -> str:
    return (
        f'"client":{_quoted(client)},"method":"{method}","path":{_quoted(path)},"status":{status},'
        f'"bytes":{size_bytes},"ms":{took_s * 1000:.1f},"request_id":"{request_id}"}}'
    )


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


@dataclass(frozen=True, slots=True)
class Watch:
    """What the connections of one server share; without `lines` nothing is written."""

    metrics: Metrics
    lines: Lines | None
    proxies: tuple[Network, ...]


class AccessLog(AbstractAccessLogger):  # aiohttp's interface
    """Counts a request and writes its line: no header, no query string."""

    def __init__(self, watch: Watch, log_format: str) -> None:  # noqa: ARG002 - ours is the one above
        self._count = watch.metrics.answered
        self._lines = watch.lines
        self._line = _object if watch.lines is not None and watch.lines.form is LogForm.JSON else _text
        self._proxies = watch.proxies

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Take note of a request whose answer is out; `time` is in seconds."""
        self._count(request.get(ROUTE), request.method, response.status, time)
        if self._lines is None:
            return
        client = request.remote or "-"
        if self._proxies:
            client = believed(Origin(client, "", ""), request.headers, self._proxies).client
        # As it was sent, percent-encoded: decoded, a line break in it would forge a line here.
        path = request.raw_path.partition("?")[0]
        if not (path.isascii() and path.isprintable()):
            path = path.encode("unicode_escape").decode("ascii")
        if len(path) > _LONGEST_PATH:
            path = path[:_LONGEST_PATH] + "…"
        if "/s/" in path:
            path = masked(path)
        size_bytes, request_id = response.body_length, request.get(REQUEST_ID, "-")
        self._lines.add(self._line(client, request.method, path, response.status, size_bytes, time, request_id))
