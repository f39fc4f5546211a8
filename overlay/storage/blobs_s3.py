"""Blobs in a bucket: `<prefix>/blobs/<upload-id>/<filename>`.

A blob is read through one GetObject, 1 MiB at a time, one chunk ahead of the consumer: while a chunk goes out to the
client the next one comes in. The answer's body is closed when the consumer stops early; its connection is then lost to
the pool, which is cheaper than reading the rest.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from overlay.caching.threads import uninterrupted
from overlay.domain.errors import BlobNotFound, StoreUnavailable
from overlay.domain.ports import BlobInfo, BlobKey
from overlay.storage.s3_client import Bucket
from overlay.storage.s3_errors import is_absent, status_of
from overlay.storage.s3_upload import PARTS_IN_ALL, S3Writer

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.type_defs import MultipartUploadTypeDef

READ_BYTES: Final = 1024 * 1024  # measured: a thread switch costs little at this size, and two are held per download
_FOLDER: Final = "blobs/"


class S3Blobs:
    """BlobStore over a bucket, below `blobs/`."""

    def __init__(self, bucket: Bucket) -> None:
        """Use the bucket, which its opener closes."""
        self._bucket = bucket
        self._places = asyncio.Semaphore(PARTS_IN_ALL)

    @contextlib.asynccontextmanager
    async def create(self, key: BlobKey) -> AsyncIterator[S3Writer]:
        """Write one blob; see BlobStore."""
        writer = S3Writer(self._bucket, _FOLDER + key, self._places)
        try:
            yield writer
            await uninterrupted(writer.commit())
        except BaseException:
            await self._bucket.clean_up(writer.discard())
            raise

    async def size(self, key: BlobKey) -> int:
        """Return the bytes stored under the key."""
        return await self._bucket.run(
            f"asking for the size of the blob {key}", partial(self._size, key), absent=BlobNotFound(key)
        )

    async def read(self, key: BlobKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield [start, stop) in chunks of 1 MiB, reading one ahead of the consumer."""
        if stop is not None and stop <= start:
            await self.size(key)
            return
        doing = f"reading the blob {key}"
        with contextlib.closing(_Body(self._bucket, _FOLDER + key, start, stop)) as body:
            await self._bucket.run(doing, body.open, absent=BlobNotFound(key))
            ahead = asyncio.ensure_future(self._bucket.run(doing, body.read))
            try:
                while chunk := await ahead:
                    if body.left:
                        ahead = asyncio.ensure_future(self._bucket.run(doing, body.read))
                        yield chunk
                    else:
                        yield chunk
                        return
            finally:
                # The thread must have left the body before it is closed.
                await uninterrupted(asyncio.gather(ahead, return_exceptions=True))

    async def locate(self, key: BlobKey) -> None:
        """Return None: nothing is local."""

    async def delete(self, key: BlobKey) -> None:
        """Delete the blob."""
        await self._bucket.delete(f"deleting the blob {key}", _FOLDER + key)

    async def infos(self) -> AsyncIterator[BlobInfo]:
        """List every blob."""
        async with contextlib.aclosing(self._bucket.pages("listing the blobs", _FOLDER)) as pages:
            async for page in pages:
                for key, found in page:
                    modified_at_s = found["LastModified"].timestamp()
                    yield BlobInfo(BlobKey(key.removeprefix(_FOLDER)), found["Size"], modified_at_s)

    async def abandon(self, *, begun_before_s: float) -> int:
        """End the multipart uploads that killed processes left, and say how many there were."""
        bucket, doing = self._bucket, "looking for unfinished uploads"
        uploads = await bucket.run(doing, self._unfinished)
        old = [upload for upload in uploads if upload["Initiated"].timestamp() < begun_before_s]
        for upload in old:
            abort = partial(
                bucket.client.abort_multipart_upload,
                Bucket=bucket.name,
                Key=upload["Key"],
                UploadId=upload["UploadId"],
            )
            absent = BlobNotFound(upload["Key"])
            with contextlib.suppress(BlobNotFound):  # it ended meanwhile
                await bucket.run("ending an unfinished upload", abort, absent=absent)
        return len(old)

    async def presigned(self, key: BlobKey, *, filename: str, expires_s: int) -> str:
        """Return a URL that serves the blob to anybody for `expires_s`; see Presigns.

        In a thread: 0.4 ms of computing, and temporary credentials may have to be renewed.
        """
        return await self._bucket.run(
            "signing a download",
            partial(
                self._bucket.client.generate_presigned_url,
                "get_object",
                Params={
                    "Bucket": self._bucket.name,
                    "Key": self._bucket.full(_FOLDER + key),
                    "ResponseContentDisposition": f'attachment; filename="{filename}"',
                    "ResponseContentType": "application/octet-stream",
                },
                ExpiresIn=expires_s,
            ),
        )

    def _size(self, key: BlobKey) -> int:
        client, name, full = self._bucket.client, self._bucket.name, self._bucket.full(_FOLDER + key)
        try:
            return client.head_object(Bucket=name, Key=full)["ContentLength"]
        except ClientError as err:
            if is_absent(err):
                # An answer to HEAD has no body and so does not say whether the key or the bucket is missing. This does.
                client.list_objects_v2(Bucket=name, Prefix=full, MaxKeys=1)
            raise

    def _unfinished(self) -> "list[MultipartUploadTypeDef]":
        listing = self._bucket.client.get_paginator("list_multipart_uploads")
        pages = listing.paginate(Bucket=self._bucket.name, Prefix=self._bucket.full(_FOLDER))
        return [upload for page in pages for upload in page.get("Uploads", ())]


class _Body:
    """The bytes [start, stop) of an object on their way in; used by one thread at a time."""

    def __init__(self, bucket: Bucket, key: str, start: int, stop: int | None) -> None:
        self.left = 0
        self._bucket = bucket
        self._key = key
        self._start = start
        self._stop = stop
        self._stream: StreamingBody | None = None

    def open(self) -> None:
        """Ask for the bytes. Keeps the answer itself: a caller cancelled meanwhile must still be able to close it."""
        bucket, full = self._bucket, self._bucket.full(self._key)
        if self._start == 0 and self._stop is None:
            answer = bucket.client.get_object(Bucket=bucket.name, Key=full)
        else:
            last = "" if self._stop is None else self._stop - 1
            try:
                answer = bucket.client.get_object(Bucket=bucket.name, Key=full, Range=f"bytes={self._start}-{last}")
            except ClientError as err:
                if status_of(err) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return  # it begins at or beyond the end of the blob: no bytes
                raise
            if answer["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.PARTIAL_CONTENT:
                answer["Body"].close()
                raise StoreUnavailable("The S3 server ignores Range, which this overlay needs.")
        self._stream, self.left = answer["Body"], answer["ContentLength"]

    def read(self) -> bytes:
        """Return up to 1 MiB; b"" only at the end: boto3 raises for a body that is shorter than its Content-Length."""
        if self._stream is None or not self.left:
            return b""
        chunk = self._stream.read(min(READ_BYTES, self.left))
        self.left -= len(chunk)
        return chunk

    def close(self) -> None:
        """Give the connection up, or back where everything was read."""
        if self._stream is not None:
            self._stream.close()
