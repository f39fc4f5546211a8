"""Which releases promotions keep as they are, in Redis (`redis_freeze_scripts` says how they are stored)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import cast

import msgspec

from overlay.domain.events import EVENT_OF_OUTCOME
from overlay.domain.names import NormalizedName, ReleaseName, UploadId, canonical_version
from overlay.domain.promotion import Freeze, PromotionEnding, PromotionId
from overlay.domain.promotion_errors import PromotionLost, ReleaseFrozen, StagedChanged
from overlay.domain.stage import StagedFile
from overlay.storage import redis_freeze_scripts as changes
from overlay.storage.redis_layout import Keys, quoted, read
from overlay.storage.redis_link import RedisLink
from overlay.storage.redis_scripts import VALUES
from overlay.storage.refusals import frozen, in_words, live_upstream, running, taken

LookUp = Callable[[Sequence[UploadId]], Awaitable[Sequence[StagedFile]]]


class RedisFreezes:
    """The freezes; `look_up` finds uploads that are, or were, staged, `now_us` is the clock in µs."""

    def __init__(self, link: RedisLink, keys: Keys, look_up: LookUp, now_us: Callable[[], int]) -> None:
        self._link = link
        self._keys = keys
        self._look_up = look_up
        self._now_us = now_us

    async def held(self) -> tuple[Freeze, ...]:
        """Return the freezes that hold, the oldest first."""
        keys = self._keys.ready, self._keys.key("freezes")
        _, values = await self._link.run(VALUES, keys)
        now_us = self._now_us()
        holding = [freeze for freeze in map(read_freeze, cast("list[bytes]", values)) if freeze.holds(now_us)]
        return tuple(sorted(holding, key=lambda freeze: (freeze.since_us, freeze.promotion)))

    async def freeze(self, wanted: Freeze) -> Freeze:
        """Freeze, or give the lease to another run. What an upload is never changes, so that is looked up before."""
        within = [file for file in await self._look_up(wanted.uploads) if _is_within(file, wanted)]
        sound = len(within) == len(wanted.uploads)
        arguments = wanted.promotion, stored_freeze(wanted), int(sound), self._now_us()
        outcome, *values = cast("list[bytes]", await self._link.run(changes.FREEZE, self._keys.changed, arguments))
        if outcome == b"running":
            raise running(read_freeze(values[0]))
        if outcome == b"kept":
            raise refusal(values[0], values[1])
        if outcome == b"changed":
            raise StagedChanged(in_words(wanted.releases))
        return read_freeze(values[0])

    async def renew(self, promotion: PromotionId, *, fence: int, until_us: int, durable: bool) -> Freeze:
        """Prolong a lease, or end it. Raises PromotionLost."""
        arguments = promotion, fence, until_us, int(durable), self._now_us()
        outcome, *values = cast("list[bytes]", await self._link.run(changes.RENEW, self._keys.changed, arguments))
        if outcome == b"overtaken":
            raise PromotionLost(promotion)
        return read_freeze(values[0])

    async def overtake(self, promotion: PromotionId) -> bool:
        """Let no run of a promotion go on; say whether its freeze is left."""
        arguments = promotion, self._now_us()
        (outcome,) = cast("list[bytes]", await self._link.run(changes.OVERTAKE, self._keys.changed, arguments))
        return outcome == b"left"

    async def thaw(self, promotion: PromotionId, ending: PromotionEnding, *, unless_durable: bool) -> bool:
        """End a freeze; say whether none of the promotion is left."""
        kind = EVENT_OF_OUTCOME[ending.outcome].value
        arguments = promotion, kind, ending.at_us, quoted(ending.who), int(unless_durable)
        (outcome,) = cast("list[bytes]", await self._link.run(changes.THAW, self._keys.changed, arguments))
        return outcome == b"thawed"


def release_field(release: ReleaseName) -> str:
    """Name a release as the scripts know it."""
    return f"{release.project} {canonical_version(release.version)}"


def refusal(release: bytes, keeper: bytes) -> ReleaseFrozen:
    """Form the refusal from what a script answers."""
    project, _, version = release.decode().partition(" ")
    return frozen(ReleaseName(NormalizedName(project), version), read_freeze(keeper))


def refuse(outcome: bytes | None, values: Sequence[bytes | None], filename: str, release: str) -> None:
    """Raise what ADMIT and STAGE answer when the bytes may not come under the name."""
    if outcome == b"exists":
        held_sha256, keeper, stays = values
        if stays:
            raise live_upstream(filename, (held_sha256 or b"").decode())
        raise taken(filename, (held_sha256 or b"").decode(), read_freeze(keeper) if keeper else None)
    if outcome == b"frozen":
        raise refusal(release.encode(), values[0] or b"")


def stored_freeze(freeze: Freeze) -> bytes:
    """Return a freeze as it is stored."""
    head = f"{freeze.fence} {int(freeze.durable)} {freeze.until_us} {freeze.stage}".encode()
    uploads = " ".join(freeze.uploads).encode()
    releases = ",".join(f"{release_field(release)} {release.version}" for release in freeze.releases).encode()
    return b"\n".join((head, quoted(freeze.holder), quoted(freeze.who), uploads, releases, msgspec.json.encode(freeze)))


def read_freeze(value: bytes) -> Freeze:
    """Read a stored freeze. Raises RecordCorrupt."""
    head, holder, who, _, _, rest = value.split(b"\n", 5)
    fence, durable, until_us = map(int, head.split()[:3])
    return replace(
        read(rest, Freeze),
        fence=fence,
        durable=bool(durable),
        until_us=until_us,
        holder=msgspec.json.decode(holder, type=str),
        who=msgspec.json.decode(who, type=str),
    )


def _is_within(file: StagedFile, freeze: Freeze) -> bool:
    return file.stage == freeze.stage and file.release in freeze.releases
