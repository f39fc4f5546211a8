"""One blob on its way into a bucket: parts of 8 MiB, a few under way at once, all or nothing.

write ──► buffer (one part) ──► room? ──► UploadPart in a thread, at most 3 of one blob, 8 of all blobs together
commit ──► below one part: PutObject; else the rest, wait for all, CompleteMultipartUpload
discard ──► wait for the parts under way (a part that lands after the abort would stay), AbortMultipartUpload, and
            where a commit was asked for, DeleteObject: the answer may have been lost, not the commit

So a blob takes at most 4 parts of memory, and a process 8 parts plus a buffer per upload. What a killed process
leaves is invisible until `S3Blobs.abandon` ends it.
"""

import asyncio
import contextlib
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from overlay.domain.errors import NotFound, StoreUnavailable
from overlay.storage.s3_client import Bucket
from overlay.storage.s3_errors import code_of

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

# S3: at least 5 MiB but for the last, at most 10,000 parts; some servers want all of one size. 80 GiB is enough.
PART_BYTES: Final = 8 * 1024 * 1024
PARTS_PER_BLOB: Final = 3
PARTS_IN_ALL: Final = 8
_WAITS: Final = 3  # × the bucket's patience: many large uploads at once rightly wait for one another


class S3Writer:
    """BlobWriter into a bucket; used by one task at a time."""

    path: Path | None = None

    def __init__(self, bucket: Bucket, key: str, places: asyncio.Semaphore) -> None:
        """Write `key` (below the bucket's prefix); `places` bounds the parts of all writers together."""
        self._bucket = bucket
        self._key = key
        self._places = places
        self._buffer = bytearray()
        self._upload_id = ""
        self._under_way: set[asyncio.Task[None]] = set()
        self._begun = 0
        self._tags: dict[int, str] = {}
        self._size_bytes = 0
        self._asked_to_commit = False

    async def write(self, chunk: bytes) -> None:
        """Append; waits while enough parts are under way. Raises what one of them raised."""
        self._buffer += chunk
        self._size_bytes += len(chunk)
        while len(self._buffer) >= PART_BYTES:
            await self._send_part()

    async def commit(self) -> None:
        """Make the blob visible, whole and durable."""
        if not self._upload_id and not self._begun:
            self._asked_to_commit = True
            await self._bucket.put(self._doing(), self._key, bytes(self._buffer))
            return
        if self._buffer:
            await self._send_part()
        await self._room(0)
        if len(self._tags) != self._begun:
            raise StoreUnavailable(f"A part of an upload was lost while {self._doing()}.")
        self._asked_to_commit = True
        await self._bucket.run(self._doing(), self._complete)

    async def discard(self) -> None:
        """Leave nothing, as far as the server answers. Raises StoreUnavailable."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        client, name, full = self._bucket.client, self._bucket.name, self._bucket.full(self._key)
        if self._upload_id:
            abort = partial(client.abort_multipart_upload, Bucket=name, Key=full, UploadId=self._upload_id)
            with contextlib.suppress(NotFound):
                await self._bucket.run("ending an upload", abort, absent=NotFound(self._key))
        if self._asked_to_commit:
            await self._bucket.delete("taking an upload back", self._key)

    async def _send_part(self) -> None:
        """Start sending the next part once there is room; nothing leaves the buffer before."""
        if not self._upload_id:
            await self._bucket.run(self._doing(), self._begin)
        await self._room(PARTS_PER_BLOB - 1)
        await self._bucket.take(self._places, self._doing(), limit_s=_WAITS * self._bucket.patience_s)
        self._begun += 1
        with memoryview(self._buffer) as view:
            part = BytesIO(view[:PART_BYTES])
        del self._buffer[:PART_BYTES]
        self._under_way.add(asyncio.ensure_future(self._sent(self._begun, part)))

    async def _room(self, most: int) -> None:
        """Wait until at most `most` parts are under way. Raises what one of them raised."""
        while len(self._under_way) > most:
            done, self._under_way = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            for failure in [part.exception() for part in done]:
                if failure is not None:
                    raise failure

    async def _sent(self, number: int, part: BytesIO) -> None:
        try:
            self._tags[number] = await self._bucket.run(self._doing(), partial(self._upload_part, number, part))
        finally:
            self._places.release()

    def _doing(self) -> str:
        return f"storing the blob {self._key}"

    def _begin(self) -> None:
        """Remember the id in the thread itself: a caller cancelled meanwhile must still be able to end the upload."""
        bucket = self._bucket
        begun = bucket.client.create_multipart_upload(
            Bucket=bucket.name, Key=bucket.full(self._key), **bucket.stored_as
        )
        self._upload_id = begun["UploadId"]

    def _upload_part(self, number: int, part: BytesIO) -> str:
        """Send a part and let it go: closed, it holds no memory, whatever still holds it.

        That is boto3, whose requests lie in cycles, and the pool's thread, which drops its work after it is known
        to be done.
        """
        bucket = self._bucket
        with part:
            sent = bucket.client.upload_part(
                Bucket=bucket.name,
                Key=bucket.full(self._key),
                UploadId=self._upload_id,
                PartNumber=number,
                Body=part,
            )
        return sent["ETag"]

    def _complete(self) -> None:
        bucket = self._bucket
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": tag} for number, tag in sorted(self._tags.items())
        ]
        try:
            bucket.client.complete_multipart_upload(
                Bucket=bucket.name,
                Key=bucket.full(self._key),
                UploadId=self._upload_id,
                MultipartUpload={"Parts": parts},
            )
        except ClientError as err:
            # boto3 repeats the call when the first answer is lost; the upload it completed is then unknown.
            if code_of(err) != "NoSuchUpload" or not self._is_there():
                raise

    def _is_there(self) -> bool:
        bucket = self._bucket
        try:
            found = bucket.client.head_object(Bucket=bucket.name, Key=bucket.full(self._key))
        except ClientError:
            return False
        return found["ContentLength"] == self._size_bytes
