"""Connections to the one server that holds an index.

All keys of an index share a hash tag, so whatever the form, one primary holds them, and the forms differ only in how
it is found: a single server is known, Sentinels are asked for it, and every node of a cluster names it (`MOVED`).
An answer takes at most `patience_s`, all attempts, look-ups and waiting for a free connection included; redis-py's own
clients retry for many seconds. Lost while it was idle, a connection is replaced and the commands are sent once more:
every command that is sent here may be repeated. After any failure, silence above all (a host that vanished closes no
connection), the primary is looked for anew.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias, cast

from hiredis import pack_command
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    ConnectionError,  # noqa: A004 - its name
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from overlay.domain.errors import LedgerUnavailable
from overlay.storage.redis_failures import Causes, NoPrimary, words
from overlay.storage.redis_url import Address, Form, Login, RedisTarget

Reply: TypeAlias = "bytes | int | list[Reply] | ResponseError | None"
Command: TypeAlias = "tuple[str | bytes | int, ...]"
AnyConnection: TypeAlias = "Connection | UnixDomainSocketConnection"

# A lost idle connection, a primary elsewhere, and a cluster's slot on the move: each may cost one attempt.
_ATTEMPTS: Final = 4
_CONNECTIONS: Final = 32
_HARMLESS: Final = {"NOSCRIPT", "NOPERM"}
_FAILURES: Final = (RedisError, OSError, TimeoutError)
_SILENT: Final = "What is staged is unknown: the ledger's Redis does not serve. Try again in a moment."


class RedisConnections:
    """Sends commands to the primary, over at most `_CONNECTIONS` connections; the caller closes it.

    Who is asked for the primary has `look_up_patience_s` to answer, then the next one is asked.
    """

    def __init__(self, target: RedisTarget, *, look_up_patience_s: float) -> None:
        self._target = target
        self._look_up_patience_s = look_up_patience_s
        self._seeds = list(target.addresses)
        self._address: Address | None = None
        self._asked: Address | None = None
        self._idle: list[AnyConnection] = []
        self._generation = 0
        self._looking: asyncio.Task[Address] | None = None
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._causes = Causes(str(target))

    async def exchange(self, commands: Sequence[Command], *, patience_s: float) -> list[Reply]:
        """Send commands in one round trip and return their replies, errors among them.

        Raises LedgerUnavailable; then the commands may have been done, now or later.
        """
        generation = self._generation
        try:
            async with asyncio.timeout(patience_s), self._free:
                replies = await self._answered(commands)
        except _FAILURES as err:
            await self._forget(generation)
            found = self._target.form is not Form.SINGLE and self._asked is not None
            raise self.failed(_SILENT, err, detail=f"last found at {self._asked}" if found else "") from err
        self._causes.answered(at_s=time.monotonic())
        return replies

    def failed(self, sentence: str, err: BaseException, *, detail: str = "") -> LedgerUnavailable:
        """Return the error with this sentence, and say in the log why. Details are for the log, as they are."""
        return LedgerUnavailable(sentence, why=self._causes.failed(words(err), detail=detail, at_s=time.monotonic()))

    async def close(self) -> None:
        """Close the connections; calling `exchange` later opens new ones."""
        if self._looking is not None:
            self._looking.cancel()
        await self._forget(self._generation)

    async def _answered(self, commands: Sequence[Command]) -> list[Reply]:
        for _ in range(_ATTEMPTS):
            generation, reused = self._generation, bool(self._idle)
            try:
                replies = await self._once(commands, generation)
            except ConnectionError:
                await self._forget(generation)
                if not reused:
                    raise
                continue
            moved = next((reply for reply in replies if isinstance(reply, MovedError)), None)
            if moved is None:
                return replies
            await self._move(moved, generation)
        raise NoPrimary("its nodes name each other")

    async def _once(self, commands: Sequence[Command], generation: int) -> list[Reply]:
        connection = self._idle.pop() if self._idle else await self._connected()
        try:
            # Whether it still answers need not be asked first: `exchange` asks anew.
            await connection.send_packed_command([_packed(command) for command in commands], check_health=False)
            replies = [await _reply(connection) for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)  # an answer may still come: nobody may take it for theirs
            raise
        codes = {reply.status_code for reply in replies if isinstance(reply, ResponseError)}
        if not codes <= _HARMLESS:
            await self._forget(generation)  # READONLY and its like: the primary is another one by now
        if generation == self._generation:
            self._idle.append(connection)
        else:
            await connection.disconnect(nowait=True)
        return replies

    async def _forget(self, generation: int) -> None:
        """Close what is idle, and look for the primary anew; unless somebody did since that generation."""
        if generation != self._generation:
            return
        self._address = None
        self._generation += 1
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)

    async def _move(self, moved: MovedError, generation: int) -> None:
        asked = self._address
        await self._forget(generation)
        # Some servers do not know their own name: then the port is another one of the host that was asked.
        self._address = Address(moved.host or (asked.host if asked is not None else ""), moved.port)

    async def _connected(self) -> AnyConnection:
        if self._address is None:
            self._address = await self._look()
        self._asked = self._address
        connection = await self._connect(self._address)
        if self._target.form is Form.SENTINEL:
            await _require_primary(connection)
        return connection

    async def _look(self) -> Address:
        """Find the primary; one look serves all who want to know."""
        if self._target.form is Form.SINGLE:
            return self._target.addresses[0]
        if self._looking is None or self._looking.done():
            ask = self._ask_sentinel if self._target.form is Form.SENTINEL else self._reach
            self._looking = asyncio.get_running_loop().create_task(self._first_answer(ask))
        return await asyncio.shield(self._looking)

    async def _first_answer(self, ask: Callable[[Address], Awaitable[Address]]) -> Address:
        reasons = []
        for address in tuple(self._seeds):
            try:
                async with asyncio.timeout(self._look_up_patience_s):
                    return await ask(address)
            except _FAILURES as err:
                reasons.append(f"{address}: {words(err)}")
            self._seeds.remove(address)
            self._seeds.append(address)
        raise NoPrimary(f"nobody leads to the primary; {'; '.join(sorted(reasons))}")

    async def _reach(self, node: Address) -> Address:
        """Any node that answers will do, whatever it answers: it names the one that has the keys.

        A connection alone says nothing: for a process that hangs the kernel accepts it.
        """
        connection = await self._connect(node)
        try:
            await connection.send_command("PING")
            await _reply(connection)
        finally:
            await connection.disconnect(nowait=True)
        return node

    async def _ask_sentinel(self, sentinel: Address) -> Address:
        connection = _make(self._target, sentinel, self._target.sentinel_login, db=0)
        try:
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._target.service)
            reply = await _reply(connection)
        finally:
            await connection.disconnect(nowait=True)
        if isinstance(reply, ResponseError):
            raise reply
        if reply is None:
            raise NoPrimary(f"it knows no {self._target.service!r}")
        host, port = cast("tuple[bytes, bytes]", reply)
        return Address(host.decode(), int(port))

    async def _connect(self, address: Address) -> AnyConnection:
        connection = _make(self._target, address, self._target.login, db=self._target.db)
        try:
            await connection.connect_check_health()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


def _packed(command: Command) -> bytes:
    """Pack in C: redis-py's own packing of a batch takes longer than sending it."""
    packed: bytes = pack_command(cast("tuple[str]", command))  # its stub knows one element only
    return packed


async def _reply(connection: AnyConnection) -> Reply:
    try:
        return cast("Reply", await connection.read_response())
    except ResponseError as err:
        return err


async def _require_primary(connection: AnyConnection) -> None:
    await connection.send_command("ROLE")
    reply = await _reply(connection)
    if isinstance(reply, list) and reply[0] == b"master":
        return
    await connection.disconnect(nowait=True)
    if isinstance(reply, NoPermissionError):  # a replica, which answers what was true a while ago, could not be told
        raise reply
    raise NoPrimary("the Sentinels name a server that is no primary (yet)")


def _make(target: RedisTarget, address: Address, login: Login, *, db: int) -> AnyConnection:
    """Form a connection that is not yet open. Without timeouts of its own: `exchange` has the one that counts."""
    username, password = login.username or None, login.password or None
    if address.socket_path:
        return UnixDomainSocketConnection(
            path=address.socket_path,
            db=db,
            username=username,
            password=password,
            protocol=2,
            driver_info=None,
            socket_timeout=None,
        )
    if target.tls:
        return SSLConnection(
            host=address.host,
            port=address.port,
            db=db,
            username=username,
            password=password,
            protocol=2,
            driver_info=None,
            socket_timeout=None,
            ssl_ca_certs=target.ca_file or None,
        )
    return Connection(
        host=address.host,
        port=address.port,
        db=db,
        username=username,
        password=password,
        protocol=2,
        driver_info=None,
        socket_timeout=None,
    )
