"""Everything that is staged, read from Redis in pieces.

While a command runs, Redis answers nobody else, and a page waits 0.7 s for its revision. A command that answered all of
20,000 files held the others up for a quarter of a second, and eight of them, asked for at once, for more than that. So
no command here answers, or reads, more than `AT_ONCE` files.

The pieces are not of one moment, but of one life of the ledger. They follow the times of staging. Where a file replaces
another one meanwhile, the newer one comes later in that order: one of them is met, or both, and then the newer counts.
Only where the clocks of hosts differ may both be missed, which the port allows.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, cast

from overlay.caching.threads import in_thread
from overlay.domain.errors import LedgerUnavailable
from overlay.domain.names import NormalizedName, StageId
from overlay.domain.stage import StagedFile, precedence
from overlay.storage import redis_scripts as scripts
from overlay.storage.redis_layout import Keys, read_file
from overlay.storage.redis_link import LONG_PATIENCE_S, RedisLink
from overlay.storage.redis_scripts import Script

AT_ONCE: Final = 200
_BEGINNING: Final = (b"-1", b"")
_END: Final = (b"1e300", b"")


async def read_index(link: RedisLink, keys: Keys) -> tuple[StagedFile, ...]:
    """Read everything, ordered by project, version, filename. Raises LedgerUnavailable."""
    held: dict[tuple[StageId, str], StagedFile] = {}
    async with aclosing(_pieces(link, keys, scripts.OLDEST, _BEGINNING)) as pieces:
        async for values in pieces:
            for file in map(read_file, values):
                name = file.stage, file.filename
                held[name] = max(held.get(name, file), file, key=precedence)
    return await in_thread(_ordered, list(held.values()))


async def read_latest(link: RedisLink, keys: Keys, most: int) -> tuple[NormalizedName, ...]:
    """Read the projects that something was staged for last, the latest first. Raises LedgerUnavailable."""
    found: dict[bytes, None] = {}
    async with aclosing(_pieces(link, keys, scripts.LATEST, _END)) as pieces:
        async for projects in pieces:
            found.update(dict.fromkeys(projects))
            if len(found) >= most:
                break
    return tuple(NormalizedName(project.decode()) for project in list(found)[:most])


async def _pieces(
    link: RedisLink, keys: Keys, script: Script, place: tuple[bytes, bytes]
) -> AsyncGenerator[list[bytes], None]:
    """Yield what a script answers from a place on, a piece at a time."""
    declared = [keys.key(name) for name in ("ready", "files", "ages")]
    life: object = None
    while True:
        answer = await link.run(script, declared, (*place, AT_ONCE), patience_s=LONG_PATIENCE_S)
        _, epoch, time, upload, items = answer
        if life not in (None, epoch):
            raise LedgerUnavailable("What is staged was loaded anew while it was read; try again in a moment.")
        life, place = epoch, (cast("bytes", time), cast("bytes", upload))
        if items:
            yield cast("list[bytes]", items)
        if len(cast("list[bytes]", items)) < AT_ONCE:
            return


def _ordered(files: list[StagedFile]) -> tuple[StagedFile, ...]:
    return tuple(sorted(files, key=lambda file: (file.project, file.version, file.filename)))
