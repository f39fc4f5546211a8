"""Listening sockets, from before the first connection until after the last one that was made."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final

BACKLOG: Final = 1024


async def bound(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of the host, as asyncio would. Connections wait until somebody takes them."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
    listeners = [socket.socket(fileno=os.dup(made.fileno())) for made in server.sockets]
    server.close()
    for listener in listeners:
        listener.listen(BACKLOG)
    return listeners


async def take_queued(listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
    """Take the connections that were made and that nobody has accepted yet, and close the listener.

    The kernel would reset them with the last listener's end, and their clients may have sent their requests. uvloop
    accepts one connection in each turn of its loop, so there are many where many come.
    """
    loop, taken = asyncio.get_running_loop(), list[socket.socket]()
    with listener:
        listener.setblocking(False)
        with contextlib.suppress(OSError):  # until there is none left, or no descriptor for another one
            while True:
                taken.append(listener.accept()[0])
    for connection in taken:
        connection.setblocking(False)
        await loop.connect_accepted_socket(protocol, connection)
