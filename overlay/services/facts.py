"""What upstream's page says, read once per page and remembered by its validator."""

from collections.abc import Awaitable, Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from overlay.caching.flight import Flight
from overlay.caching.lru import ByteLru
from overlay.caching.threads import in_thread
from overlay.domain.names import Validator
from overlay.domain.page import UpstreamPage
from overlay.domain.page_facts import PageFacts
from overlay.domain.simple_json import facts

FactsOf = Callable[[UpstreamPage | None], Awaitable[PageFacts | None]]
"""Reads a page's facts; None for no page and for a project that upstream does not have."""

_LIMIT_BYTES: Final = 64 * 1024 * 1024
_BYTES_PER_FILE: Final = 400  # a filename, a digest, and their places in two dicts
_INLINE_BYTES: Final = 64 * 1024  # smaller pages are read in less time than a thread switch takes

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def read_body(
    read: Callable[Concatenate[bytes, Parameters], Result],
    body: bytes,
    *args: Parameters.args,
    **kwargs: Parameters.kwargs,
) -> Result:
    """Read a page's body, in a thread where it is a big one."""
    if len(body) <= _INLINE_BYTES:
        return read(body, *args, **kwargs)
    return await in_thread(read, body, *args, **kwargs)


def facts_reader() -> FactsOf:
    """Make a reader with a memory of its own."""
    held: ByteLru[Validator, PageFacts] = ByteLru(
        _LIMIT_BYTES, lambda read: 500 + _BYTES_PER_FILE * len(read.sha256_of)
    )
    flight: Flight[Validator, PageFacts] = Flight()

    async def facts_of(page: UpstreamPage | None) -> PageFacts | None:
        if page is None or page.body is None:
            return None
        known = held.get(page.validator)
        if known is None:
            body = page.body
            known = await flight.run(page.validator, lambda: read_body(facts, body))
            held.put(page.validator, known)
        return known

    return facts_of
