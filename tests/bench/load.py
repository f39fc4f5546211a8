"""Makes load: wrk where it is installed, else raw sockets on asyncio; and single requests over one connection."""

import asyncio
import http.client
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tests.bench.processes import Server

CONNECTIONS = 32
_PIECE_BYTES = 1 << 20
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_BAD = re.compile(r"Non-2xx or 3xx responses: \d+|Socket errors:.*")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """One keep-alive connection; `with` closes it."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        self._buffer = bytearray(_PIECE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        self._connection.request("GET", path, headers=dict(headers))
        response = self._connection.getresponse()
        answer = Answer(response.status, dict(response.headers), response.read())
        assert answer.status in {200, 304}, f"{path}: {answer.status} {answer.body[:200]!r}"
        return answer

    def drain(self, path: str, headers: Mapping[str, str]) -> float:
        """GET and drop the body; return the seconds it took."""
        started = time.perf_counter()
        self._connection.request("GET", path, headers=dict(headers))
        response = self._connection.getresponse()
        while response.readinto(self._buffer):
            pass
        assert response.status == 200
        return time.perf_counter() - started

    def post(self, path: str, headers: Mapping[str, str], body: bytes) -> float:
        """POST and return the seconds it took."""
        started = time.perf_counter()
        self._connection.request("POST", path, body=body, headers=dict(headers))
        response = self._connection.getresponse()
        said = response.read()
        assert response.status == 200, said
        return time.perf_counter() - started


def rate(server: Server, path: str, headers: Mapping[str, str], seconds: float) -> float:
    """Ask for one page over 32 connections as fast as it goes; return answers per second of the server's CPU.

    The server is what limits: on a quiet machine this is the rate itself. On a busy one it stays what it is, while
    the rate tells more of the neighbours.
    """
    before_s = server.cpu_s
    answered = _answered(server, path, headers, seconds)
    return answered / (server.cpu_s - before_s)


def _answered(server: Server, path: str, headers: Mapping[str, str], seconds: float) -> int:
    if shutil.which("wrk") is None:
        return asyncio.run(_asked(server, path, headers, seconds))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(round(seconds), 1)}s", "--timeout", "60s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    said = subprocess.run([*command, server.url + path], capture_output=True, text=True, check=True).stdout
    assert not (bad := _BAD.search(said)), bad
    found = re.search(r"(\d+) requests in", said)
    assert found is not None, said
    return int(found[1])


async def _asked(server: Server, path: str, headers: Mapping[str, str], seconds: float) -> int:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode()
    loop = asyncio.get_running_loop()
    asking = [
        (await loop.create_connection(lambda: _Asking(request), "127.0.0.1", server.port))[1]
        for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(seconds)
    for one in asking:
        one.close()
    return sum(one.answered for one in asking)


class _Asking(asyncio.Protocol):
    """Sends the same bytes again whenever the answer is complete."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._head = b""
        self._left = 0
        self.answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._left == 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            assert self._head[9:12] in {b"200", b"304"}, self._head[:80]
            length = _CONTENT_LENGTH.search(self._head, 0, end + 2)
            self._left = end + 4 + (int(length[1]) if length is not None else 0) - len(self._head)
            self._head = b""
        else:
            self._left -= len(data)
        if self._left == 0:
            self.answered += 1
            self._transport.write(self._request)

    def close(self) -> None:
        self._transport.abort()
