"""The durable documents as bytes: records, history, tokens and promotions (JSON, one schema version inside each).

Unknown keys of the same schema are ignored, so a newer program may add some; a document with a greater schema version
is refused, never misread.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import msgspec

from overlay.domain.errors import RecordCorrupt
from overlay.domain.promotion import JournalEntry, Promotion, PromotionReceipt
from overlay.domain.rights import Token
from overlay.domain.stage import Gone, StagedFile

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A staged file with what only promotion needs again: the form as it was sent, and attestations verbatim."""

    file: StagedFile
    form: tuple[tuple[str, str], ...]
    """Fields in the order sent; without the file, the description (it is in the core metadata) and attestations."""
    attestations: str | None
    """The JSON text of the field, not verified (PEP 740)."""
    replace: bool = True
    """False for an add-only upload until it was shown: till then it takes the name from nobody."""
    live_since_us: int | None = None
    """When upstream was first seen to have the file; microseconds since the epoch."""
    live_url: str | None = None
    """Where upstream has the file, once it was seen there."""
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """The document of an upload that ended."""

    gone: Gone
    live_url: str | None = None
    """Where upstream has the file, for what ended because it is live."""
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDocument:
    """The document of a token; it holds the hash of the text, never the text."""

    token: Token
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepMark:
    """The document that says when the last regular sweep began."""

    begun_at_us: int
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionDocument:
    """The document of a promotion that is under way."""

    promotion: Promotion
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalDocument:
    """The document that says how far one file of a promotion came."""

    entry: JournalEntry
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptDocument:
    """The document of a promotion that ended."""

    receipt: PromotionReceipt
    schema: int = SCHEMA


class _Version(msgspec.Struct):
    schema: int


Document = TypeVar(
    "Document",
    Record,
    HistoryEntry,
    TokenDocument,
    SweepMark,
    PromotionDocument,
    JournalDocument,
    ReceiptDocument,
)
AnyDocument: TypeAlias = (
    Record | HistoryEntry | TokenDocument | SweepMark | PromotionDocument | JournalDocument | ReceiptDocument
)

_encoder: Final = msgspec.json.Encoder(order="deterministic")
_version: Final = msgspec.json.Decoder(_Version)


def encode(document: AnyDocument) -> bytes:
    """Form the document's bytes; the same document gives the same bytes."""
    return _encoder.encode(document)


def encode_mark() -> bytes:
    """Form the document that marks a store."""
    return _encoder.encode(_Version(SCHEMA))


def check_mark(key: str, body: bytes) -> None:
    """Refuse a store of a newer program. Raises RecordCorrupt."""
    try:
        _check_schema(key, _version.decode(body).schema)
    except msgspec.DecodeError as err:
        raise RecordCorrupt(key, str(err)) from err


def decode(key: str, body: bytes, kind: type[Document]) -> Document:
    """Read a document. Raises RecordCorrupt, naming the key."""
    try:
        _check_schema(key, _version.decode(body).schema)
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as err:
        raise RecordCorrupt(key, str(err)) from err


def _check_schema(key: str, schema: int) -> None:
    if schema > SCHEMA:
        raise RecordCorrupt(
            key, f"it has schema {schema}, this program knows up to {SCHEMA}; run the newer version of overlay"
        )
