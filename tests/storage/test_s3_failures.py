"""A silent, dead or refusing S3 server is StoreUnavailable, soon, in a sentence that says what to check."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import boto3
import pytest

from overlay.domain.errors import StoreUnavailable
from overlay.domain.ports import BlobKey
from overlay.storage.blobs_s3 import S3Blobs
from overlay.storage.documents_s3 import S3Documents
from overlay.storage.s3_client import Bucket, open_bucket
from overlay.storage.s3_upload import PART_BYTES
from tests.s3_server import REGION, S3Server, SeaweedFS, s3_server_in

pytestmark = pytest.mark.faults

KEY = BlobKey("0123456789abcdef0123456789abcdef/demo-1.0.tar.gz")
# Two attempts of at most half a second (or of none, where connections are refused), a pause, two seconds of tidying up:
# five in all. The rest is for a machine that has other things to do; boto3's own patience would be far longer.
BOUNDED_S = 30

Ask = Callable[[Bucket], Awaitable[object]]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A server for this module alone, to be stopped and frozen."""
    with s3_server_in(tmp_path_factory.mktemp("own-s3")) as server:
        yield server


async def write(bucket: Bucket, size: int = 3) -> None:
    async with S3Blobs(bucket).create(KEY) as writer:
        await writer.write(bytes(size))


async def read(bucket: Bucket) -> int:
    return await drained(S3Blobs(bucket).read(KEY))


async def drained(chunks: AsyncIterator[bytes]) -> int:
    return sum([len(chunk) async for chunk in chunks])


async def infos(bucket: Bucket) -> list[BlobKey]:
    return [info.key async for info in S3Blobs(bucket).infos()]


async def scan(bucket: Bucket) -> list[str]:
    return [key async for key, _ in S3Documents(bucket).scan("records/")]


ASKS: dict[str, Ask] = {
    "write": write,
    "write a large one": lambda bucket: write(bucket, PART_BYTES + 1),
    "size": lambda bucket: S3Blobs(bucket).size(KEY),
    "read": read,
    "delete": lambda bucket: S3Blobs(bucket).delete(KEY),
    "infos": infos,
    "abandon": lambda bucket: S3Blobs(bucket).abandon(begun_before_s=0),
    "put": lambda bucket: S3Documents(bucket).put("records/demo/a.json", b"{}"),
    "get": lambda bucket: S3Documents(bucket).get("records/demo/a.json"),
    "delete a document": lambda bucket: S3Documents(bucket).delete("records/demo/a.json"),
    "scan": scan,
    "check": lambda bucket: bucket.check(),
}


async def refused(ask: Ask, bucket: Bucket) -> str:
    """Return the sentence with which the store refused, within the time that a request has."""
    async with asyncio.timeout(BOUNDED_S):
        with pytest.raises(StoreUnavailable) as caught:
            await ask(bucket)
    return str(caught.value)


async def answered(bucket: Bucket) -> None:
    """Open a connection. Half a second may be too little for a loaded machine, once or twice."""
    async with asyncio.timeout(BOUNDED_S):
        while True:
            with contextlib.suppress(StoreUnavailable):
                return await bucket.check()


async def test_a_server_that_is_gone_is_noticed_soon(own_server: SeaweedFS, tmp_path: Path) -> None:
    """Every operation says so in a bounded time, over connections that were open; later all is as before."""
    async with open_bucket(own_server.settings(tmp_path.name), own_server.session) as bucket:
        await write(bucket)
        own_server.stop()
        try:
            sentences = await asyncio.gather(*(refused(ask, bucket) for ask in ASKS.values()))
        finally:
            own_server.start()
        assert all("check that the server runs" in sentence for sentence in sentences), sentences
        assert await infos(bucket) == [KEY]


@pytest.mark.parametrize("name", ASKS)
async def test_a_frozen_server_costs_a_bounded_time(own_server: SeaweedFS, tmp_path: Path, name: str) -> None:
    """It accepts connections and answers nothing: two attempts of one read timeout each, then the answer is no."""
    settings = own_server.settings(tmp_path.name, read_timeout_s=0.5)
    async with open_bucket(settings, own_server.session) as bucket:
        await answered(bucket)
        own_server.freeze()
        try:
            await refused(ASKS[name], bucket)
        finally:
            own_server.thaw()


async def test_what_a_frozen_server_kept_is_swept(own_server: SeaweedFS, tmp_path: Path) -> None:
    """It may do later what it was asked for before: a blob or parts that nobody waits for any more."""
    settings = own_server.settings(tmp_path.name, read_timeout_s=0.5)
    async with open_bucket(settings, own_server.session) as bucket:

        async def frozen_half_way() -> None:
            async with S3Blobs(bucket).create(KEY) as writer:
                await writer.write(bytes(PART_BYTES))
                own_server.freeze()
                await writer.write(bytes(PART_BYTES))

        try:
            with pytest.raises(StoreUnavailable):
                await frozen_half_way()
        finally:
            own_server.thaw()
    async with (
        open_bucket(own_server.settings(tmp_path.name), own_server.session) as bucket,
        asyncio.timeout(BOUNDED_S),
    ):
        blobs = S3Blobs(bucket)
        # What it was sent may reach it after a sweep, too: then the next one finds it.
        while await blobs.abandon(begun_before_s=time.time() + 3600) or await infos(bucket):
            await blobs.delete(KEY)


async def test_requests_do_not_queue_behind_hanging_ones(own_server: SeaweedFS, tmp_path: Path) -> None:
    """With every thread waiting for a silent server the next request is refused, not added to the queue."""
    settings = own_server.settings(tmp_path.name, read_timeout_s=0.5, connections=1)
    async with open_bucket(settings, own_server.session) as bucket:
        await answered(bucket)
        own_server.freeze()
        try:
            sentences = await asyncio.gather(*(refused(ASKS["size"], bucket) for _ in range(20)))
        finally:
            own_server.thaw()
    # One holds the thread, and another may take it when the first gives up; a loaded machine lets a few more through.
    assert sum("S3 is busy" in sentence for sentence in sentences) >= 15


async def test_a_download_that_is_cut_off_is_an_error(own_server: SeaweedFS, tmp_path: Path) -> None:
    """Nobody mistakes the beginning of a blob for the whole."""
    async with open_bucket(own_server.settings(tmp_path.name), own_server.session) as bucket:
        await write(bucket, 4 * PART_BYTES)
        chunks = S3Blobs(bucket).read(KEY)
        assert await anext(chunks)
        own_server.kill()
        try:
            with pytest.raises(StoreUnavailable):
                await drained(chunks)
        finally:
            own_server.start()
        assert await read(bucket) == 4 * PART_BYTES


# What is not there needs no deleting; servers differ in what they say.
@pytest.mark.parametrize("name", sorted(ASKS.keys() - {"delete", "delete a document"}))
async def test_a_bucket_that_is_not_there_is_no_missing_blob(s3_server: S3Server, name: str) -> None:
    """A wrong name in the configuration must not look like an empty store."""
    settings = s3_server.settings("any", bucket="overlay-typo")
    async with open_bucket(settings, s3_server.session) as bucket:
        sentence = await refused(ASKS[name], bucket)
    assert "overlay-typo" in sentence
    assert "check [store] bucket" in sentence


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("wrong", ["access key", "secret key"])
async def test_wrong_credentials_are_named_but_not_shown(s3_server: S3Server, name: str, wrong: str) -> None:
    """The sentence says where to look; it is fit for a log and a stranger."""
    access_key = "ABSENT" * 3 if wrong == "access key" else s3_server.access_key
    secret_key = "wrong" * 8 if wrong == "secret key" else s3_server.secret_key
    session = boto3.Session(access_key, secret_key, region_name=REGION)
    async with open_bucket(s3_server.settings("any"), session) as bucket:
        sentence = await refused(ASKS[name], bucket)
    assert "credentials" in sentence
    assert access_key not in sentence
    assert secret_key not in sentence


async def test_credentials_come_from_botos_own_chain(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the environment's; without any the sentence says how to give some."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    async with open_bucket(s3_server.settings("any", region="")) as bucket:
        assert "set AWS_ACCESS_KEY_ID" in await refused(ASKS["check"], bucket)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    async with open_bucket(s3_server.settings("any", region="")) as bucket:
        await bucket.check()


@pytest.mark.parametrize("url", ["127.0.0.1:9000", "no url"])
async def test_an_endpoint_that_is_no_url_is_said_at_once(s3_server: S3Server, url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(StoreUnavailable, match="endpoint_url"):
        async with open_bucket(s3_server.settings("any", endpoint_url=url), s3_server.session):
            pass


@pytest.mark.parametrize("endpoint_url", ["", "http://127.0.0.1:9000"])
async def test_a_region_that_is_none_is_said_at_once(s3_server: S3Server, endpoint_url: str) -> None:
    """And the endpoint is not blamed for it."""
    settings = s3_server.settings("any", endpoint_url=endpoint_url, region="eu west 1")
    with pytest.raises(StoreUnavailable, match=r"\[store\] region") as caught:
        async with open_bucket(settings, s3_server.session):
            pass
    assert "endpoint_url" not in str(caught.value)
