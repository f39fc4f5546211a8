"""What goes to an S3 server, byte for byte what an operator configured; the answers are scripted here."""

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders

from overlay.domain.errors import BlobNotFound, DocumentNotFound, OverlayError, StoreFull, StoreUnavailable
from overlay.domain.ports import BlobKey
from overlay.storage.blobs_s3 import S3Blobs
from overlay.storage.documents_s3 import S3Documents
from overlay.storage.s3_client import Bucket, S3Settings, open_bucket
from overlay.storage.s3_upload import PART_BYTES, PARTS_IN_ALL, PARTS_PER_BLOB

KEY = BlobKey("0123456789abcdef0123456789abcdef/demo-1.0.tar.gz")
SESSION = boto3.Session("access", "secret")
SETTINGS = S3Settings(bucket="files", prefix="team/next", endpoint_url="https://s3.example:9000", region="eu-west-1")

BEGUN = b"<InitiateMultipartUploadResult><UploadId>up</UploadId></InitiateMultipartUploadResult>"


class _Raw(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


@dataclass
class Scripted:
    """Answers every request that boto3 would send, and keeps it."""

    status: int = 200
    code: str = ""
    only: str | None = None
    """The query of what is answered so, all else is 200; None: everything."""
    raw: type[_Raw] = _Raw
    sent: list[AWSPreparedRequest] = field(default_factory=list)

    def answer(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        self.sent.append(request)
        status = self.status if self.only is None or query(request) == self.only else 200
        body = BEGUN if request.url.endswith("?uploads") else b""
        if status != 200 and request.method != "HEAD":
            body = f"<Error><Code>{self.code}</Code><Message>access secret</Message></Error>".encode()
        headers = HTTPHeaders()
        headers["ETag"], headers["Content-Length"] = '"tag"', str(PART_BYTES + 1)
        return AWSResponse(request.url, status, headers, self.raw(body))

    def on(self, bucket: Bucket) -> "Scripted":
        # The stubs know only handlers that answer nothing.
        bucket.client.meta.events.register("before-send.s3", cast("Callable[..., None]", self.answer))
        return self


def query(request: AWSPreparedRequest) -> str:
    return request.url.partition("?")[2]


def sent_headers(request: AWSPreparedRequest) -> dict[str, str]:
    return {name.lower(): _text(value) for name, value in request.headers.items()}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)  # whatever the stubs say, botocore keeps both


async def write(bucket: Bucket, size: int = 3) -> None:
    async with S3Blobs(bucket).create(KEY) as writer:
        await writer.write(bytes(size))


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (SETTINGS, "https://s3.example:9000/files/team/next/blobs/"),
        (
            S3Settings(bucket="files", addressing="path", region="eu-west-1"),
            "https://s3.eu-west-1.amazonaws.com/files/",
        ),
        (S3Settings(bucket="files", region="eu-west-1"), "https://files.s3.eu-west-1.amazonaws.com/blobs/"),
        (
            S3Settings(bucket="files", addressing="virtual", endpoint_url="http://s3.example"),
            "http://files.s3.example/blobs/",
        ),
        (S3Settings(bucket="files", prefix="/a/", endpoint_url="http://10.0.0.1"), "http://10.0.0.1/files/a/blobs/"),
    ],
)
async def test_the_url_is_the_configured_one(settings: S3Settings, url: str) -> None:
    """Endpoint, region, addressing and prefix, in every combination an operator would write; also when signed."""
    async with open_bucket(settings, SESSION) as bucket:
        scripted = Scripted().on(bucket)
        await write(bucket)
        assert scripted.sent[0].url == url.removesuffix("blobs/") + f"blobs/{KEY}"
        signed = await S3Blobs(bucket).presigned(KEY, filename="demo-1.0.tar.gz", expires_s=60)
        assert signed.startswith(scripted.sent[0].url + "?")
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in signed


@pytest.mark.parametrize("size", [3, PART_BYTES + 1])
@pytest.mark.parametrize("endpoint_url", ["https://s3.example", "http://s3.example"])
async def test_bodies_are_signed_and_never_chunked(endpoint_url: str, size: int) -> None:
    """SigV4 over the body itself: the server checks it, and has no aws-chunked to store as a Content-Encoding."""
    settings = S3Settings(bucket="files", endpoint_url=endpoint_url, region="eu-west-1")
    async with open_bucket(settings, SESSION) as bucket:
        scripted = Scripted().on(bucket)
        await write(bucket, size)
    for request in scripted.sent:
        headers = sent_headers(request)
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=access/")
        assert "/eu-west-1/s3/aws4_request" in headers["authorization"]
        assert len(headers["x-amz-content-sha256"]) == 64
        assert not {"content-encoding", "x-amz-trailer", "transfer-encoding"} & headers.keys()


@pytest.mark.parametrize("size", [3, PART_BYTES + 1])
async def test_encryption_and_storage_class_are_passed(size: int) -> None:
    """With whatever begins an object; the server then keeps them."""
    settings = S3Settings(
        bucket="files",
        endpoint_url="https://s3.example",
        encryption="aws:kms",
        kms_key_id="key-1",
        storage_class="STANDARD_IA",
    )
    async with open_bucket(settings, SESSION) as bucket:
        scripted = Scripted().on(bucket)
        await write(bucket, size)
        await S3Documents(bucket).put("records/demo/a.json", b"{}")
    begins = [sent for sent in scripted.sent if "uploadId" not in sent.url]
    assert len(begins) == 2
    for request in begins:
        headers = sent_headers(request)
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
        assert headers["x-amz-storage-class"] == "STANDARD_IA"


async def test_nothing_outside_the_prefix_is_asked_for() -> None:
    """So that credentials may be bound to it: a listing names it, every other key begins with it."""
    async with open_bucket(SETTINGS, SESSION) as bucket:
        scripted, blobs, documents = Scripted().on(bucket), S3Blobs(bucket), S3Documents(bucket)
        await write(bucket, PART_BYTES + 1)
        await blobs.size(KEY)
        await blobs.delete(KEY)
        assert [info async for info in blobs.infos()] == []
        assert await blobs.abandon(begun_before_s=0) == 0
        assert [key async for key in documents.keys("records/")] == []
        await documents.put("records/demo/a.json", b"{}")
        await bucket.check()
    assert len(scripted.sent) > 8
    for request in scripted.sent:
        url = urlsplit(request.url)
        prefixes = parse_qs(url.query).get("prefix", [url.path.removeprefix("/files/")])
        assert all(prefix.startswith("team/next/") for prefix in prefixes), request.url


async def test_nothing_is_passed_that_is_not_configured() -> None:
    """An empty setting leaves the choice to the bucket."""
    async with open_bucket(SETTINGS, SESSION) as bucket:
        scripted = Scripted().on(bucket)
        await write(bucket)
    assert not [name for name in sent_headers(scripted.sent[0]) if name.startswith(("x-amz-server", "x-amz-storage"))]


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (507, "Anything", StoreFull),
        (403, "QuotaExceeded", StoreFull),
        (403, "AccessDenied", StoreUnavailable),
        (500, "InternalError", StoreUnavailable),
        (503, "SlowDown", StoreUnavailable),
        (404, "NoSuchBucket", StoreUnavailable),
    ],
)
async def test_an_answer_is_read_by_code_and_status(status: int, code: str, error: type[OverlayError]) -> None:
    """Its text is neither read nor repeated: it may quote what was sent."""
    async with open_bucket(SETTINGS, SESSION) as bucket:
        Scripted(status, code).on(bucket)
        with pytest.raises(OverlayError) as caught:
            await write(bucket)
    assert type(caught.value) is error
    assert code in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_server_that_only_redirects_is_named_as_such() -> None:
    """As a proxy does that wants https: boto3 would follow it without end."""
    async with open_bucket(SETTINGS, SESSION) as bucket:
        Scripted(301, "PermanentRedirect").on(bucket)
        with pytest.raises(StoreUnavailable, match=r"check \[store\] endpoint_url"):
            await bucket.check()


async def test_a_full_store_refuses_a_part_and_the_upload_is_ended() -> None:
    """A disk that fills half way leaves nothing behind."""
    async with open_bucket(SETTINGS, SESSION) as bucket:
        scripted = Scripted(507, "InsufficientStorage", only="uploadId=up&partNumber=1").on(bucket)
        with pytest.raises(StoreFull):
            await write(bucket, PART_BYTES + 1)
    last = scripted.sent[-1]
    assert (last.method, query(last)) == ("DELETE", "uploadId=up")


async def test_a_commit_whose_first_answer_was_lost_succeeds() -> None:
    """boto3 repeated it, and the upload that the first one completed is unknown now: the blob itself is the proof."""
    async with open_bucket(SETTINGS, SESSION) as bucket:
        scripted = Scripted(404, "NoSuchUpload", only="uploadId=up").on(bucket)
        await write(bucket, PART_BYTES + 1)
        assert [sent.method for sent in scripted.sent][-2:] == ["POST", "HEAD"]
        with pytest.raises(StoreUnavailable):
            await write(bucket, PART_BYTES + 2)  # what is there has another size


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchBucket"])
async def test_only_a_missing_key_is_a_missing_blob(code: str) -> None:
    """Both are 404."""
    async with open_bucket(SETTINGS, SESSION) as bucket:
        Scripted(404, code).on(bucket)
        missing = code == "NoSuchKey"
        with pytest.raises(BlobNotFound if missing else StoreUnavailable):
            await anext(S3Blobs(bucket).read(KEY))
        with pytest.raises(DocumentNotFound if missing else StoreUnavailable):
            await S3Documents(bucket).get("records/demo/a.json")


async def test_a_server_that_ignores_ranges_is_refused() -> None:
    """The whole blob in place of its end would be corrupt to whoever resumes a download."""
    async with open_bucket(SETTINGS, SESSION) as bucket:
        Scripted().on(bucket)
        with pytest.raises(StoreUnavailable, match="Range"):
            await anext(S3Blobs(bucket).read(KEY, 1, 3))


class _Watched(Scripted):
    """Counts the parts that are under way at once; each waits until `meet` are, so that what may be, is."""

    def __init__(self, meet: int) -> None:
        super().__init__()
        self.now = self.most = 0
        self._meet = meet
        self._changed = threading.Condition()

    def answer(self, request: AWSPreparedRequest, **more: object) -> AWSResponse:
        if "partNumber" not in query(request):
            return super().answer(request, **more)
        with self._changed:
            self.now += 1
            self.most = max(self.most, self.now)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= self._meet, 60)
        try:
            return super().answer(request, **more)
        finally:
            with self._changed:
                self.now -= 1


async def test_few_parts_of_one_blob_are_under_way_at_once() -> None:
    """More than one, for speed; three at most, for memory."""
    async with open_bucket(SETTINGS, SESSION) as bucket:
        watched = _Watched(meet=PARTS_PER_BLOB)
        watched.on(bucket)
        await write(bucket, 8 * PART_BYTES)
    assert watched.most == PARTS_PER_BLOB == 3


async def test_many_uploads_share_a_bound() -> None:
    """A worker's memory is bounded however many upload."""
    async with open_bucket(SETTINGS, SESSION) as bucket:
        watched, blobs = _Watched(meet=PARTS_IN_ALL), S3Blobs(bucket)
        watched.on(bucket)

        async def upload(number: int) -> None:
            async with blobs.create(BlobKey(f"{number:032x}/demo-1.0.tar.gz")) as writer:
                await writer.write(bytes(2 * PART_BYTES))

        await asyncio.gather(*(upload(number) for number in range(6)))
    assert watched.most == PARTS_IN_ALL == 8


async def test_a_cancelled_upload_is_ended_by_its_id() -> None:
    """Also when the cancellation comes while the server is just giving the id."""
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    async with open_bucket(SETTINGS, SESSION) as bucket:
        scripted = Scripted().on(bucket)

        def tell(**_: object) -> None:
            loop.call_soon_threadsafe(begun.set)

        bucket.client.meta.events.register_first("before-send.s3.CreateMultipartUpload", tell)
        task = asyncio.create_task(write(bucket, PART_BYTES + 1))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [sent.method for sent in scripted.sent if query(sent) == "uploadId=up"] == ["DELETE"]


async def test_parts_under_way_end_before_their_upload() -> None:
    """A part that landed after the abort would stay, unlisted and paid for."""
    started, gate, order = threading.Event(), threading.Event(), list[str]()

    def slowly(**_: object) -> None:
        started.set()
        gate.wait(60)
        order.append("part")

    def ended(**_: object) -> None:
        order.append("abort")

    async with open_bucket(SETTINGS, SESSION) as bucket:
        Scripted().on(bucket)
        bucket.client.meta.events.register_first("before-send.s3.UploadPart", slowly)
        bucket.client.meta.events.register_first("before-send.s3.AbortMultipartUpload", ended)

        async def endless() -> None:
            async with S3Blobs(bucket).create(KEY) as writer:
                await writer.write(bytes(PART_BYTES))
                await asyncio.Event().wait()

        task = asyncio.create_task(endless())
        await asyncio.to_thread(started.wait, 60)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=0.2)
        assert not done
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert order == ["part", "abort"]


async def test_a_body_is_closed_when_its_thread_has_left_it() -> None:
    """A reader that stops early waits for the chunk that is being read ahead."""
    started, gate, order = threading.Event(), threading.Event(), list[str]()

    class Slow(_Raw):
        def read(self, amount: int | None = -1) -> bytes:
            if order:
                started.set()
                gate.wait(60)
            order.append("read")
            return bytes(amount or 0)

        def close(self) -> None:
            order.append("close")

    async with open_bucket(SETTINGS, SESSION) as bucket:
        Scripted(raw=Slow).on(bucket)
        chunks = S3Blobs(bucket).read(KEY)
        await anext(chunks)
        await asyncio.to_thread(started.wait, 60)
        closing = asyncio.ensure_future(chunks.aclose())
        done, _ = await asyncio.wait({closing}, timeout=0.2)
        assert not done
        gate.set()
        await closing
    assert order[:3] == ["read", "read", "close"]
