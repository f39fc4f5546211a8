"""What is staged in all, read from Redis in pieces: everything, or the projects that something was staged for last.

While a command runs, Redis answers nobody else, and a page waits 0.7 s for its revision. A command that answered all of
20,000 files held the others up for a quarter of a second, and eight of them, asked for at once, for more than that. So
no command here answers, or reads, more than `AT_ONCE` files; but the recent events come in one answer.

The pieces of everything are not of one moment. They follow the times of staging, and what comes meanwhile may have an
older time than what it replaces: serials decide, and a record that a reconcile found is staged with its own time. So
what the events tell since before the first piece is done again on what was read. That makes it what was staged when the
events were read. What had ended before the first piece is in none, and what was staged all the while is in one.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, cast

from overlay.caching.threads import in_thread
from overlay.domain.errors import LedgerUnavailable
from overlay.domain.events import EventKind
from overlay.domain.names import NormalizedName, StageId, UploadId
from overlay.domain.stage import LatestProject, LatestProjects, StagedFile
from overlay.storage import redis_scripts as scripts
from overlay.storage.redis_layout import Keys, StoredEvent, read, read_file
from overlay.storage.redis_link import LONG_PATIENCE_S, RedisLink

AT_ONCE: Final = 200
_ATTEMPTS: Final = 3
_BEGINNING: Final = (b"-1", b"")


async def read_index(link: RedisLink, keys: Keys) -> tuple[StagedFile, ...]:
    """Read everything, ordered by project, version, filename. Raises LedgerUnavailable."""
    for _ in range(_ATTEMPTS):
        life, before = await _events_made(link, keys)
        held: dict[UploadId, StagedFile] = {}
        async with aclosing(_pieces(link, keys, life)) as pieces:
            async for values in pieces:
                held.update((file.upload_id, file) for file in map(read_file, values))
        events = await _told_since(link, keys, life, before)
        if events is not None:
            return await in_thread(_ordered, held, events)
    raise LedgerUnavailable("What is staged changes faster than it can be read; try again in a moment.")


async def read_latest(
    link: RedisLink, keys: Keys, stage: StageId, *, most_projects: int, most_files: int
) -> LatestProjects:
    """Read the projects that something was staged for last, the latest first. Raises LedgerUnavailable."""
    _, count, found = await link.run(scripts.LATEST, (keys.ready, keys.names(stage)[0]), (most_projects - 1,))
    names = cast("list[bytes]", found)
    waiting = [(NormalizedName(name.decode()), int(at)) for name, at in zip(names[0::2], names[1::2], strict=True)]
    projects: list[LatestProject] = []
    while waiting:
        declared = [keys.ready, keys.key("files"), *(keys.files(stage, project) for project, _ in waiting)]
        _, *answer = await link.run(scripts.SHELVES, declared, (most_files, AT_ONCE), patience_s=LONG_PATIENCE_S)
        counts, values = cast("list[int]", answer[0::2]), cast("list[list[bytes]]", answer[1::2])
        for (project, at_us), file_count, stored in zip(waiting, counts, values, strict=False):
            if file_count:
                files = tuple(sorted(map(read_file, stored), key=lambda file: file.filename))
                projects.append(LatestProject(project=project, staged_at_us=at_us, file_count=file_count, files=files))
        waiting = waiting[len(counts) :]
    return LatestProjects(tuple(projects), cast("int", count))


async def _events_made(link: RedisLink, keys: Keys) -> tuple[bytes, int]:
    """Read the ledger's life, and how many events it has told in it."""
    declared = keys.ready, keys.key("events-made")
    _, epoch, made = await link.run(scripts.EVENTS_MADE, declared, patience_s=LONG_PATIENCE_S)
    return cast("bytes", epoch), cast("int", made)


async def _told_since(link: RedisLink, keys: Keys, life: bytes, before: int) -> Sequence[bytes] | None:
    """Read the events that followed the first `before`; None where not all of them are there any more."""
    epoch, made = await _events_made(link, keys)
    _check_life(life, epoch)
    if made == before:
        return ()
    declared = [keys.key(name) for name in ("ready", "events", "events-made")]
    _, told_in, _, first, values = await link.run(scripts.EVENTS, declared, (before,), patience_s=LONG_PATIENCE_S)
    _check_life(life, cast("bytes", told_in))
    # Another first one: the feed was cut, or another server took over, which lacks the last changes.
    return cast("list[bytes]", values) if first == before + 1 else None


async def _pieces(link: RedisLink, keys: Keys, life: bytes) -> AsyncGenerator[list[bytes], None]:
    """Yield the stored files, the oldest first, a piece at a time."""
    declared = [keys.key(name) for name in ("ready", "files", "ages")]
    place = _BEGINNING
    while True:
        answer = await link.run(scripts.OLDEST, declared, (*place, AT_ONCE), patience_s=LONG_PATIENCE_S)
        _, epoch, time, upload, values = answer
        _check_life(life, cast("bytes", epoch))
        place = cast("bytes", time), cast("bytes", upload)
        files = cast("list[bytes]", values)
        if files:
            yield files
        if len(files) < AT_ONCE:
            return


def _check_life(life: bytes, epoch: bytes) -> None:
    if epoch != life:
        raise LedgerUnavailable("What is staged was loaded anew while it was read; try again in a moment.")


def _ordered(held: dict[UploadId, StagedFile], events: Sequence[bytes]) -> tuple[StagedFile, ...]:
    for event in (read(value, StoredEvent) for value in events):
        if event.file is not None and event.kind is EventKind.STAGED:
            held[event.file.upload_id] = event.file
        elif event.file is not None:
            held.pop(event.file.upload_id, None)
    return tuple(sorted(held.values(), key=lambda file: (file.project, file.version, file.filename)))
