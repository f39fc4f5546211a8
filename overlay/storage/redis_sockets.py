"""A connection to one server: opened, written to, and read from."""

from collections.abc import Sequence
from typing import Final, TypeAlias, TypedDict, cast

from hiredis import pack_command
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError, ResponseError

from overlay.storage.redis_url import Address, Login, RedisTarget

Reply: TypeAlias = "bytes | int | list[Reply] | ResponseError | None"
Command: TypeAlias = "tuple[str | bytes | int, ...]"
AnyConnection: TypeAlias = "Connection | UnixDomainSocketConnection"

FAILURES: Final = (RedisError, OSError, TimeoutError)


class _Options(TypedDict):
    """What all kinds of connections are told."""

    db: int
    username: str | None
    password: str | None
    protocol: int
    driver_info: None
    socket_timeout: None


async def opened(target: RedisTarget, address: Address) -> AnyConnection:
    """Connect, with the primary's login and database; the caller disconnects. Raises one of FAILURES."""
    connection = unopened(target, address, target.login, db=target.db)
    try:
        await connection.connect_check_health()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def replies_to(connection: AnyConnection, commands: Sequence[Command]) -> list[Reply]:
    """Send commands in one round trip and return their replies, errors among them. Raises one of FAILURES."""
    # Whether it still answers need not be asked first: who asks finds out, and asks anew.
    await connection.send_packed_command([_packed(command) for command in commands], check_health=False)
    return [await _reply(connection) for _ in commands]


async def reply_to(connection: AnyConnection, command: Command) -> Reply:
    """Send one command, over a connection that may be closed yet, and return its reply. Raises one of FAILURES."""
    await connection.send_command(*command)
    return await _reply(connection)


def unopened(target: RedisTarget, address: Address, login: Login, *, db: int) -> AnyConnection:
    """Form a connection that opens when it is used. It has no timeouts: who asks has the one that counts."""
    options = _Options(
        db=db,
        username=login.username or None,
        password=login.password or None,
        protocol=2,
        driver_info=None,
        socket_timeout=None,
    )
    if address.socket_path:
        return UnixDomainSocketConnection(path=address.socket_path, **options)
    if target.tls:
        return SSLConnection(host=address.host, port=address.port, ssl_ca_certs=target.ca_file or None, **options)
    return Connection(host=address.host, port=address.port, **options)


def _packed(command: Command) -> bytes:
    """Pack in C: redis-py's own packing of a batch takes longer than sending it."""
    packed: bytes = pack_command(cast("tuple[str]", command))  # its stub knows one element only
    return packed


async def _reply(connection: AnyConnection) -> Reply:
    try:
        return cast("Reply", await connection.read_response())
    except ResponseError as err:
        return err
