"""One line a request, with the id that its answer carries in X-Request-Id; and every request is counted.

Both happen in the one place that each answer passes, whichever way it came: aiohttp's access logger. It only notes what
was answered; the rest is done for all requests of one turn of the loop together, in a loop that stays in the
processor's caches: one by one between the requests, the same steps took about twice as long.
"""

import asyncio
import contextlib
import secrets
import select
import time
from collections.abc import Sequence
from typing import Final, TextIO

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from overlay.web.context import REQUEST_ID, ROUTE
from overlay.web.forwarded import Network, Origin, believed
from overlay.web.log_format import LogForm, head, masked
from overlay.web.metrics import NO_ROUTE, Metrics

_LOGGER: Final = "overlay.access"
# POSIX: what is written to a pipe at once and no longer than this is not mixed with what other workers write.
_AT_ONCE_BYTES: Final = select.PIPE_BUF
_LONGEST_PATH: Final = 1500


def new_request_id() -> str:
    """Name a request: 64 random bits in hex."""
    return secrets.token_hex(8)


class Lines:
    """Writes lines to a stream, in the shape of the process's other lines (`overlay.web.log_format`).

    Not through logging: a record per request took as long as the request itself.
    """

    def __init__(self, stream: TextIO, form: LogForm = LogForm.TEXT) -> None:
        self.form = form
        self._stream = stream

    def write(self, lines: Sequence[str]) -> None:
        """Write lines, which lack what stands before the message."""
        before = head(self.form, _LOGGER, "INFO", time.time())
        # Nobody is served better when the log cannot be written: a full disk, a closed pipe.
        with contextlib.suppress(OSError, ValueError):
            for text in _pieces([f"{before}{line}\n" for line in lines]):
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


class Watch:
    """What the connections of one server share: each answer is counted, and with `lines` a line is written of it."""

    def __init__(self, metrics: Metrics, lines: Lines | None, proxies: tuple[Network, ...]) -> None:
        self.answers: list[tuple[web.BaseRequest, web.StreamResponse, float]] = []
        """Of this turn of the loop: request, answer, and how many seconds it took."""
        self._count = metrics.answered
        self._lines = lines
        self._line = _object if lines is not None and lines.form is LogForm.JSON else _text
        self._proxies = proxies

    def take(self) -> None:
        """Take note of the answers and forget them; called at the end of the turn."""
        answers = self.answers.copy()
        self.answers.clear()
        for request, response, took_s in answers:
            self._count(request.get(ROUTE, NO_ROUTE), request.method, response.status, took_s)
        if self._lines is not None:
            self._lines.write([self._line_of(*answer) for answer in answers])

    def _line_of(self, request: web.BaseRequest, response: web.StreamResponse, took_s: float) -> str:
        client = request.remote or "-"
        if self._proxies:
            client = believed(Origin(client, "", ""), request.headers, self._proxies).client
        # As it was sent, percent-encoded: decoded, a line break in it would forge a line here.
        path = request.raw_path.partition("?")[0]
        if not (path.isascii() and path.isprintable()):
            path = path.encode("unicode_escape").decode("ascii")
        if len(path) > _LONGEST_PATH:
            path = path[:_LONGEST_PATH] + "…"
        path = masked(path)
        size_bytes, request_id = response.body_length, request.get(REQUEST_ID, "-")
        return self._line(client, request.method, path, response.status, size_bytes, took_s, request_id)


class AccessLog(AbstractAccessLogger):  # aiohttp's interface
    """Notes each request whose answer is out: no header, no query string."""

    def __init__(self, watch: Watch, log_format: str) -> None:  # noqa: ARG002 - ours is `_text` and `_object`
        self._watch = watch

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Note the answer, which took `time` seconds."""
        answers = self._watch.answers
        if not answers:
            asyncio.get_running_loop().call_soon(self._watch.take)
        answers.append((request, response, time))
