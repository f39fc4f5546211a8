"""Answers that are ready to be sent: the head is formed once per page, not once per request.

aiohttp's Response copies, completes and serializes a page's headers for every request. Here all lines but Date,
X-Request-Id and Connection are bytes already, and everything goes to the transport at once (from Python 3.12 on without
a copy of the body).
"""

import sys
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from aiohttp import ClientConnectionResetError, HttpVersion11, web

from overlay import __version__

SERVER: Final = f"overlay/{__version__}"

_COPIED_BYTES: Final = 8 * 1024  # a body up to this is copied in less time than a second buffer takes
# CVE-2024-12254: there writelines lets a client that reads slowly fill the memory.
_WRITELINES_FLAWED: Final = (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2)


def head_of(status: HTTPStatus, headers: Mapping[str, str]) -> bytes:
    """Form status line and headers, without the empty line at their end. Raises ValueError for control characters."""
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    for line in (*lines, f"Server: {SERVER}"):
        if not line.isprintable():
            raise ValueError(f"A header holds a control character: {line!r}")
    return "\r\n".join((*lines, f"Server: {SERVER}", "")).encode()


class Ready(web.StreamResponse):  # aiohttp's interface for answers that send themselves, as its FileResponse does
    """Sends a head of `head_of`, completed, and a body; `head` has the Content-Length unless the status forbids it.

    It is signed before it is sent.
    """

    route = request_id = ""
    """As in the request (`context.ROUTE`, `context.REQUEST_ID`); kept here, where the access log finds it faster."""
    _alive: bool | None = None
    _last = False
    _sent_bytes = 0

    def __init__(self, status: int, head: bytes, body: bytes = b"") -> None:
        super().__init__(status=status)
        self._head = head
        self._content = body

    def sign(self, route: str, request_id: str, *, last: bool) -> None:
        """Say which request this answers, and whether it is the last answer on its connection."""
        self.route = route
        self.request_id = request_id
        self._last = last

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
        alive = self._alive = request.keep_alive and not self._last
        writer, transport = request.writer, request.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("The client has hung up.")
        connection = _connection(alive=alive, persistent=request.version >= HttpVersion11)
        # The wall clock, as in the Date of every other answer.
        rest = f"Date: {_date(int(time.time()))}\r\nX-Request-Id: {self.request_id}\r\n{connection}\r\n"
        head, body = self._head + rest.encode(), b"" if request.method == "HEAD" else self._content
        self._sent_bytes = writer.output_size = len(head) + len(body)
        # Not through the writer: each of its writes costs as much as forming the head does.
        if len(body) < _COPIED_BYTES or _WRITELINES_FLAWED:
            transport.write(head + body)
        else:
            transport.writelines((head, body))  # one system call
        await writer.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is sent."""


def _connection(*, alive: bool, persistent: bool) -> str:
    """Form the Connection line where it says other than the version of HTTP does."""
    if persistent == alive:
        return ""
    return "Connection: keep-alive\r\n" if alive else "Connection: close\r\n"


@lru_cache(maxsize=1)
def _date(now_s: int) -> str:
    return formatdate(now_s, usegmt=True)
