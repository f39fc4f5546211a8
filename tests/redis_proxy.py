"""A server between the ledger and Redis: counts what is sent, loses answers, or holds them back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

HOST = "127.0.0.1"
_CHUNK = 1 << 20


@dataclass
class Proxy:
    """Forwards to Redis on `target`."""

    target: int
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    answered_bytes: list[int] = field(default_factory=list)
    """What was answered after each request, while one connection is used."""
    lose: bytes = b""
    """The answer to the next request that holds these bytes is lost, with its connection."""
    hold: bytes = b""
    """The answer to the next request that holds these bytes waits for `released`."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def count(self, word: bytes) -> int:
        return sum(request.count(word) for request in self.requests)

    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(HOST, self.target)
        both = {writer, requests}
        self._writers |= both
        faults: list[str] = []
        forth = asyncio.ensure_future(self._forward_requests(reader, requests, faults))
        with contextlib.suppress(ConnectionError):
            await self._forward_answers(answers, writer, faults)
        for one in both:
            one.close()
        with contextlib.suppress(ConnectionError):
            await forth
        self._writers -= both

    def close(self) -> None:
        self.released.set()
        for writer in self._writers:
            writer.close()

    async def _forward_requests(
        self, reader: asyncio.StreamReader, requests: asyncio.StreamWriter, faults: list[str]
    ) -> None:
        while request := await reader.read(_CHUNK):
            self.requests.append(request)
            self.answered_bytes.append(0)
            if self.lose and self.lose in request:
                self.lose = b""
                faults.append("lose")
            if self.hold and self.hold in request:
                self.hold = b""
                faults.append("hold")
            requests.write(request)
        requests.close()

    async def _forward_answers(
        self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: list[str]
    ) -> None:
        while answer := await answers.read(_CHUNK):
            self.answered_bytes[-1] += len(answer)
            fault = faults.pop() if faults else ""
            if fault == "lose":
                return
            if fault == "hold":
                self.held.set()
                await self.released.wait()
            writer.write(answer)


@contextlib.asynccontextmanager
async def proxied(target: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        await proxy.serve(reader, writer)

    server = await asyncio.start_server(serve, HOST, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
        await asyncio.gather(*serving)
