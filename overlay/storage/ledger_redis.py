"""The ledger in Redis (or Valkey), for any number of workers on any number of hosts.

Each change is one script, each read one round trip that also carries the `ready` key: missing, the ledger was lost and
what it holds means nothing until a worker has rebuilt it (`overlay.services.upkeep`). Revisions, which every page
needs, are read together for all requests that ask at the same time. Nothing is remembered here between two calls.

    redis_url ► redis_primary ► redis_connections ► redis_link (runs redis_scripts)
                                                    ► this (and redis_stage_scripts)
                                                    ► redis_index, redis_tokens
                                                    ► redis_freezes (and redis_freeze_scripts)
                                                    ► redis_lead (and redis_lead_scripts)
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, cast

from overlay.caching.threads import in_thread
from overlay.domain.errors import LedgerRebuilt, LedgerUnavailable
from overlay.domain.events import EventFeed
from overlay.domain.ledger_port import Ending, Lead, LedgerState
from overlay.domain.measures import NO_MEASURES, Measures
from overlay.domain.names import NOTHING_STAGED, NormalizedName, ReleaseName, Revision, Serial, StageId, UploadId
from overlay.domain.promotion import Freeze, PromotionEnding, PromotionId
from overlay.domain.rights import Token
from overlay.domain.stage import (
    Admitted,
    AlreadyStaged,
    Claim,
    Entry,
    Gone,
    LatestProjects,
    Staged,
    StagedFile,
    StageIndex,
    StageSnapshot,
    Totals,
    file_of,
)
from overlay.storage import redis_layout as layout
from overlay.storage import redis_scripts as scripts
from overlay.storage import redis_stage_scripts as changes
from overlay.storage.redis_coalesced import HELD_S, CoalescedReads
from overlay.storage.redis_connections import RedisConnections
from overlay.storage.redis_freezes import RedisFreezes, refusal, refuse, release_field
from overlay.storage.redis_index import read_index, read_latest
from overlay.storage.redis_layout import Keys
from overlay.storage.redis_lead import leading, read_state
from overlay.storage.redis_link import PATIENCE_S, RedisLink
from overlay.storage.redis_tokens import RedisTokens
from overlay.storage.redis_url import RedisTarget

_LOOK_UPS: Final = 3  # of Sentinels or a cluster's nodes, within one question's patience
_DECODED_INLINE: Final = 100  # a file takes some microseconds; more of them take turns, or go to a thread


class RedisLedger:
    """StageLedger over Redis; `now_us` is the clock in microseconds since the epoch."""

    def __init__(self, link: RedisLink, keys: Keys, now_us: Callable[[], int]) -> None:
        self._link = link
        self._keys = keys
        self._now_us = now_us
        self._reads = CoalescedReads(link.values, HELD_S)
        self._freezes, self._tokens = RedisFreezes(link, keys, self._lookup, now_us), RedisTokens(link, keys, now_us)

    async def check_server(self) -> None:
        """Refuse a server that may lose what it was told or is too old. Raises InvalidConfig, LedgerUnavailable."""
        await self._link.check()

    async def state(self) -> LedgerState:
        """Read how the ledger is."""
        return await read_state(self._link, self._keys)

    def lead(self) -> AbstractAsyncContextManager[Lead]:
        """Be the one that mends the ledger."""
        return leading(self._link, self._keys)

    async def load(
        self,
        files: Sequence[StagedFile],
        tokens: Sequence[Token],
        freezes: Sequence[Freeze] = (),
        live: Sequence[UploadId] = (),
    ) -> None:
        """Take the lead and replace the whole content."""
        async with self.lead() as lead:
            await lead.load(files, tokens, freezes, live)

    async def revisions(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[Revision, ...]:
        """Read the revision per stage, in one round trip with everybody else who asks now."""
        keys = self._keys.revisions(project, stages)
        values = await self._reads.get(keys)
        ready, *found = [values[key] for key in keys]
        if ready is None:
            raise LedgerUnavailable("What is staged is not loaded yet; try again in a moment.")
        return tuple([_revision(value) for value in found])

    async def snapshot(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[StageSnapshot, ...]:
        """Read files and revisions of one moment."""
        keys = [self._keys.ready, self._keys.key("files")]
        for stage in stages:
            keys += (self._keys.files(stage, project), self._keys.revision(stage, project))
        answer = (await self._link.run(scripts.SNAPSHOT, keys))[1:]
        snapshots = []
        for stage, revision, values in zip(stages, answer[0::2], answer[1::2], strict=True):
            files = await _decoded(cast("list[bytes]", values))
            ordered = tuple(sorted(files, key=lambda file: file.filename))
            snapshots.append(StageSnapshot(project, stage, _revision(cast("bytes | None", revision)), ordered))
        return tuple(snapshots)

    async def entries(self, project: NormalizedName, uploads: Sequence[UploadId]) -> tuple[Entry, ...]:
        """Look uploads up."""
        found = await self._found(uploads)
        return tuple(entry if entry is not None and file_of(entry).project == project else None for entry in found)

    async def index(self) -> StageIndex:
        """Read everything that is staged."""
        return StageIndex(await read_index(self._link, self._keys))

    async def latest(self, stage: StageId, *, most_projects: int, most_files: int) -> LatestProjects:
        """Read the projects that something was staged for last."""
        return await read_latest(self._link, self._keys, stage, most_projects=most_projects, most_files=most_files)

    async def names(self, stages: Sequence[StageId]) -> tuple[Revision, tuple[NormalizedName, ...]]:
        """Read the projects with staged files, and a revision of that set."""
        keys = [self._keys.ready]
        for stage in stages:
            keys += self._keys.names(stage)
        answer = (await self._link.run(scripts.NAMES, keys))[1:]
        names = {name.decode() for found in answer[0::2] for name in cast("list[bytes]", found)}
        revision = ".".join(_revision(cast("bytes | None", value)) for value in answer[1::2])
        return Revision(revision), tuple(map(NormalizedName, sorted(names)))

    async def totals(self) -> Totals:
        """Count everything that is staged."""
        keys = [self._keys.key(name) for name in ("ready", "files", "ages", "bytes")]
        _, files, oldest, size_bytes = cast("list[bytes | None]", await self._link.run(scripts.TOTALS, keys))
        oldest_us = None if oldest is None else int(oldest)
        return Totals(files=int(files or 0), size_bytes=int(size_bytes or 0), oldest_staged_at_us=oldest_us)

    async def bytes_staged_by(self, token_id: str) -> int:
        """Sum the sizes of what this token staged."""
        keys = self._keys.ready, self._keys.key("token-bytes")
        _, size_bytes = cast("list[bytes | None]", await self._link.run(scripts.FIELD, keys, (token_id,)))
        return int(size_bytes or 0)

    async def admit(self, claim: Claim) -> Admitted | AlreadyStaged:
        """Decide whether an upload may go on."""
        keys = (*self._keys.changed, self._keys.files(claim.stage, claim.project))
        reach, release = layout.reach(claim.grant), release_field(ReleaseName(claim.project, claim.version))
        arguments = layout.quoted(claim.filename), claim.sha256, reach, int(claim.replace), self._now_us(), release
        outcome, *values = cast("list[bytes | None]", await self._link.run(changes.ADMIT, keys, arguments))
        refuse(outcome, values, claim.filename, release)
        answer = cast("list[bytes]", values)
        if outcome == b"already":
            return AlreadyStaged(layout.read_file(answer[0]))
        return Admitted(Serial(int(answer[0])), answer[1].decode())

    async def stage(self, file: StagedFile, *, replace: bool, epoch: str) -> Staged:
        """Show the file; idempotent by upload id."""
        keys = (*self._keys.changed, *self._keys.shelf(file.stage, file.project))
        revisions, release = (layout.nonce(), layout.nonce()), release_field(file.release)
        written = layout.header(file), layout.body(file), int(replace), epoch
        arguments = *written, *revisions, self._now_us(), release
        outcome, *values = cast("list[bytes | None]", await self._link.run(changes.STAGE, keys, arguments))
        if outcome == b"rebuilt":
            raise LedgerRebuilt
        refuse(outcome, values, file.filename, release)
        return Staged(None if values[0] is None else layout.read(values[0], Gone))

    async def forget(self, project: NormalizedName, uploads: Sequence[UploadId], gone: Ending) -> tuple[Gone, ...]:
        """End these uploads. They are looked up first: their stages, which never change, name the keys to declare."""
        known = [file for file in await self._lookup(uploads) if file.project == project]
        keys = [*self._keys.changed]
        arguments: list[str | bytes] = [*layout.ended_by(gone), str(self._now_us())]
        for file in known:
            keys += self._keys.shelf(file.stage, project)
            arguments += (file.upload_id, release_field(file.release), layout.nonce(), layout.nonce())
        outcome, *values = cast("list[bytes]", await self._link.run(changes.FORGET, keys, arguments))
        if outcome == b"frozen":
            raise refusal(values[0], values[1])
        return tuple(layout.read(value, Gone) for value in values)

    async def mark_live(self, uploads: Sequence[UploadId]) -> None:
        """Remember that upstream has these staged files."""
        await self._link.run(changes.MARK_LIVE, self._keys.changed, uploads)

    async def marked_live(self) -> frozenset[UploadId]:
        """Read which staged files are marked live."""
        keys = self._keys.ready, self._keys.key("live")
        _, uploads = await self._link.run(scripts.FIELDS, keys)
        return frozenset(UploadId(upload.decode()) for upload in cast("list[bytes]", uploads))

    async def freeze(self, wanted: Freeze) -> Freeze:
        """Keep releases as they are, and give the lease to a run."""
        return await self._freezes.freeze(wanted)

    async def renew(self, promotion: PromotionId, *, fence: int, until_us: int, durable: bool = False) -> Freeze:
        """Prolong the lease, or end it."""
        return await self._freezes.renew(promotion, fence=fence, until_us=until_us, durable=durable)

    async def overtake(self, promotion: PromotionId) -> bool:
        """Let no run of the promotion go on."""
        return await self._freezes.overtake(promotion)

    async def thaw(self, promotion: PromotionId, ending: PromotionEnding, *, unless_durable: bool = False) -> bool:
        """End the freeze."""
        return await self._freezes.thaw(promotion, ending, unless_durable=unless_durable)

    async def freezes(self) -> tuple[Freeze, ...]:
        """Read the freezes that hold."""
        return await self._freezes.held()

    async def spend(self, token_id: str, *, per_minute: int) -> float:
        """Take one of the uploads that a token has."""
        return await self._tokens.spend(token_id, per_minute=per_minute)

    async def events(self, after: int) -> EventFeed:
        """Read the recent events."""
        keys = self._keys.ready, self._keys.key("events"), self._keys.key("events-made")
        _, epoch, oldest, first, values = await self._link.run(scripts.EVENTS, keys, (after,))
        events = layout.read_events(cast("int", first), cast("list[bytes]", values))
        return EventFeed(cast("bytes", epoch).decode(), cast("int", oldest), events)

    async def token(self, sha256: str) -> Token | None:
        """Find a token by the hash of its text."""
        return await self._tokens.find(sha256)

    async def tokens(self) -> tuple[Token, ...]:
        """List all tokens."""
        return await self._tokens.listed()

    async def put_token(self, token: Token) -> None:
        """Add or replace a token."""
        await self._tokens.put(token)

    async def drop_token(self, token_id: str) -> None:
        """Forget a token."""
        await self._tokens.drop(token_id)

    async def _lookup(self, uploads: Sequence[UploadId]) -> list[StagedFile]:
        return [file_of(entry) for entry in await self._found(uploads) if entry is not None]

    async def _found(self, uploads: Sequence[UploadId]) -> list[Entry]:
        keys, found = [self._keys.key(name) for name in ("ready", "files", "ended")], list[Entry]()
        for at in range(0, len(uploads), _DECODED_INLINE):
            some = uploads[at : at + _DECODED_INLINE]
            _, files, endings = await self._link.run(scripts.LOOKUP, keys, some)
            pairs = zip(cast("list[bytes | None]", files), cast("list[bytes | None]", endings), strict=True)
            found += [_entry(*pair) for pair in pairs]
        return found


@asynccontextmanager
async def redis_ledger(
    target: RedisTarget,
    *,
    prefix: str,
    wait_replicas: int,
    now_us: Callable[[], int],
    patience_s: float = PATIENCE_S,
    measures: Measures = NO_MEASURES,
) -> AsyncIterator[RedisLedger]:
    """Open a ledger; nothing is asked of Redis before the first call. Raises InvalidConfig for a bad prefix.

    `patience_s` is how long a page's question may take.
    """
    connections = RedisConnections(target, look_up_patience_s=patience_s / _LOOK_UPS)
    link = RedisLink(connections, wait_replicas=wait_replicas, patience_s=patience_s, measures=measures)
    try:
        yield RedisLedger(link, Keys(prefix), now_us)
    finally:
        await link.close()


def _revision(value: bytes | None) -> Revision:
    return NOTHING_STAGED if value is None else Revision(value.decode())


def _entry(file: bytes | None, gone: bytes | None) -> Entry:
    if file is not None:
        return layout.read_file(file)
    return None if gone is None else layout.read(gone, Gone)


async def _decoded(values: Sequence[bytes]) -> list[StagedFile]:
    if len(values) <= _DECODED_INLINE:
        return [layout.read_file(value) for value in values]
    return await in_thread(lambda: [layout.read_file(value) for value in values])
