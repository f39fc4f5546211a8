"""The cheap way to read many objects asks what boto3 asks; what is not plainly answered is left to boto3."""

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import boto3
import botocore.session
import pytest
import trustme
from aiohttp import web
from botocore.credentials import RefreshableCredentials

from overlay.domain.errors import StoreUnavailable
from overlay.storage.documents_s3 import S3Documents
from overlay.storage.s3_client import Addressing, Bucket, S3Settings, open_bucket
from overlay.storage.s3_plain_reads import PlainReads, plain_reads
from tests.s3_server import S3Server

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
KEY = "records/demo/a.json"
SESSION = boto3.Session("access", "secret")


@contextlib.asynccontextmanager
async def answering(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Answer all requests with `handler`; the URL of the server."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        yield f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def reads_from(url: str, session: boto3.Session = SESSION) -> AsyncIterator[PlainReads]:
    settings = S3Settings(bucket="files", endpoint_url=url, addressing="path", region="eu-west-1")
    async with open_bucket(settings, session) as bucket, plain_reads(bucket, at_once=1) as reads:
        yield reads


def says(body: bytes, status: int = 200) -> Handler:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:  # noqa: ARG001
        return web.Response(status=status, body=body)

    return handler


class Counted:
    """Passes on to boto3 and counts what is asked of it."""

    def __init__(self, bucket: Bucket) -> None:
        self.gets = 0
        bucket.client.meta.events.register("before-call.s3.GetObject", self._count)

    def _count(self, **_: object) -> None:
        self.gets += 1


ODD: Final = "ä b+c%2B&=?#~'()*!"


@pytest.mark.parametrize("prefix", ["", "team/next", ODD])
async def test_a_scan_needs_no_boto3(s3_server: S3Server, tmp_path: Path, prefix: str) -> None:
    """Under every prefix an operator may choose the cheap way finds what boto3 wrote."""
    async with open_bucket(s3_server.settings(f"{tmp_path.name}/{prefix}"), s3_server.session) as bucket:
        documents, counted = S3Documents(bucket), Counted(bucket)
        expected = {f"records/demo/{number}.json": str(number).encode() for number in range(50)}
        for key, body in expected.items():
            await documents.put(key, body)
        assert {key: body async for key, body in documents.scan("records/")} == expected
        assert counted.gets == 0


@pytest.mark.parametrize("addressing", ["auto", "path", "virtual"])
@pytest.mark.parametrize("bucket_name", ["files", "team.files"])
@pytest.mark.parametrize("endpoint_url", ["http://s3.example", "http://s3.example:9000/below", "http://10.0.0.1"])
async def test_it_asks_under_boto3s_own_url(
    monkeypatch: pytest.MonkeyPatch, endpoint_url: str, bucket_name: str, addressing: Addressing
) -> None:
    """Endpoint, addressing, prefix; seen by a proxy, which the environment names for both."""
    asked: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.raw_path)
        return web.Response(body=b"{}")

    settings = S3Settings(
        bucket=bucket_name, prefix=ODD, endpoint_url=endpoint_url, addressing=addressing, region="eu-west-1"
    )
    async with answering(handler) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "")
        async with open_bucket(settings, SESSION) as bucket:
            async with plain_reads(bucket, at_once=1) as reads:
                assert await reads.read(bucket.full(KEY)) == b"{}"
            assert await S3Documents(bucket).get(KEY) == b"{}"
    assert asked[0].startswith("http://")
    assert asked[0] == asked[1]


async def test_a_document_is_read_as_it_is_stored(s3_server: S3Server, tmp_path: Path) -> None:
    """Whatever Content-Encoding a server or proxy has put on it."""
    async with open_bucket(s3_server.settings(tmp_path.name), s3_server.session) as bucket:
        counted = Counted(bucket)
        for number, encoding in enumerate(["gzip", "aws-chunked", "aws-chunked,gzip", "deflate"]):
            key = bucket.full(f"records/demo/{number}.json")
            bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"\x1f\x8bdemo", ContentEncoding=encoding)
        assert [body async for _, body in S3Documents(bucket).scan("records/")] == [b"\x1f\x8bdemo"] * 4
        assert counted.gets == 0


async def test_temporary_credentials_are_renewed() -> None:
    """Access key and token always belong together."""
    asked: list[tuple[str, str]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        signed_by = request.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
        asked.append((signed_by, request.headers["X-Amz-Security-Token"]))
        return web.Response(body=b"{}")

    made = 0

    def renewed() -> dict[str, str]:
        nonlocal made
        made += 1
        ends_at = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)  # so soon that each use renews
        return {
            "access_key": f"access{made}",
            "secret_key": "secret",
            "token": f"token{made}",
            "expiry_time": ends_at.isoformat(),
        }

    inner = botocore.session.get_session()
    inner._credentials = RefreshableCredentials.create_from_metadata(renewed(), renewed, "test")  # type: ignore[attr-defined]
    async with answering(handler) as url, reads_from(url, boto3.Session(botocore_session=inner)) as reads:
        for _ in range(3):
            await reads.renew()
            assert await reads.read(KEY) == b"{}"
    assert len({access for access, _ in asked}) == 3
    assert all(access.removeprefix("access") == token.removeprefix("token") for access, token in asked)


async def test_a_body_that_ends_early_is_not_the_object() -> None:
    """Nobody mistakes the beginning of a document for the whole."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async with answering(handler) as url, reads_from(url) as reads:
        assert await reads.read(KEY) is None


@pytest.mark.parametrize("status", [204, 301, 403, 404, 500, 503])
async def test_what_is_no_plain_answer_is_left_to_boto3(status: int) -> None:
    """Absent, elsewhere, refused, busy: it knows what to do."""
    async with answering(says(b"" if status == 204 else b"no", status)) as url, reads_from(url) as reads:
        assert await reads.read(KEY) is None


async def test_a_way_that_fails_again_and_again_is_given_up() -> None:
    """Else each document would cost a useless request; one that vanished is no failure."""
    asked, status = 0, 404

    async def handler(request: web.BaseRequest) -> web.StreamResponse:  # noqa: ARG001
        nonlocal asked
        asked += 1
        return web.Response(status=status, body=b"no")

    async with answering(handler) as url, reads_from(url) as reads:
        for _ in range(50):
            assert await reads.read(KEY) is None
        assert asked == 50
        status = 403
        for _ in range(50):
            assert await reads.read(KEY) is None
        assert asked < 70


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
async def test_an_authority_of_the_operators_own_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Named where boto3 looks for it; any other is not."""
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with answering(says(b"{}"), context) as url:
        async with reads_from(url) as reads:
            assert await reads.read(KEY) is None
        monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
        async with reads_from(url) as reads:
            assert await reads.read(KEY) == b"{}"


async def test_without_credentials_a_scan_says_how_to_give_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every other call does."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    async with open_bucket(S3Settings(bucket="files", endpoint_url="http://127.0.0.1:1")) as bucket:
        with pytest.raises(StoreUnavailable, match="set AWS_ACCESS_KEY_ID"):
            await anext(S3Documents(bucket).scan("records/"))


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchKey")])
async def test_only_what_vanished_is_left_out_of_a_scan(status: int, code: str) -> None:
    """A record that cannot be read must not look like one that is not there."""
    listing = (
        f"<ListBucketResult><Contents><Key>{KEY}</Key><Size>2</Size></Contents><IsTruncated>false</IsTruncated>"
        "</ListBucketResult>"
    )

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "list-type" in request.query:
            return web.Response(text=listing)
        return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>")

    async with answering(handler) as url:
        settings = S3Settings(bucket="files", endpoint_url=url, addressing="path")
        async with open_bucket(settings, SESSION) as bucket:
            scan = S3Documents(bucket).scan("records/")
            if status == 404:
                assert [found async for found in scan] == []
            else:
                with pytest.raises(StoreUnavailable, match=code):
                    await anext(scan)


async def test_a_scan_that_is_left_asks_for_no_more() -> None:
    """It reads few documents ahead, and gives these up."""
    contents = "".join(f"<Contents><Key>records/demo/{number}.json</Key></Contents>" for number in range(900))
    asked, enough, leave = 0, asyncio.Event(), asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        if "list-type" in request.query:
            return web.Response(text=f"<ListBucketResult>{contents}<IsTruncated>false</IsTruncated></ListBucketResult>")
        asked += 1
        if asked > 40:
            enough.set()
            await leave.wait()
        return web.Response(body=b"{}")

    async with answering(handler) as url:
        settings = S3Settings(bucket="files", endpoint_url=url, addressing="path")
        async with open_bucket(settings, SESSION) as bucket:
            reading = asyncio.ensure_future(_drained(S3Documents(bucket)))
            await enough.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            leave.set()
    assert 40 < asked < 100


async def _drained(documents: S3Documents) -> None:
    async for _ in documents.scan("records/"):
        pass
