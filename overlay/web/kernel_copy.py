"""Send a local file by sendfile(2) on any event loop; uvloop has none, and copying in the process halves the speed.

The kernel copies from the page cache to the socket. A thread waits for the disk, the loop waits for the client. The
socket is watched under a second descriptor, because a loop keeps the first one for its transport.
"""

import asyncio
import os
from typing import BinaryIO, Final

from aiohttp.abc import AbstractStreamWriter

from overlay.caching.threads import in_thread

_PIECE_BYTES: Final = 4 * 1024 * 1024  # about what a socket's buffer takes at once on loopback


async def send_by_kernel(
    transport: asyncio.Transport, writer: AbstractStreamWriter, file: BinaryIO, start: int, stop: int
) -> None:
    """Send the head that the writer holds, then the bytes [start, stop) of the file.

    Raises ConnectionError when the client is gone, or the file shorter than it should be.
    """
    await _send_head(transport, writer)
    target = os.dup(transport.get_extra_info("socket").fileno())
    try:
        while start < stop:
            if transport.is_closing():
                raise ConnectionResetError("The connection was closed.")
            try:
                sent = await in_thread(os.sendfile, target, file.fileno(), start, min(stop - start, _PIECE_BYTES))
            except BlockingIOError:
                await _writable(target)
                continue
            if sent == 0:
                raise ConnectionAbortedError("The file is shorter than it was.")
            start += sent
    finally:
        os.close(target)


async def _send_head(transport: asyncio.Transport, writer: AbstractStreamWriter) -> None:
    """Send the head, and whatever waits before it: nothing may be left in the transport when the kernel takes over."""
    transport.set_write_buffer_limits(high=0)  # writes now go out at once, or `drain` waits until they have
    try:
        writer.send_headers()
        await writer.drain()
    finally:
        transport.set_write_buffer_limits()
    if transport.get_write_buffer_size():
        raise ConnectionAbortedError("The head could not be sent.")


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    writable = loop.create_future()
    loop.add_writer(descriptor, _settle, writable)
    try:
        await writable
    finally:
        loop.remove_writer(descriptor)


def _settle(writable: "asyncio.Future[None]") -> None:
    if not writable.done():
        writable.set_result(None)
