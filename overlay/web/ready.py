"""Answers that are ready to be sent: the head is formed once per page, not once per request.

aiohttp's Response copies, completes and serializes a page's headers for every request. Here all lines but Date,
X-Request-Id and Connection are bytes already; status line, headers and a small body are one write.
"""

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, web

from overlay import __version__
from overlay.web.context import LAST, REQUEST_ID

SERVER: Final = f"overlay/{__version__}"

_ONE_WRITE_BYTES: Final = 64 * 1024  # beyond, copying the body costs more than handing it over apart


def head_of(status: HTTPStatus, headers: Mapping[str, str]) -> bytes:
    """Form status line and headers, without the empty line at their end. Raises ValueError for control characters."""
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    for line in (*lines, f"Server: {SERVER}"):
        if not line.isprintable():
            raise ValueError(f"A header holds a control character: {line!r}")
    return "\r\n".join((*lines, f"Server: {SERVER}", "")).encode()


class Ready(web.StreamResponse):  # aiohttp's interface for answers that send themselves, as its FileResponse does
    """Sends a head of `head_of`, completed, and a body; `head` has the Content-Length unless the status forbids it."""

    def __init__(self, status: HTTPStatus, head: bytes, body: bytes = b"") -> None:
        super().__init__(status=status)
        self._head = head
        self._content = body
        self._sent_bytes = 0
        self._alive: bool | None = None

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open; known once prepared."""
        return self._alive

    @property
    def body_length(self) -> int:
        """The bytes sent, as aiohttp counts them: with the head."""
        return self._sent_bytes

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send everything. The `on_response_prepare` signal stays silent: what `app.sign` adds is in the head."""
        self._alive = request.keep_alive and not request.get(LAST, False)
        writer = request.writer
        head = self._head + _rest(request, alive=self._alive)
        if request.method == "HEAD" or not self._content:
            await writer.write_eof(head)
        elif len(self._content) < _ONE_WRITE_BYTES:
            await writer.write_eof(head + self._content)
        else:
            await writer.write(head)
            await writer.write_eof(self._content)
        self._sent_bytes = writer.output_size

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is sent."""


def _rest(request: web.BaseRequest, *, alive: bool) -> bytes:
    """Form the lines that no two answers share, and the empty line."""
    # The wall clock, as in the Date of every other answer.
    lines = f"Date: {_date(int(time.time()))}\r\nX-Request-Id: {request.get(REQUEST_ID, '')}\r\n"
    if request.version == HttpVersion11:
        if not alive:
            lines += "Connection: close\r\n"
    elif alive:
        lines += "Connection: keep-alive\r\n"
    return (lines + "\r\n").encode()


@lru_cache(maxsize=1)
def _date(now_s: int) -> str:
    return formatdate(now_s, usegmt=True)
