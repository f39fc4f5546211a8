"""One question to each part, for `overlay check`: what a part answers in a few words, or its error."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from overlay.config.tables import Config
from overlay.domain.names import project_name
from overlay.wiring.assembly import microseconds
from overlay.wiring.embedded import read_directory
from overlay.wiring.upstream import upstream_client

_PROBED: Final = "pip"

Question = Callable[[], Awaitable[str]]


def questions(config: Config) -> Mapping[str, Question]:
    """Return a question per part; each answers in words, or raises an OverlayError."""
    if config.store.kind == "directory":
        return {"store": lambda: _directory(config), "upstream": lambda: _upstream(config)}
    return {
        "store": lambda: _bucket(config),
        "ledger": lambda: _redis(config),
        "upstream": lambda: _upstream(config),
    }


async def _directory(config: Config) -> str:
    rebuilt = await read_directory(config, microseconds(time.time))
    if rebuilt is None:
        return f"{config.store.path} is not there yet: the first start will make it"
    return f"{rebuilt.files} staged files in {config.store.path}"


async def _bucket(config: Config) -> str:
    from overlay.wiring.distributed import read_bucket  # noqa: PLC0415 - as in `wired`

    return f"{await read_bucket(config)} staged files in the bucket {config.store.bucket}"


async def _redis(config: Config) -> str:
    from overlay.wiring.distributed import ask_redis  # noqa: PLC0415 - as in `wired`

    loaded = await ask_redis(config, time.time)
    return "Redis answers, and knows what is staged" if loaded else "Redis answers; the next start will load it"


async def _upstream(config: Config) -> str:
    async with upstream_client(config, time.time) as client:
        page = await client.fetch(project_name(_PROBED), None)
        has = f"has no {_PROBED}, but answers" if page.body is None else f"has {_PROBED} ({len(page.body):,} bytes)"
        return f"{client.settings.shown} {has}"
