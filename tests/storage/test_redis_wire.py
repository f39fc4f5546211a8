"""What connections do with the odd answers of scripted servers, which real ones give at rare moments."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import pytest

from overlay.domain.errors import LedgerUnavailable
from overlay.storage.redis_connections import RedisConnections
from overlay.storage.redis_url import parse

HERE: Final = "127.0.0.1"
THERE: Final = "127.0.0.2"
LIMIT_S: Final = 20.0
PATIENCE_S: Final = 5.0


@dataclass
class Node:
    """Answers each request as `answer` says; `left` counts the connections that its clients closed."""

    answer: Callable[[bytes], Awaitable[bytes]]
    left: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    port: int = 0
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        with contextlib.suppress(ConnectionError):
            while request := await reader.read(1 << 16):
                writer.write(await self.answer(request))
        self.left.release()
        writer.close()


@contextlib.asynccontextmanager
async def node(host: str, answer: Callable[[bytes], Awaitable[bytes]]) -> AsyncIterator[Node]:
    made = Node(answer)
    server = await asyncio.start_server(made.serve, host, 0)
    async with server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
    await asyncio.gather(*made.serving)  # their clients are closed by now


@contextlib.asynccontextmanager
async def connections(url: str) -> AsyncIterator[RedisConnections]:
    made = RedisConnections(parse(url), look_up_patience_s=PATIENCE_S)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield made
    finally:
        await made.close()


async def test_a_node_without_a_name_means_its_own_host_whoever_was_asked_since() -> None:
    """While one question waits for its answer, another one is sent to another host."""
    asked, may = asyncio.Event(), asyncio.Event()

    async def heir(request: bytes) -> bytes:
        return b"+OK\r\n$4\r\nheir\r\n" if b"ASKING" in request else b"-ERR\r\n"

    async def other(_request: bytes) -> bytes:
        return b"$5\r\nother\r\n"

    async with node(THERE, heir) as to, node(HERE, other) as elsewhere:

        async def source(request: bytes) -> bytes:
            if b"PING" in request:
                return b"+PONG\r\n"
            if b"second" in request:
                return b"-MOVED 5 %s:%d\r\n" % (HERE.encode(), elsewhere.port)
            asked.set()
            await may.wait()
            return b"-ASK 5 :%d\r\n" % to.port

        async with node(THERE, source) as first, connections(f"redis+cluster://{THERE}:{first.port}") as made:
            waiting = asyncio.ensure_future(made.exchange([("GET", "first")], patience_s=PATIENCE_S))
            await asked.wait()
            assert await made.exchange([("GET", "second")], patience_s=PATIENCE_S) == [b"other"]
            may.set()
            assert await waiting == [b"heir"]


async def test_a_replica_keeps_no_connection() -> None:
    """It was opened to ask for the role; nobody else would close it."""

    async def replica(_request: bytes) -> bytes:
        return b"*1\r\n$5\r\nslave\r\n"

    async with node(HERE, replica) as refused, connections(f"redis://{HERE}:{refused.port}") as made:
        with pytest.raises(LedgerUnavailable) as caught:
            await made.exchange([("GET", "a")], patience_s=PATIENCE_S)
        await refused.left.acquire()
        assert "it is a replica" in caught.value.why  # held till here: its traceback has the connection
