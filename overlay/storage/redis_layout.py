"""What the ledger keeps in Redis: the names of its keys, and its values as bytes.

All keys of an index share one hash tag, so a cluster holds them on one node and one script may touch them all; the tag
has the version of this layout, so a program with another one never misreads them but rebuilds its own.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

import msgspec

from overlay.domain import events
from overlay.domain.errors import InvalidConfig, RecordCorrupt
from overlay.domain.events import EVENT_OF_REASON, Event, EventKind
from overlay.domain.ledger_port import Ending
from overlay.domain.names import NormalizedName, ReleaseName, StageId
from overlay.domain.promotion import Freeze, PromotionId
from overlay.domain.rights import EVERY_PROJECT, Token
from overlay.domain.stage import Gone, StagedFile

VERSION: Final = 1

CHANGED: Final = (
    "ready",
    "last-serial",
    "files",
    "ages",
    "bytes",
    "token-bytes",
    "ended",
    "ended-order",
    "events",
    "events-made",
    "freezes",
    "frozen",
    "live",
)
"""The keys that every change of what is staged declares, before its shelves; of each there is one.

`files` is a hash from uploads to stored files, `ages` a sorted set of uploads by when they were staged, `token-bytes` a
hash from token ids to the bytes that they have staged. `freezes` is a hash from promotions to stored freezes, `frozen`
one from releases to the promotions that keep them (`redis_freeze_scripts`). `live` is a hash whose fields are the
uploads that upstream has, too.
"""
SHELF_KEYS: Final = 4

_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_HEADER_LINES: Final = 3

Stored = TypeVar("Stored", StagedFile, Gone, Token, Freeze, "StoredEvent")


class StoredRelease(msgspec.Struct, frozen=True):
    """A release that a promotion has."""

    promotion: PromotionId
    stage: StageId
    project: NormalizedName
    version: str


class StoredEvent(msgspec.Struct, frozen=True):
    """An event as the feed keeps it: its place gives the number. It has a file or a release."""

    kind: EventKind
    at_us: int
    who: str
    file: StagedFile | None = None
    release: StoredRelease | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one index; `prefix` keeps several indexes of one Redis apart."""

    prefix: str

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise InvalidConfig((f"[ledger] prefix must be 1 to 100 of A-Z a-z 0-9 . _ -, not {self.prefix[:100]!r}.",))

    def key(self, name: str) -> str:
        """Name a key of which there is one."""
        return f"{{overlay:{self.prefix}:v{VERSION}}}:{name}"

    @property
    def ready(self) -> str:
        """Name the key that is there while the ledger is whole; its value names the ledger's life."""
        return self.key("ready")

    @property
    def changed(self) -> tuple[str, ...]:
        """Name the keys that every change of what is staged declares."""
        return tuple(map(self.key, CHANGED))

    def spent(self, token_id: str) -> str:
        """Name the key that says until when a token's uploads are paid for (`overlay.domain.rates`)."""
        return self.key(f"spent:{token_id}")

    def revisions(self, project: NormalizedName, stages: Sequence[StageId]) -> tuple[str, ...]:
        """Name `ready`, and after it the keys of a project's revision in each stage."""
        return _revisions(self, project, tuple(stages))

    def revision(self, stage: StageId, project: NormalizedName) -> str:
        """Name the key of a project's revision in a stage."""
        return self.key(f"revision:{stage}:{project}")

    def files(self, stage: StageId, project: NormalizedName) -> str:
        """Name the hash from a project's filenames in a stage to their uploads."""
        return self.key(f"shelf:{stage}:{project}")

    def names(self, stage: StageId) -> tuple[str, str]:
        """Name the sorted set of a stage's projects, by when something was staged for them last, and its revision."""
        return self.key(f"names:{stage}"), self.key(f"names-revision:{stage}")

    def shelf(self, stage: StageId, project: NormalizedName) -> tuple[str, str, str, str]:
        """Name the SHELF_KEYS keys that change with a project's files in a stage."""
        return self.files(stage, project), self.revision(stage, project), *self.names(stage)


@lru_cache(maxsize=8192)  # every page asks by them
def _revisions(keys: Keys, project: NormalizedName, stages: tuple[StageId, ...]) -> tuple[str, ...]:
    return keys.ready, *(keys.revision(stage, project) for stage in stages)


def header(file: StagedFile) -> str:
    """Return the fields that scripts compare, without the last one, `ousted` (`redis_stage_scripts`)."""
    return " ".join(
        (
            file.project,
            file.sha256,
            str(file.serial),
            str(file.size_bytes),
            str(file.staged_at_us),
            file.upload_id,
            file.token_id,
            reach(file.grant),
        )
    )


def reach(grant: str) -> str:
    """Say how far a grant reaches, in the word that scripts compare."""
    return "any" if grant == EVERY_PROJECT else "named"


def body(file: StagedFile) -> bytes:
    """Return the lines that follow the header."""
    return b"\n".join((quoted(file.filename), quoted(file.who), msgspec.json.encode(file)))


def stored(file: StagedFile) -> bytes:
    """Return a file that replaced none as it is stored."""
    return header(file).encode() + b" -\n" + body(file)


def quoted(text: str) -> bytes:
    """Return text as JSON, which has no line breaks."""
    return msgspec.json.encode(text)


def read_file(value: bytes) -> StagedFile:
    """Read a stored file. Raises RecordCorrupt."""
    return read(value.split(b"\n", _HEADER_LINES)[-1], StagedFile)


def read(value: bytes, kind: type[Stored]) -> Stored:
    """Read what is stored as JSON. Raises RecordCorrupt."""
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError as err:
        raise RecordCorrupt(f"in Redis ({kind.__name__})", str(err)) from err


def read_events(first: int, values: Sequence[bytes]) -> tuple[Event, ...]:
    """Read consecutive events, the first of which has the number `first`. Raises RecordCorrupt."""
    return tuple(_event(number, read(value, StoredEvent)) for number, value in enumerate(values, first))


def ended_by(ending: Ending) -> tuple[str, str, str, bytes]:
    """Return an ending as FORGET takes it."""
    return ending.reason.value, EVENT_OF_REASON[ending.reason].value, str(ending.at_us), quoted(ending.who)


def nonce() -> str:
    """Name a state: 72 random bits, so that a ledger rebuilt never repeats a name that a client has seen."""
    return secrets.token_urlsafe(9)


def _event(number: int, event: StoredEvent) -> Event:
    if event.file is not None:
        return events.of_file(number, event.kind, event.file, at_us=event.at_us, who=event.who)
    if event.release is None:
        raise RecordCorrupt("in Redis (StoredEvent)", "it is about nothing")
    held = event.release
    release = ReleaseName(held.project, held.version)
    return events.of_release(number, event.kind, held.promotion, held.stage, release, at_us=event.at_us, who=event.who)
