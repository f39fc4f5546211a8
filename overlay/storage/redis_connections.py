"""Connections to the one server that holds an index.

All keys of an index share a hash tag, so whatever the form, one primary holds them, and the forms differ only in how
it is found (`redis_primary`). In a cluster the node that was found names the one that has the keys (`MOVED`). While the
slot of the keys is on the move, keys that have gone are asked for where they went, by the whole exchange (`ASK`). Keys
that are parted (`TRYAGAIN`: some have gone, or some do not exist) nobody answers for: the exchange is sent again after
`_PAUSE_S`, while the patience lasts.
An answer takes at most `patience_s`, all attempts, look-ups and waiting for a free connection included; redis-py's own
clients retry for many seconds. Lost while it was idle, a connection is replaced and the commands are sent once more:
every command that is sent here may be repeated. After any failure, silence above all (a host that vanished closes no
connection), the primary is looked for anew; but not by who waited for a connection for most of its time: that says
nothing of the server.

A replica answers what was true a while ago, so a new connection asks for the role of a server that does not tell by
itself (the nodes of a cluster do: a replica names its primary). Who notices later that it became one says so (`left`).
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from redis.exceptions import (
    AskError,
    ConnectionError,  # noqa: A004 - its name
    MovedError,
    NoPermissionError,
    ResponseError,
    TryAgainError,
)

from overlay.caching.patience import Patience
from overlay.domain.errors import LedgerUnavailable
from overlay.storage.redis_failures import Causes, NoPrimary, words
from overlay.storage.redis_primary import PrimarySearch
from overlay.storage.redis_sockets import FAILURES, AnyConnection, Command, Reply, opened, replies_to, reply_to
from overlay.storage.redis_url import Address, Form, RedisTarget

# A lost idle connection, a primary elsewhere, and a slot that moved: each may cost one attempt.
_ATTEMPTS: Final = 4
_CONNECTIONS: Final = 32
_PAUSE_S: Final = 0.05  # a batch of keys is parted for about as long as it takes to send it
_HARMLESS: Final = {"NOSCRIPT", "NOPERM", "MOVED", "ASK", "TRYAGAIN"}
_SILENT: Final = "What is staged is unknown: the ledger's Redis does not serve. Try again in a moment."
_BUSY: Final = "What is staged is unknown: too many wait for the ledger's Redis at once. Try again in a moment."
_ALL_IN_USE: Final = f"all {_CONNECTIONS} connections to it were in use, and none became free soon enough"
_DEMOTED: Final = "the Sentinels name a server that is no primary (yet)"
_REPLICA: Final = (
    "it is a replica, which answers what was true a while ago; let [ledger] url name the primary, or use "
    "redis+sentinel:// or redis+cluster://, which find it"
)


@dataclass(frozen=True, slots=True)
class _Line:
    """A connection, and where it leads."""

    connection: AnyConnection
    address: Address


@dataclass(slots=True)
class _Course:
    """How far an exchange came."""

    generation: int | None = None
    """In which it asked last; None while it waits for its turn."""
    began_s: float = 0.0
    """When its turn came, by the monotonic clock."""
    parted: AskError | TryAgainError | None = None
    """Why it is sent again, where its keys are parted."""

    def tells(self, patience_s: float) -> bool:
        """Say whether its silence says anything of the server: it was given the better part of the time."""
        return self.generation is not None and time.monotonic() - self.began_s > patience_s / 2


class RedisConnections:
    """Sends commands to the primary, over at most `_CONNECTIONS` connections; the caller closes it.

    Who is asked for the primary has `look_up_patience_s` to answer, then the next one is asked.
    """

    def __init__(self, target: RedisTarget, *, look_up_patience_s: float) -> None:
        self._target = target
        self._search = PrimarySearch(target, patience_s=look_up_patience_s)
        self._address: Address | None = None
        self._asked: Address | None = None
        self._idle: list[_Line] = []
        self._generation = 0
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._causes = Causes(str(target))

    async def exchange(self, commands: Sequence[Command], *, patience_s: float) -> list[Reply]:
        """Send commands in one round trip and return their replies, errors among them.

        Raises LedgerUnavailable; then the commands may have been done, now or later.
        """
        course = _Course()
        ends_at_s = time.monotonic() + patience_s
        try:
            async with Patience(patience_s), self._free:
                replies = await self._answered(commands, ends_at_s, course)
        except FAILURES as err:
            if isinstance(err, TimeoutError) and not course.tells(patience_s):
                raise LedgerUnavailable(_BUSY, why=self._causes.failed(_ALL_IN_USE, at_s=time.monotonic())) from err
            if isinstance(err, TimeoutError) and course.parted is not None:  # it answers; the time is up
                raise self.failed(_SILENT, course.parted) from err
            if course.generation is not None:
                await self._give_up(course.generation)
            found = self._target.form is not Form.SINGLE and self._asked is not None
            raise self.failed(_SILENT, err, detail=f"last found at {self._asked}" if found else "") from err
        self._causes.answered(at_s=time.monotonic())
        return replies

    def failed(self, sentence: str, err: BaseException, *, detail: str = "") -> LedgerUnavailable:
        """Return the error with this sentence, and say in the log why. Details are for the log, as they are."""
        return LedgerUnavailable(sentence, why=self._causes.failed(words(err), detail=detail, at_s=time.monotonic()))

    async def left(self) -> LedgerUnavailable:
        """Look for the primary anew, because a replica answered; return the error that says so."""
        await self._give_up(self._generation)
        return self.failed(_SILENT, NoPrimary(_REPLICA if self._target.form is Form.SINGLE else _DEMOTED))

    async def close(self) -> None:
        """Close the connections; calling `exchange` later opens new ones."""
        await self._search.close()
        await self._forget(self._generation)

    async def _answered(self, commands: Sequence[Command], ends_at_s: float, course: _Course) -> list[Reply]:
        attempts, course.began_s = 0, time.monotonic()
        while attempts < _ATTEMPTS:
            generation, reused = self._generation, bool(self._idle)
            course.generation = generation
            try:
                asked, replies = await self._once(commands, generation)
            except ConnectionError:
                if not reused:
                    await self._give_up(generation)
                    raise
                await self._forget(generation)
                attempts += 1
                continue
            redirection = _redirection(replies)
            if isinstance(redirection, MovedError):
                await self._move(_named(redirection, asked), generation)
                course.parted = None
                attempts += 1
                continue
            if isinstance(redirection, AskError):
                replies = await self._ask(commands, _named(redirection, asked))
                redirection = _redirection(replies)
            if redirection is None or time.monotonic() + _PAUSE_S > ends_at_s:
                return replies
            course.parted = redirection
            await asyncio.sleep(_PAUSE_S)
        raise NoPrimary("its nodes name each other")

    async def _once(self, commands: Sequence[Command], generation: int) -> tuple[Address, list[Reply]]:
        """Ask the primary, as far as it is known; say who that was."""
        line = self._idle.pop() if self._idle else await self._connected(generation)
        try:
            replies = await replies_to(line.connection, commands)
        except BaseException:
            await line.connection.disconnect(nowait=True)  # an answer may still come: nobody may take it for theirs
            raise
        codes = {reply.status_code for reply in replies if isinstance(reply, ResponseError)}
        if not codes <= _HARMLESS:
            await self._give_up(generation)  # READONLY and its like: the primary is another one by now
        if generation == self._generation:
            self._idle.append(line)
        else:
            await line.connection.disconnect(nowait=True)
        return line.address, replies

    async def _ask(self, commands: Sequence[Command], heir: Address) -> list[Reply]:
        """Send commands to the node that a slot is on its way to; ASKING allows the one command that follows it."""
        connection = await opened(self._target, heir)
        try:
            allowed: list[Command] = [each for command in commands for each in (("ASKING",), command)]
            replies = await replies_to(connection, allowed)
        finally:
            await connection.disconnect(nowait=True)
        if isinstance(replies[0], ResponseError):
            raise replies[0]
        return replies[1::2]

    async def _give_up(self, generation: int) -> None:
        """Look for the primary anew, and ask others first; unless somebody did since that generation."""
        if generation == self._generation:
            self._search.misled()
        await self._forget(generation)

    async def _forget(self, generation: int) -> None:
        """Close what is idle, and look for the primary anew; unless somebody did since that generation."""
        if generation != self._generation:
            return
        self._address = None
        self._generation += 1
        idle, self._idle = self._idle, []
        for line in idle:
            await line.connection.disconnect(nowait=True)

    async def _move(self, address: Address, generation: int) -> None:
        if generation != self._generation:
            return
        await self._forget(generation)
        self._address = address

    async def _connected(self, generation: int) -> _Line:
        address = self._address or await self._search.find()
        if generation == self._generation:
            self._address = address
        self._asked = address
        connection = await opened(self._target, address)
        try:
            if self._target.form is not Form.CLUSTER:
                await _require_primary(connection, self._target.form)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return _Line(connection, address)


def _redirection(replies: Sequence[Reply]) -> AskError | TryAgainError | None:
    """Return what says that the keys are elsewhere. MovedError is an AskError."""
    return next((reply for reply in replies if isinstance(reply, AskError | TryAgainError)), None)


def _named(redirection: AskError, asked: Address) -> Address:
    """Return where the one that was asked sends; some do not know their own name: then it is another port there."""
    return Address(redirection.host or asked.host, redirection.port)


async def _require_primary(connection: AnyConnection, form: Form) -> None:
    """Refuse a replica. A single server that does not tell its role is the one that its operator named."""
    reply = await reply_to(connection, ("ROLE",))
    role = reply[0] if isinstance(reply, list) else None
    if form is Form.SINGLE and role == b"slave":
        raise NoPrimary(_REPLICA)
    if form is Form.SINGLE or role == b"master":
        return
    if isinstance(reply, NoPermissionError):
        raise reply
    raise NoPrimary(_DEMOTED)
