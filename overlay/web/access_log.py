"""One line a request, with the id that its answer carries in X-Request-Id; and every request is counted.

Both happen in the one place that each answer passes, whichever way it came: aiohttp's access logger. It counts at once
but only notes what the line will say. The lines are formed and written for many requests together, after `LAG_S` at
the latest, in a loop that stays in the processor's caches: one by one between the requests, the same steps took twice
as long, and kept requests and answers in memory until then. The end of the server writes what is noted; a process that
is killed loses that.
"""

import asyncio
import contextlib
import re
import secrets
import select
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final, TextIO, TypeAlias

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from overlay.web.context import REQUEST_ID, ROUTE
from overlay.web.forwarded import Network, Origin, believed
from overlay.web.log_format import LogForm, head, masked
from overlay.web.metrics import NO_ROUTE, Metrics
from overlay.web.ready import Ready

LAG_S: Final = 0.1
"""The longest time from an answer to its line."""

_LOGGER: Final = "overlay.access"
_TOGETHER: Final = 64
# POSIX: what is written to a pipe at once and no longer than this is not mixed with what other workers write.
_AT_ONCE_BYTES: Final = select.PIPE_BUF
_LONGEST_PATH: Final = 1500
_LONGEST_REMEMBERED: Final = 200
# RFC 9112 §3.2.2: a proxy's clients send a whole URL, where a credential may stand before the host.
_USER: Final = re.compile(r"(?<=://)[^/]*@|^[^/]*@")
_IDS_DRAWN: Final = 512
_ID_BYTES: Final = 8

_Note: TypeAlias = tuple[float, str, str, str, int, int, float, str]
"""When (seconds since the epoch), client, method, raw path, status, bytes, seconds that it took, request id."""


def request_ids() -> Iterator[str]:
    """Name requests, without end: 64 random bits in hex each. The system is asked for those of many at once."""
    digits = 2 * _ID_BYTES
    while True:
        drawn = secrets.token_hex(_ID_BYTES * _IDS_DRAWN)
        yield from [drawn[start : start + digits] for start in range(0, len(drawn), digits)]


class Lines:
    """Writes lines to a stream, in the shape of the process's other lines (`overlay.web.log_format`).

    Not through logging: a record per request took as long as the request itself.
    """

    def __init__(self, stream: TextIO, form: LogForm = LogForm.TEXT) -> None:
        self._stream = stream
        self._line: Callable[[_Note], str] = _object if form is LogForm.JSON else _text
        self._notes: list[_Note] = []
        self._due: asyncio.TimerHandle | None = None

    def add(self, note: _Note) -> None:
        """Take a line to be written soon."""
        notes = self._notes
        notes.append(note)
        if len(notes) >= _TOGETHER:
            self.flush()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(LAG_S, self.flush)

    def flush(self) -> None:
        """Write what is noted."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        notes, self._notes = self._notes, []
        for text in _pieces([self._line(note) for note in notes]):
            # Nobody is served better when the log cannot be written: a full disk, a closed pipe.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()


def _pieces(lines: Sequence[str]) -> Iterator[str]:
    """Join the lines to texts of at most `_AT_ONCE_BYTES`."""
    piece: list[str] = []
    left = _AT_ONCE_BYTES
    for line in lines:
        size_bytes = len(line) if line.isascii() else len(line.encode())
        if size_bytes > left and piece:
            yield "".join(piece)
            piece, left = [], _AT_ONCE_BYTES
        piece.append(line)
        left -= size_bytes
    if piece:
        yield "".join(piece)


def _text(note: _Note) -> str:
    at_s, client, method, path, status, size_bytes, took_s, request_id = note
    before, shown = _before_text(int(at_s * 1000)), _shown(path)
    return f'{before}{client} "{method} {shown}" {status} {size_bytes} {took_s * 1000:.1f}ms {request_id}\n'


def _object(note: _Note) -> str:
    at_s, client, method, path, status, size_bytes, took_s, request_id = note
    before, shown = _before_object(int(at_s * 1000)), _shown(path)
    return (
        f'{before}"client":{_quoted(client)},"method":"{method}",'
        f'"path":{_quoted(shown)},"status":{status},"bytes":{size_bytes},"ms":{took_s * 1000:.1f},'
        f'"request_id":"{request_id}"}}\n'
    )


@lru_cache(maxsize=4)  # there are several lines a millisecond when it matters
def _before_text(at_ms: int) -> str:
    return head(LogForm.TEXT, _LOGGER, "INFO", at_ms)


@lru_cache(maxsize=4)
def _before_object(at_ms: int) -> str:
    return head(LogForm.JSON, _LOGGER, "INFO", at_ms)


def _quoted(text: str) -> str:
    return _quoted_once(text) if len(text) <= _LONGEST_REMEMBERED else msgspec.json.encode(text).decode()


@lru_cache(maxsize=4096)
def _quoted_once(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _shown(raw_path: str) -> str:
    """Return the path as the log shows it: as it was sent, without the query."""
    path = raw_path.partition("?")[0]
    return _shown_once(path) if len(path) <= _LONGEST_REMEMBERED else _fit(path)


@lru_cache(maxsize=4096)
def _shown_once(path: str) -> str:
    return _fit(path)


def _fit(path: str) -> str:
    # Percent-encoded: decoded, a line break in it would forge a line here.
    if not (path.isascii() and path.isprintable()):
        path = path.encode("unicode_escape").decode("ascii")
    if not path.startswith("/"):
        path = _USER.sub("", path)
    if len(path) > _LONGEST_PATH:
        path = path[:_LONGEST_PATH] + "…"
    return masked(path)


class Watch:
    """What the connections of one server share: each answer is counted, and with `lines` a line is written of it."""

    def __init__(self, metrics: Metrics, lines: Lines | None, proxies: tuple[Network, ...]) -> None:
        self._count = metrics.answered
        self._lines = lines
        self._proxies = proxies

    def note(self, request: web.BaseRequest, response: web.StreamResponse, took_s: float) -> None:
        """Take note of an answer that took `took_s` seconds."""
        if isinstance(response, Ready):  # nearly all are
            route, request_id = response.route, response.request_id
        else:
            route, request_id = request.get(ROUTE, NO_ROUTE), request.get(REQUEST_ID, "-")
        method, status = request.method, response.status
        self._count(route, method, status, took_s)
        if self._lines is not None:
            client = request.remote or "-"
            if self._proxies:
                client = believed(Origin(client, "", ""), request.headers, self._proxies).client
            size_bytes = response.body_length
            self._lines.add((time.time(), client, method, request.raw_path, status, size_bytes, took_s, request_id))


class AccessLog(AbstractAccessLogger):  # aiohttp's interface
    """Notes each request whose answer is out: no header, no query string."""

    def __init__(self, watch: Watch, log_format: str) -> None:  # noqa: ARG002 - ours is `_text` and `_object`
        self._note = watch.note

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Note the answer, which took `time` seconds."""
        self._note(request, response, time)
