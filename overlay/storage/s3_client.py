"""One bucket of an S3 server under one prefix, over boto3 in threads of its own.

boto3 blocks, so every call runs in a pool with one thread per connection. A call that finds no free thread within the
read timeout fails: while the server hangs, requests must not queue up behind those that wait for their timeouts.

Bodies are signed (x-amz-content-sha256), so the server checks what arrives over HTTP and HTTPS alike, and boto3's
checksums are off: over HTTPS they turn bodies into aws-chunked, which some servers store as the Content-Encoding.
Answers are never decoded, whatever Content-Encoding they carry, and ETags are handed back, never compared.
Rejected: aiobotocore (pins botocore, a second client to follow), s3transfer (its own threads, no backpressure).

Rights needed: s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on `<bucket>/<prefix>*`,
s3:ListBucket (it may be bound to the prefix by s3:prefix) and s3:ListBucketMultipartUploads on the bucket; with a KMS
key kms:GenerateDataKey and kms:Decrypt on it. Without ListBucket a missing key looks like a refusal.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal, TypedDict, TypeVar, cast
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import InvalidRegionError

from overlay.caching.threads import in_thread, uninterrupted
from overlay.domain.errors import NotFound, OverlayError, StoreUnavailable
from overlay.domain.measures import NO_MEASURES, Measures
from overlay.storage import s3_session
from overlay.storage.s3_errors import FOREIGN, is_absent, translated

if TYPE_CHECKING:  # the stubs are no dependency at run time
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ServerSideEncryptionType, StorageClassType
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ObjectTypeDef

Result = TypeVar("Result")
Addressing = Literal["auto", "path", "virtual"]

_ATTEMPTS: Final = 2  # one repeat of what may pass; with refused connections a call then fails within about a second
# A larger body goes out in blocks with a timeout each: the whole of a `bytes` must leave within one timeout.
_AT_ONCE_BYTES: Final = 64 * 1024


class StoredAs(TypedDict, total=False):
    """What every new object is given."""

    ServerSideEncryption: "ServerSideEncryptionType"
    SSEKMSKeyId: str
    StorageClass: "StorageClassType"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """The operator's `[store]`; what is empty is left to boto3 (environment, profile, instance)."""

    bucket: str
    prefix: str = ""
    """Before every key, with or without a slash at its end; overlays under different ones may share a bucket."""
    endpoint_url: str = ""
    region: str = ""
    addressing: Addressing = "auto"
    encryption: str = ""
    """"AES256" or "aws:kms"; empty: the bucket's own."""
    kms_key_id: str = ""
    storage_class: str = ""
    connections: int = 32
    """Calls at once, and threads; downloads under way may hold as many connections besides."""
    connect_timeout_s: float = 2
    read_timeout_s: float = 10
    """Without a byte; not for a whole download."""
    clean_up_s: float = 2
    """How long the answer to a failed upload waits until nothing is left of it; what takes longer goes on alone."""


class Bucket:
    """The bucket: blocking calls in threads, errors in our words, keys below the prefix."""

    def __init__(
        self,
        client: "S3Client",
        session: boto3.Session,
        settings: S3Settings,
        pool: ThreadPoolExecutor,
        measures: Measures = NO_MEASURES,
    ) -> None:
        """Use `client`, which `session` made, from the threads of `pool` alone; both are closed by `open_bucket`."""
        self.measures = measures
        self.client = client
        self.session = session
        self.settings = settings
        self.name = settings.bucket
        self.stored_as = _stored_as(settings)
        self._prefix = f"{settings.prefix.strip('/')}/" if settings.prefix.strip("/") else ""
        self.patience_s = settings.read_timeout_s
        self._pool = pool
        self._free = asyncio.Semaphore(settings.connections)
        self._place = f"bucket {settings.bucket!r} at {urlsplit(client.meta.endpoint_url).netloc.rpartition('@')[2]}"
        self._clean_ups: set[asyncio.Task[None]] = set()

    def full(self, key: str) -> str:
        """Return the key as the server knows it."""
        return self._prefix + key

    async def run(self, doing: str, work: Callable[[], Result], *, absent: NotFound | None = None) -> Result:
        """Run a blocking call in a thread and wait for its end even when cancelled.

        `doing` begins with one of few verbs, by which calls are measured. Raises `absent` where the answer is that
        there is no such key, StoreUnavailable, StoreFull.
        """
        began_s, answered = time.perf_counter(), False
        try:
            result = await self._run(doing, work, absent)
            answered = True
        except NotFound:
            answered = True
            raise
        finally:
            self.measures.asked_store(doing.partition(" ")[0], time.perf_counter() - began_s, answered=answered)
        return result

    async def _run(self, doing: str, work: Callable[[], Result], absent: NotFound | None) -> Result:
        await self.take(self._free, doing, limit_s=self.patience_s)
        try:
            return await uninterrupted(asyncio.get_running_loop().run_in_executor(self._pool, work))
        except FOREIGN as err:
            if absent is not None and is_absent(err):
                raise absent from err
            raise translated(err, doing, self._place) from err
        finally:
            self._free.release()

    async def take(self, places: asyncio.Semaphore, doing: str, *, limit_s: float) -> None:
        """Wait for a place, bounded. Raises StoreUnavailable."""
        try:
            async with asyncio.timeout(limit_s):
                await places.acquire()
        except TimeoutError as err:
            raise StoreUnavailable(
                f"S3 is busy: {doing} waited for {limit_s:g} s behind other requests ({self._place}). "
                "Check how fast the server answers."
            ) from err

    async def clean_up(self, work: Coroutine[None, None, None]) -> None:
        """Do what tidies up after a failure: waited for a while, then left to go on alone, at last left to sweep."""
        task = asyncio.ensure_future(_tried(work))
        self._clean_ups.add(task)
        task.add_done_callback(self._clean_ups.discard)
        await uninterrupted(asyncio.wait({task}, timeout=self.settings.clean_up_s))

    async def put(self, doing: str, key: str, body: bytes) -> None:
        """Store an object whole; once this returns every reader sees it."""
        await self.run(doing, partial(self._put, self.full(key), body))

    async def delete(self, doing: str, key: str) -> None:
        """Delete an object; one that is not there is fine (S3 answers alike)."""
        with contextlib.suppress(NotFound):  # some servers say so nevertheless
            delete = partial(self.client.delete_object, Bucket=self.name, Key=self.full(key))
            await self.run(doing, delete, absent=NotFound(key))

    async def pages(self, doing: str, prefix: str) -> AsyncGenerator[list[tuple[str, "ObjectTypeDef"]], None]:
        """List the objects below a prefix by key and what is known of them, a page (up to 1000) at a time, one ahead.

        The caller closes it.
        """
        listing = self.client.get_paginator("list_objects_v2")
        pages = iter(listing.paginate(Bucket=self.name, Prefix=self.full(prefix)))
        ahead = self._page(doing, pages)
        try:
            while page := await ahead:
                ahead = self._page(doing, pages)
                yield [(found["Key"].removeprefix(self._prefix), found) for found in page.get("Contents", ())]
        finally:
            await uninterrupted(asyncio.gather(ahead, return_exceptions=True))

    async def check(self) -> None:
        """Ask the server one small question. Raises StoreUnavailable saying what to check."""
        ask = partial(self.client.list_objects_v2, Bucket=self.name, Prefix=self._prefix, MaxKeys=1)
        await self.run("asking for the bucket", ask)

    async def close(self) -> None:
        """Wait for what still tidies up."""
        await asyncio.gather(*self._clean_ups)

    def _page(
        self, doing: str, pages: "Iterator[ListObjectsV2OutputTypeDef]"
    ) -> "asyncio.Task[ListObjectsV2OutputTypeDef | None]":
        return asyncio.ensure_future(self.run(doing, partial(next, pages, None)))

    def _put(self, key: str, body: bytes) -> None:
        sent = body if len(body) <= _AT_ONCE_BYTES else BytesIO(body)
        self.client.put_object(Bucket=self.name, Key=key, Body=sent, **self.stored_as)


@contextlib.asynccontextmanager
async def open_bucket(
    settings: S3Settings, session: boto3.Session | None = None, *, measures: Measures = NO_MEASURES
) -> AsyncIterator[Bucket]:
    """Make a client, asking nothing yet; without a `session` with credentials of boto3's own chain.

    Raises StoreUnavailable for a configuration boto3 cannot use.
    """
    client, used = await in_thread(_client, settings, session)
    pool = ThreadPoolExecutor(settings.connections, thread_name_prefix="s3")
    bucket = Bucket(client, used, settings, pool, measures)
    try:
        yield bucket
    finally:
        await uninterrupted(bucket.close())
        await in_thread(pool.shutdown)
        await in_thread(client.close)


async def _tried(work: Coroutine[None, None, None]) -> None:
    with contextlib.suppress(OverlayError):
        await work


def _client(settings: S3Settings, session: boto3.Session | None) -> "tuple[S3Client, boto3.Session]":
    try:
        session = session or s3_session.made()
        client = _made(settings, session, settings.addressing)
        at_amazon = (urlsplit(client.meta.endpoint_url).hostname or "").endswith(".amazonaws.com")
        if at_amazon and settings.addressing == "auto" and "." not in settings.bucket:
            # What "auto" means there, but with "auto" boto3 signs URLs for the global endpoint, not for the region's.
            client.close()
            client = _made(settings, session, "virtual")
    except InvalidRegionError as err:  # a ValueError, too
        raise StoreUnavailable(
            "S3 cannot be used: [store] region (where that is empty, AWS_DEFAULT_REGION or the profile's) must be the "
            "name of a region, such as eu-central-1."
        ) from err
    except ValueError as err:  # an endpoint_url that is no URL
        raise StoreUnavailable("S3 cannot be used: [store] endpoint_url must be an http(s) URL.") from err
    except FOREIGN as err:
        raise translated(err, "setting up", f"bucket {settings.bucket!r}") from err
    return client, session


def _made(settings: S3Settings, session: boto3.Session, addressing: Addressing) -> "S3Client":
    return session.client(
        "s3",
        endpoint_url=settings.endpoint_url or None,
        # Servers other than Amazon's rarely have regions, but a signature names one: theirs is this by convention.
        region_name=settings.region or session.region_name or "us-east-1",
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": addressing, "payload_signing_enabled": True},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=settings.connections,
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            tcp_keepalive=True,
        ),
    )


def _stored_as(settings: S3Settings) -> StoredAs:
    stored_as = StoredAs()
    if settings.encryption:
        stored_as["ServerSideEncryption"] = cast("ServerSideEncryptionType", settings.encryption)
    if settings.kms_key_id:
        stored_as["SSEKMSKeyId"] = settings.kms_key_id
    if settings.storage_class:
        stored_as["StorageClass"] = cast("StorageClassType", settings.storage_class)
    return stored_as
