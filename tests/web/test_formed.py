"""What many callers read together is formed once for all of them, beside the loop."""

import asyncio
import threading

from aiohttp import web

from overlay.caching.flight import Flight
from overlay.web.formed import FORMED, formed


async def test_callers_of_one_reading_share_what_is_formed_in_a_thread() -> None:
    """One that hangs up takes nothing from the others; another reading, or another root, is formed by itself."""
    app = web.Application()
    app[FORMED] = Flight()
    ours, theirs = ["file"], ["file"]
    begun, go_on, threads = threading.Semaphore(0), threading.Event(), []

    def form(read: list[str]) -> bytes:
        threads.append(threading.get_ident())
        begun.release()
        assert go_on.wait(10)
        return read[0].encode()

    asked = [(ours, "one"), (ours, "one"), (ours, "two"), (theirs, "one"), (ours, "one")]
    callers = [asyncio.ensure_future(formed(app, read, root, form)) for read, root in asked]
    for _ in range(3):
        assert await asyncio.to_thread(begun.acquire, timeout=10)
    callers[0].cancel()
    go_on.set()
    assert await asyncio.gather(*callers[1:]) == [b"file"] * 4
    assert len(threads) == 3
    assert threading.get_ident() not in threads
