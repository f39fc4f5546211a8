"""Which releases promotions keep as they are, in Redis (`redis_freeze_scripts` says how they are stored)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import cast

import msgspec

from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.promotion import Freeze, PromotionId, ReleaseName
from overlay.domain.promotion_errors import PromotionLost, ReleaseFrozen, StagedChanged
from overlay.domain.stage import StagedFile
from overlay.storage import redis_freeze_scripts as changes
from overlay.storage.redis_layout import Keys, quoted, read
from overlay.storage.redis_link import RedisLink
from overlay.storage.redis_scripts import VALUES
from overlay.storage.refusals import frozen, in_words, running

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

    async def thaw(self, promotion: PromotionId) -> None:
        """End a freeze."""
        await self._link.run(changes.THAW, self._keys.changed, (promotion,))


def release_field(project: NormalizedName, version: str) -> str:
    """Name a release as the scripts know it."""
    return f"{project} {version}"


def refusal(release: bytes, keeper: bytes) -> ReleaseFrozen:
    """Form the refusal from what a script answers."""
    project, _, version = release.decode().partition(" ")
    return frozen(ReleaseName(NormalizedName(project), version), read_freeze(keeper))


def stored_freeze(freeze: Freeze) -> bytes:
    """Return a freeze as it is stored."""
    head = f"{freeze.fence} {int(freeze.durable)} {freeze.until_us}".encode()
    uploads = " ".join(freeze.uploads).encode()
    releases = ",".join(release_field(release.project, release.version) for release in freeze.releases).encode()
    return b"\n".join((head, quoted(freeze.holder), quoted(freeze.who), uploads, releases, msgspec.json.encode(freeze)))


def read_freeze(value: bytes) -> Freeze:
    """Read a stored freeze. Raises RecordCorrupt."""
    head, holder, who, _, _, rest = value.split(b"\n", 5)
    fence, durable, until_us = map(int, head.split())
    return replace(
        read(rest, Freeze),
        fence=fence,
        durable=bool(durable),
        until_us=until_us,
        holder=msgspec.json.decode(holder, type=str),
        who=msgspec.json.decode(who, type=str),
    )


def _is_within(file: StagedFile, freeze: Freeze) -> bool:
    return file.stage == freeze.stage and ReleaseName(file.project, file.version) in freeze.releases
