"""What the S3 stores do beyond what every store does: memory, threads, prefixes, leftovers, signed URLs."""

import asyncio
import gzip
import os
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from overlay.domain.errors import StoreUnavailable
from overlay.domain.ports import BlobKey
from overlay.storage.blobs_s3 import S3Blobs
from overlay.storage.documents_s3 import S3Documents
from overlay.storage.s3_client import Bucket, open_bucket
from overlay.storage.s3_upload import PART_BYTES, S3Writer
from tests.s3_server import S3Server

MIB = 1024 * 1024
KEY = BlobKey("0123456789abcdef0123456789abcdef/demo-1.0.tar.gz")


@pytest.fixture
async def bucket(s3_server: S3Server, tmp_path: Path) -> AsyncIterator[Bucket]:
    async with open_bucket(s3_server.settings(tmp_path.name), s3_server.session) as opened:
        yield opened


@pytest.fixture
def blobs(bucket: Bucket) -> S3Blobs:
    return S3Blobs(bucket)


async def write(blobs: S3Blobs, key: BlobKey, body: bytes, *, times: int = 1) -> None:
    async with blobs.create(key) as writer:
        for _ in range(times):
            await writer.write(body)


async def read(blobs: S3Blobs, key: BlobKey) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(key)])


async def test_memory_does_not_grow_with_the_blob(blobs: S3Blobs) -> None:
    """64 MiB go up and come down at less than 40 MiB: four parts on their way up, two chunks on their way down."""
    chunk = os.urandom(MIB // 4)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await write(blobs, KEY, chunk, times=256)
        _, up = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        size = 0
        async for received in blobs.read(KEY):
            size += len(received)
        _, down = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 64 * MIB
    assert up - before < 40 * MIB
    assert down - before < 8 * MIB


async def test_boto_never_runs_on_the_loops_thread(bucket: Bucket) -> None:
    """Every call, also one that only signs, is made in a thread of the bucket's pool."""
    names: set[str] = set()
    bucket.client.meta.events.register(
        "provide-client-params.s3", lambda **_: names.add(threading.current_thread().name)
    )
    blobs, documents = S3Blobs(bucket), S3Documents(bucket)
    await write(blobs, KEY, bytes(PART_BYTES + 1))
    await blobs.size(KEY)
    await read(blobs, KEY)
    await blobs.presigned(KEY, filename="demo-1.0.tar.gz", expires_s=60)
    await documents.put("records/demo/a.json", b"{}")
    assert [found async for found in documents.scan("records/")] == [("records/demo/a.json", b"{}")]
    assert [info.key async for info in blobs.infos()] == [KEY]
    await blobs.abandon(begun_before_s=0)
    await blobs.delete(KEY)
    await bucket.check()
    assert names
    assert all(name.startswith("s3") for name in names), names


async def test_stores_under_other_prefixes_are_not_seen(s3_server: S3Server, tmp_path: Path) -> None:
    """Also where one prefix begins like the other; and no key shows the prefix."""
    here, there = tmp_path.name, f"{tmp_path.name}x/"
    async with (
        open_bucket(s3_server.settings(here), s3_server.session) as one,
        open_bucket(s3_server.settings(there), s3_server.session) as other,
    ):
        for bucket, body in ((one, b"one"), (other, b"other")):
            await write(S3Blobs(bucket), KEY, body)
            await S3Documents(bucket).put("records/demo/a.json", body)
        for bucket, body in ((one, b"one"), (other, b"other")):
            assert [info.key async for info in S3Blobs(bucket).infos()] == [KEY]
            assert [key async for key in S3Documents(bucket).keys("records/")] == ["records/demo/a.json"]
            assert await read(S3Blobs(bucket), KEY) == body
        await S3Blobs(one).delete(KEY)
        assert await S3Blobs(other).size(KEY) == 5
    found = s3_server.session.client("s3", endpoint_url=s3_server.endpoint_url).list_objects_v2(
        Bucket=s3_server.bucket, Prefix=there
    )
    assert {held["Key"] for held in found["Contents"]} == {f"{there}blobs/{KEY}", f"{there}records/demo/a.json"}


async def test_uploads_of_killed_processes_are_ended(bucket: Bucket, blobs: S3Blobs) -> None:
    """Once they are old enough, below the prefix only; sweep finds what no list of objects shows."""
    client, mine, foreign = bucket.client, bucket.full(f"blobs/{KEY}"), f"elsewhere-{bucket.full('')}{KEY}"
    for key in (mine, foreign):
        begun = client.create_multipart_upload(Bucket=bucket.name, Key=key)
        client.upload_part(
            Bucket=bucket.name, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=bytes(PART_BYTES)
        )
    assert await blobs.abandon(begun_before_s=time.time() - 3600) == 0
    assert await blobs.abandon(begun_before_s=time.time() + 3600) == 1
    assert await blobs.abandon(begun_before_s=time.time() + 3600) == 0
    left = client.list_multipart_uploads(Bucket=bucket.name, Prefix=foreign).get("Uploads", [])
    assert [upload["Key"] for upload in left] == [foreign]


async def test_a_commit_may_be_repeated_after_a_lost_answer(bucket: Bucket, blobs: S3Blobs) -> None:
    """boto3 repeats what got no answer; that the upload is complete already is no failure, that it is gone is one."""
    writer = S3Writer(bucket, f"blobs/{KEY}", asyncio.Semaphore(1))
    await writer.write(bytes(PART_BYTES + 1))
    await writer.commit()
    await writer.commit()
    assert await blobs.size(KEY) == PART_BYTES + 1
    await blobs.delete(KEY)
    with pytest.raises(StoreUnavailable):
        await writer.commit()


@pytest.mark.parametrize("encoding", ["aws-chunked", "gzip", "aws-chunked,gzip"])
async def test_a_stored_content_encoding_is_not_believed(bucket: Bucket, blobs: S3Blobs, encoding: str) -> None:
    """Some servers keep `aws-chunked`, some proxies add their own: the bytes are the bytes."""
    body = gzip.compress(b"demo" * 1000)
    full = bucket.full(f"blobs/{KEY}")
    bucket.client.put_object(Bucket=bucket.name, Key=full, Body=body, ContentEncoding=encoding)
    assert await read(blobs, KEY) == body
    assert await blobs.size(KEY) == len(body)


async def test_a_reader_that_stops_early_leaves_no_connection(s3_server: S3Server, bucket: Bucket) -> None:
    """The answer's body is closed, not left to the garbage collector (here it is kept from it) nor read to its end."""
    blobs, kept = S3Blobs(bucket), []
    bucket.client.meta.events.register("after-call.s3.GetObject", lambda parsed, **_: kept.append(parsed))
    await write(blobs, KEY, bytes(PART_BYTES), times=2)

    def connections() -> int:
        port = int(s3_server.endpoint_url.rpartition(":")[2])
        open_ones = [one for one in psutil.Process().net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED]
        return [one.raddr[1] for one in open_ones].count(port)

    before = connections()
    chunks = [blobs.read(KEY) for _ in range(5)]
    for one in chunks:
        assert await anext(one)
    assert connections() >= 5
    for one in chunks:
        await one.aclose()
    assert connections() <= before
    assert len(kept) == 5


async def test_a_signed_url_serves_the_blob_to_anybody(blobs: S3Blobs) -> None:
    """A plain client without credentials gets it, also a range of it, under the file's name."""
    body = bytes(range(256)) * 100
    await write(blobs, KEY, body)
    url = await blobs.presigned(KEY, filename="demo-1.0.tar.gz", expires_s=60)
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert (response.status, await response.read()) == (200, body)
            assert response.headers["Content-Disposition"] == 'attachment; filename="demo-1.0.tar.gz"'
        async with session.get(url, headers={"Range": "bytes=10-19"}) as response:
            assert (response.status, await response.read()) == (206, body[10:20])
        async with session.get(url.replace("demo-1.0.tar.gz?", "demo-1.1.tar.gz?")) as response:
            assert response.status == 403
