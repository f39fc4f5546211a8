"""What we need from the world, as protocols. Each has one conformance suite in `tests/conformance`.

The one of the ledger is in `overlay.domain.ledger_port`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NewType, Protocol

from overlay.domain.names import NormalizedName
from overlay.domain.page import UpstreamPage
from overlay.domain.prepared_list import PreparedList

BlobKey = NewType("BlobKey", str)
"""`<upload-id>/<filename>`, see `overlay.domain.layout`."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One stored blob; `modified_at_s` is seconds since the epoch."""

    key: BlobKey
    size_bytes: int
    modified_at_s: float


class BlobWriter(Protocol):
    """Bytes on their way into a store."""

    @property
    def path(self) -> Path | None:
        """A local file holding every byte written so far, readable until the context ends; None where there is none."""

    async def write(self, chunk: bytes) -> None:
        """Append. The chunk is the writer's from here on. Raises StoreFull, StoreUnavailable."""


class BlobStore(Protocol):
    """Bytes, written once and never changed.

    Errors: BlobNotFound for an unknown key, StoreUnavailable when the store does not answer, StoreFull when it takes
    no more.
    """

    def create(self, key: BlobKey) -> AbstractAsyncContextManager[BlobWriter]:
        """Write one blob. A clean exit commits it durably, an exception or a cancellation leaves nothing."""

    async def size(self, key: BlobKey) -> int:
        """Bytes stored under the key."""

    def read(self, key: BlobKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of [start, stop) in chunks. Raises BlobNotFound at the first step. The caller closes it."""

    async def locate(self, key: BlobKey) -> Path | None:
        """Return a local file with the bytes (for sendfile); None, whatever the key, where the store has no files."""

    async def delete(self, key: BlobKey) -> None:
        """Delete; deleting what is not there is fine."""

    def infos(self) -> AsyncIterator[BlobInfo]:
        """List every blob, in any order. Blobs made or deleted meanwhile may or may not appear."""

    async def abandon(self, *, begun_before_s: float) -> int:
        """Clear away what writers that never ended (a killed process) left; returns how many.

        Only what was begun before that moment, in seconds since the epoch: a writer that lives on after it fails.
        """


class Presigns(Protocol):
    """What a BlobStore may be able to do besides: let clients fetch a blob from the store itself."""

    async def presigned(self, key: BlobKey, *, filename: str, expires_s: int) -> str:
        """Form a URL that answers GET, also with Range, to anybody until it expires; it names the file `filename`.

        Does not look whether the blob is there. Raises StoreUnavailable.
        """


class Documents(Protocol):
    """Small documents, replaced whole: the durable truth. Keys are slash-separated, see `overlay.domain.layout`."""

    async def put(self, key: str, body: bytes) -> None:
        """Store durably; a reader sees the old or the new document, never a mixture."""

    async def get(self, key: str) -> bytes:
        """Read one. Raises DocumentNotFound."""

    async def delete(self, key: str) -> None:
        """Delete durably; deleting what is not there is fine."""

    def keys(self, prefix: str) -> AsyncIterator[str]:
        """List the keys below a prefix that ends in a slash, or in one of the `parts` of RECORDS or HISTORY.

        They come in any order.
        """

    def parts(self, prefix: str) -> Sequence[str]:
        """Divide RECORDS or HISTORY: these prefixes have all the keys between them, and no key is in two of them.

        They are worth asking for side by side: it is one prefix where that takes longer.
        """

    def scan(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """Read every document below a prefix that ends in a slash, in any order.

        One that vanishes meanwhile is left out.
        """


class UpstreamSource(Protocol):
    """The live index itself, uncached."""

    async def fetch(self, project: NormalizedName, previous: UpstreamPage | None) -> UpstreamPage:
        """Ask for a project page, conditionally when `previous` is given (then it may be returned with a new time).

        Raises UpstreamUnavailable (no answer, 5xx, refusal) and UpstreamCorrupt (an answer that is no page).
        """


class Upstream(Protocol):
    """The index we overlay, as its readers see it: cached, one flight per project."""

    async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:
        """Return upstream's page; `body` None means that upstream said it has no such project.

        Without `no_older_than_s` the rules for readers hold (design §4): fresh, else stale while revalidating, else
        stale when upstream fails. With it the answer is at most that many seconds old, or an error.
        Raises UpstreamUnavailable, UpstreamCorrupt.
        """

    def in_hand(self, project: NormalizedName) -> UpstreamPage | None:
        """Return the page if `page` would give it to a reader at once, from memory; else None."""

    @property
    def trouble(self) -> str:
        """Why the last question to upstream failed, in a sentence without secrets; "" when it was answered."""

    async def known(self, project: NormalizedName) -> UpstreamPage | None:
        """Return the page in hand, however old within `stale_s`; never waits for upstream, never raises for it."""


class ProjectList(Protocol):
    """Upstream's list of projects."""

    async def prepared(self) -> PreparedList:
        """Return the list in hand, revalidated in the background; the first call waits for upstream.

        Raises UpstreamUnavailable, UpstreamCorrupt when there is none within `stale_s`.
        """
