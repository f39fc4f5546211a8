"""Run the ledger's scripts: by their hash, with replicas awaited, and with the answers that mean "not now" raised."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final, cast

from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, ResponseError

from overlay.domain.errors import InvalidConfig, LeadLost, LedgerUnavailable
from overlay.domain.measures import NO_MEASURES, Measures
from overlay.storage.redis_connections import RedisConnections
from overlay.storage.redis_failures import words
from overlay.storage.redis_scripts import Script
from overlay.storage.redis_sockets import Command, Reply

# A page's question; what its request asks together has a limit of its own (`services.ledger_patience`). What people
# wait for may take longer.
PATIENCE_S: Final = 0.7
LONG_PATIENCE_S: Final = 5.0
_LEAST_S: Final = 0.15  # enough for a server that answers at all
_WAIT_MS: Final = 300
_OLDEST: Final = (6, 2)
_SCANNED_AT_ONCE: Final = 1000
_LONGEST_DETAIL: Final = 200

_log = logging.getLogger(__name__)


class RedisLink:
    """The ledger's commands; `wait_replicas` have every change before its answer. The caller closes it.

    A command has `patience_s`, or longer where that is said.
    """

    def __init__(
        self,
        connections: RedisConnections,
        *,
        wait_replicas: int,
        patience_s: float = PATIENCE_S,
        measures: Measures = NO_MEASURES,
    ) -> None:
        self._connections = connections
        self._patience_s = patience_s
        self._measures = measures
        self._wait_replicas = wait_replicas
        self._warned = False

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[str | bytes | int] = (),
        *,
        patience_s: float = 0.0,
    ) -> list[Reply]:
        """Return what the script answers. Raises LedgerUnavailable, LeadLost."""
        rest: Command = (len(keys), *keys, *arguments)
        began_s, patience_s = time.monotonic(), max(patience_s, self._patience_s)
        replies = await self._run(("EVALSHA", script.sha1, *rest), script, patience_s)
        if isinstance(replies[0], NoScriptError):  # so nothing was done; both together take little longer than one
            left_s = patience_s - (time.monotonic() - began_s)
            replies = await self._run(("EVAL", script.text, *rest), script, max(left_s, _LEAST_S))
        answer = cast("list[Reply]", self._sound(replies[0]))
        if answer[0] == b"unready":
            raise LedgerUnavailable("What is staged is not loaded yet; try again in a moment.")
        if answer[0] == b"lost":
            raise LeadLost
        if script.changes and self._wait_replicas and cast("int", self._sound(replies[1])) < self._wait_replicas:
            raise LedgerUnavailable(
                "Too few replicas of the ledger have the change yet. It may become visible later; repeating is safe."
            )
        return answer

    async def values(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read several keys of one moment."""
        (reply,) = await self._exchange([("MGET", *keys)])
        return cast("list[bytes | None]", self._sound(reply))

    async def values_and_server(self, keys: Sequence[str]) -> tuple[list[bytes | None], str]:
        """Read several keys, and the run id of the server, "" where it does not tell.

        A replica is left, with all connections to it: it may have been the primary when they were opened, and a caller
        that only reads would never notice. Where it does not tell its role, nobody does. Raises LedgerUnavailable.
        """
        commands: list[Command] = [("MGET", *keys), ("INFO", "server"), ("INFO", "replication")]
        values, server, replication = await self._exchange(commands)
        if _facts(replication).get("role") == "slave":
            raise await self._connections.left()
        return cast("list[bytes | None]", self._sound(values)), _facts(server).get("run_id", "")

    async def keys(self, pattern: str) -> list[str]:
        """List the keys that match; those that were there all the while are listed.

        The pattern has the keys' hash tag. As a key it is sent along: SCAN names none, so any node of a cluster would
        list its own, and only a command with a key is told which node has them. With two keys, and both absent, it is
        told to wait while that node has only some.
        """
        found, cursor = [], b"0"
        while True:
            commands: list[Command] = [
                ("EXISTS", pattern, f"{pattern}*"),
                ("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED_AT_ONCE),
            ]
            placed, reply = await self._exchange(commands, max(LONG_PATIENCE_S, self._patience_s))
            self._sound(placed)
            cursor, keys = cast("tuple[bytes, list[bytes]]", tuple(cast("list[Reply]", self._sound(reply))))
            found += [key.decode() for key in keys]
            if cursor == b"0":
                return found

    async def check(self) -> None:
        """Refuse a server that could forget what it was told, or is too old. Raises InvalidConfig, LedgerUnavailable.

        The policy is read from INFO, which managed servers answer where they refuse CONFIG; one that tells neither is
        taken at its operator's word, with a warning.
        """
        try:
            (reply,) = await self._exchange([("INFO",)])
        except LedgerUnavailable as err:
            if isinstance(err.__cause__, AuthenticationError | NoPermissionError):
                raise InvalidConfig((f"[ledger] url: Redis cannot be used: {words(err.__cause__)}.",)) from err
            raise
        facts = _facts(reply)
        problems = server_problems(facts)
        if problems:
            raise InvalidConfig(problems)
        if "maxmemory_policy" not in facts and not self._warned:
            self._warned = True
            _log.warning(
                "Redis does not tell its maxmemory-policy. See to it that it is noeviction: anything else lets Redis "
                "drop what is staged."
            )

    async def _run(self, command: Command, script: Script, patience_s: float) -> list[Reply]:
        commands = [command]
        if script.changes and self._wait_replicas:
            commands.append(("WAIT", self._wait_replicas, _WAIT_MS))
        return await self._exchange(commands, patience_s)

    async def _exchange(self, commands: Sequence[Command], patience_s: float | None = None) -> list[Reply]:
        began_s, answered = time.perf_counter(), False
        try:
            replies = await self._connections.exchange(commands, patience_s=patience_s or self._patience_s)
            answered = True
        finally:
            self._measures.asked_ledger(time.perf_counter() - began_s, answered=answered)
        return replies

    def _sound(self, reply: Reply) -> Reply:
        if isinstance(reply, ResponseError):
            refused = "The ledger's Redis refused; the overlay's log says why."
            raise self._connections.failed(refused, reply, detail=str(reply)[:_LONGEST_DETAIL]) from reply
        return reply


def _facts(reply: Reply) -> dict[str, str]:
    """Read an INFO reply; a refusal tells nothing."""
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def server_problems(facts: Mapping[str, str]) -> tuple[str, ...]:
    """Say what of INFO's facts makes a server unfit; what it does not tell is no problem."""
    problems = []
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        problems.append(
            f"[ledger] url: this Redis has maxmemory-policy {policy}, so it may drop what is staged when memory is "
            "short. Set it to noeviction."
        )
    version = facts.get("redis_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers and numbers < _OLDEST:
        problems.append(f"[ledger] url: this Redis is version {version}; 6.2 or newer is needed.")
    return tuple(problems)
