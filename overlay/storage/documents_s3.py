"""Documents in a bucket: one object a key, below the bucket's prefix.

A rebuild reads every record, and what that costs is computing: so a scan reads by `s3_plain_reads`.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from overlay.caching.threads import uninterrupted
from overlay.domain.errors import DocumentNotFound
from overlay.domain.layout import parts
from overlay.storage.s3_client import Bucket
from overlay.storage.s3_plain_reads import PlainReads, plain_reads

_READS_AT_ONCE: Final = 32


class S3Documents:
    """Documents over a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        """Use the bucket, which its opener closes."""
        self._bucket = bucket

    async def put(self, key: str, body: bytes) -> None:
        """Store durably."""
        await self._bucket.put(f"writing the document {key}", key, body)

    async def get(self, key: str) -> bytes:
        """Read one. Raises DocumentNotFound."""
        return await self._bucket.run(
            f"reading the document {key}", partial(self._get, key), absent=DocumentNotFound(key)
        )

    async def delete(self, key: str) -> None:
        """Delete durably."""
        await self._bucket.delete(f"deleting the document {key}", key)

    async def keys(self, prefix: str) -> AsyncGenerator[str, None]:
        """List the keys below the prefix."""
        async with contextlib.aclosing(self._bucket.pages("listing the documents", prefix)) as pages:
            async for page in pages:
                for key, _ in page:
                    yield key

    def parts(self, prefix: str) -> tuple[str, ...]:
        """Divide RECORDS or HISTORY: an answer names no more than 1,000 keys."""
        return parts(prefix)

    async def scan(self, prefix: str) -> AsyncGenerator[tuple[str, bytes], None]:
        """Read every document below the prefix, 32 at once, in the order in which they come in."""
        reads: set[asyncio.Task[tuple[str, bytes] | None]] = set()
        async with (
            plain_reads(self._bucket, at_once=_READS_AT_ONCE) as plain,
            contextlib.aclosing(self._bucket.pages("listing the documents", prefix)) as pages,
        ):
            try:
                async for page in pages:
                    await plain.renew()
                    for key, _ in page:
                        reads.add(asyncio.ensure_future(self._found(key, plain)))
                        async for found in _ended(reads, _READS_AT_ONCE - 1):
                            yield found
                async for found in _ended(reads, 0):
                    yield found
            finally:
                for read in reads:
                    read.cancel()
                await uninterrupted(asyncio.gather(*reads, return_exceptions=True))

    async def _found(self, key: str, plain: PlainReads) -> tuple[str, bytes] | None:
        body = await plain.read(self._bucket.full(key))
        with contextlib.suppress(DocumentNotFound):  # it vanished after it was listed
            return key, await self.get(key) if body is None else body
        return None

    def _get(self, key: str) -> bytes:
        with self._bucket.client.get_object(Bucket=self._bucket.name, Key=self._bucket.full(key))["Body"] as body:
            return body.read()


async def _ended(
    reads: set[asyncio.Task[tuple[str, bytes] | None]], most: int
) -> AsyncGenerator[tuple[str, bytes], None]:
    """Yield what reads brought until at most `most` are under way."""
    while len(reads) > most:
        done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
        for read in done:
            found = read.result()
            reads.discard(read)
            if found is not None:
                yield found
