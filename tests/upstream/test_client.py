"""Asking the live index, over real sockets."""

import asyncio
import gzip
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from overlay.domain import simple_json
from overlay.domain.errors import InvalidConfig, UpstreamCorrupt, UpstreamUnavailable
from overlay.domain.names import ABSENT, project_name
from overlay.domain.page import UpstreamPage
from overlay.upstream.client import UpstreamClient, UpstreamSettings
from tests.builders import sdist, wheel
from tests.fakes.index import HTML, JSON, Answer, ScriptedIndex

DEMO = project_name("demo")
NOW_S = 1_700_000_000.0
EMPTY = b'{"files":[],"meta":{"api-version":"1.4"},"name":"demo"}'


@pytest.fixture
async def index() -> AsyncIterator[ScriptedIndex]:
    async with ScriptedIndex() as index:
        index.add(wheel("demo", "1.0"), sdist("demo", "1.0"))
        yield index


async def fetch(
    index: ScriptedIndex, previous: UpstreamPage | None = None, settings: UpstreamSettings | None = None
) -> UpstreamPage:
    settings = replace(settings or UpstreamSettings(timeout_s=5), url=index.simple_url)
    async with UpstreamClient(settings, now_s=lambda: NOW_S).open() as client:
        return await client.fetch(DEMO, previous)


async def test_a_page_is_fetched_with_all_that_is_known_of_it(index: ScriptedIndex) -> None:
    """Body, upstream's own gzip, validator, entity tag and serial arrive."""
    page = await fetch(index)
    assert page.body == index.page_json("demo")
    assert page.gzip is not None
    assert gzip.decompress(page.gzip) == page.body
    assert page.validator == hashlib.sha256(page.body).hexdigest()
    assert page.etag is not None
    assert page.last_serial == "1000"
    assert page.fetched_at_s == NOW_S


async def test_what_is_asked(index: ScriptedIndex) -> None:
    """JSON is preferred, only gzip is taken, the name is honest, and no cookie or login goes out unasked."""
    cookie = {"Content-Type": JSON, "Set-Cookie": "spy=1"}
    index.script("demo", Answer(EMPTY, headers=cookie))
    settings = UpstreamSettings(url=index.simple_url.rstrip("/"), user_agent="overlay-index/1.0")
    async with UpstreamClient(settings, now_s=lambda: NOW_S).open() as client:
        await client.fetch(DEMO, None)
        await client.fetch(DEMO, None)
    asked = index.requests[-1]
    assert asked.path == "/simple/demo/"
    assert asked.headers["Accept"].startswith(JSON)
    assert asked.headers["Accept-Encoding"] == "gzip"
    assert asked.headers["User-Agent"] == "overlay-index/1.0"
    assert "Cookie" not in asked.headers
    assert "Authorization" not in asked.headers


async def test_a_conditional_question_confirms_the_page(index: ScriptedIndex) -> None:
    """A 304 gives the page in hand with a new time."""
    page = replace(await fetch(index), fetched_at_s=1.0)
    assert await fetch(index, page) == page.confirmed(NOW_S)
    assert index.requests[-1].headers["If-None-Match"] == page.etag


async def test_a_changed_page_is_not_confirmed(index: ScriptedIndex) -> None:
    """A new file brings a new body for an old entity tag."""
    page = await fetch(index)
    index.add(sdist("demo", "2.0"))
    assert (await fetch(index, page)).body == index.page_json("demo")


@pytest.mark.parametrize("status", [404, 410])
async def test_absent(index: ScriptedIndex, status: int) -> None:
    """Upstream's word that there is no such project is an answer, not an error."""
    index.script("demo", Answer(status=status))
    page = await fetch(index)
    assert page.body is None
    assert page.validator == ABSENT


@pytest.mark.parametrize("status", [204, 304, 400, 406, 407, 429, 500, 502, 503, 520])
async def test_no_useful_status_is_unavailable(index: ScriptedIndex, status: int) -> None:
    """Whatever is neither a page nor its absence means: unknown."""
    index.script("demo", Answer(status=status))
    with pytest.raises(UpstreamUnavailable, match=str(status)):
        await fetch(index)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_names_the_keys(index: ScriptedIndex, status: int) -> None:
    """The operator reads which settings to look at."""
    index.script("demo", Answer(status=status))
    with pytest.raises(UpstreamUnavailable, match="username and password_file"):
        await fetch(index)


async def test_log_in(index: ScriptedIndex) -> None:
    """User and password go as Basic credentials, and neither stands in the settings' text."""
    settings = UpstreamSettings(username="me", password="s3cret")
    await fetch(index, None, settings)
    assert index.requests[-1].headers["Authorization"] == "Basic bWU6czNjcmV0"
    assert "s3cret" not in repr(settings)


async def test_log_in_stays_at_its_origin(index: ScriptedIndex) -> None:
    """A redirect to another host does not take the password along; the page's base is where it ended."""
    async with ScriptedIndex(relative=True) as other:
        other.add(wheel("demo", "3.0"))
        index.script("demo", Answer(status=302, headers={"Location": f"{other.simple_url}demo/"}))
        page = await fetch(index, None, UpstreamSettings(username="me", password="s3cret"))
        assert "Authorization" not in other.requests[-1].headers
        assert page.body is not None
        assert simple_json.decode(page.body).files[0].url.startswith(other.url + "/files/")
        assert page.gzip is None


async def test_endless_redirects_are_unavailable(index: ScriptedIndex) -> None:
    """A circle ends."""
    index.script("demo", Answer(status=302, headers={"Location": f"{index.simple_url}demo/"}))
    with pytest.raises(UpstreamUnavailable):
        await fetch(index)


async def test_an_upstream_that_hangs_is_unavailable_in_time(index: ScriptedIndex) -> None:
    """The time limit holds for the whole page."""
    gate = asyncio.Event()
    index.script("demo", Answer(EMPTY, gate=gate))
    with pytest.raises(UpstreamUnavailable, match="in time"):
        await fetch(index, None, UpstreamSettings(timeout_s=0.05))
    gate.set()


async def test_a_closed_port_is_unavailable(index: ScriptedIndex) -> None:
    """No listener, no page; the sentence shows no password."""
    await index.stop()
    url = index.simple_url.replace("http://", "http://me:s3cret@")
    client = UpstreamClient(UpstreamSettings(url=url), now_s=lambda: NOW_S)
    with pytest.raises(UpstreamUnavailable) as caught:
        await client.fetch(DEMO, None)
    await client.aclose()
    assert "s3cret" not in str(caught.value)


async def test_a_cut_body_is_unavailable(index: ScriptedIndex) -> None:
    """A connection that breaks in the body leaves the page unknown."""
    index.script("demo", Answer(index.page_json("demo"), cut_after=100))
    with pytest.raises(UpstreamUnavailable):
        await fetch(index)


async def test_cut_gzip_is_corrupt(index: ScriptedIndex) -> None:
    """A body that is complete by its length but not by its gzip is no page."""
    packed = gzip.compress(index.page_json("demo"))
    headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
    for body in (packed[:-1], packed[:50], packed[:-8] + b"\0" * 8, b"plain", b""):
        index.script("demo", Answer(body, headers=headers))
        with pytest.raises(UpstreamCorrupt, match=r"gzip"):
            await fetch(index)


async def test_several_gzip_members_are_one_body(index: ScriptedIndex) -> None:
    """RFC 1952: a file is a series of members."""
    body = index.page_json("demo")
    packed = gzip.compress(body[:100]) + gzip.compress(body[100:])
    index.script("demo", Answer(packed, headers={"Content-Type": JSON, "Content-Encoding": "gzip"}))
    assert (await fetch(index)).body == body


async def test_over_long_pages_are_corrupt(index: ScriptedIndex) -> None:
    """Neither a long body nor a gzip bomb gets beyond the limit."""
    long = b'{"files":[],"_x":"' + b"a" * 3_000_000 + b'"}'
    headers = {"Content-Type": JSON}
    settings = UpstreamSettings(page_limit_bytes=1_000_000)
    index.script("demo", Answer(long, headers=headers))
    with pytest.raises(UpstreamCorrupt, match="longer than 1,000,000"):
        await fetch(index, None, settings)
    index.script("demo", Answer(gzip.compress(long), headers={**headers, "Content-Encoding": "gzip"}))
    with pytest.raises(UpstreamCorrupt, match="longer than 1,000,000"):
        await fetch(index, None, settings)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/vnd.pypi.simple.v2+json"},
        {"Content-Type": "text/plain"},
        {"Content-Type": JSON, "Content-Encoding": "br"},
    ],
)
async def test_a_wrong_type_or_coding_is_corrupt(index: ScriptedIndex, headers: dict[str, str]) -> None:
    """PEP 691: the content type must be checked."""
    index.script("demo", Answer(EMPTY, headers=headers))
    with pytest.raises(UpstreamCorrupt):
        await fetch(index)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", b"<html>", EMPTY[:-1]])
async def test_a_body_that_is_no_page_is_corrupt(index: ScriptedIndex, body: bytes) -> None:
    """A 200 with nonsense is not an empty page."""
    index.script("demo", Answer(body))
    with pytest.raises(UpstreamCorrupt):
        await fetch(index)


async def test_parameters_of_the_type_are_tolerated(index: ScriptedIndex) -> None:
    """Some servers append a charset to the JSON type."""
    index.script("demo", Answer(EMPTY, headers={"Content-Type": f"{JSON}; charset=utf-8"}))
    assert (await fetch(index)).body == EMPTY


async def test_an_html_only_upstream_is_read_into_json(index: ScriptedIndex) -> None:
    """Files, digests and specifiers of an HTML page become JSON of version 1.0."""
    index.html_only = True
    page = await fetch(index)
    assert page.body is not None
    assert page.gzip is None
    read = json.loads(page.body)
    assert read["meta"] == {"api-version": "1.0"}
    assert read["name"] == "demo"
    ours = {file["filename"]: (file["url"], file["hashes"]["sha256"]) for file in read["files"]}
    theirs = json.loads(index.page_json("demo"))["files"]
    assert ours == {file["filename"]: (file["url"], file["hashes"]["sha256"]) for file in theirs}


async def test_a_log_in_form_is_corrupt(index: ScriptedIndex) -> None:
    """HTML that is no page of the simple API makes no file vanish."""
    index.script("demo", Answer(b"<html><body>Log in</body></html>", headers={"Content-Type": HTML}))
    with pytest.raises(UpstreamCorrupt):
        await fetch(index)


async def test_an_own_ca(tmp_path: Path) -> None:
    """An upstream with a private certificate is believed with its CA, and only with it."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=EMPTY, headers={"Content-Type": JSON})

    app = web.Application()
    app.router.add_get("/simple/demo/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    settings = UpstreamSettings(url=f"https://localhost:{runner.addresses[0][1]}/simple/", timeout_s=5)
    try:
        trusting = replace(settings, ca_file=str(ca_file))
        async with UpstreamClient(trusting, now_s=lambda: NOW_S).open() as client:
            assert (await client.fetch(DEMO, None)).body == EMPTY
        async with UpstreamClient(settings, now_s=lambda: NOW_S).open() as client:
            with pytest.raises(UpstreamUnavailable):
                await client.fetch(DEMO, None)
    finally:
        await runner.cleanup()


async def test_a_bad_ca_file_is_found_at_start(tmp_path: Path) -> None:
    """The operator learns of a wrong path before the first request."""
    settings = UpstreamSettings(ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(InvalidConfig, match="ca_file"):
        async with UpstreamClient(settings, now_s=lambda: NOW_S).open():
            pass


async def test_a_proxy_is_used(index: ScriptedIndex) -> None:
    """The question goes to the proxy, which sees the whole URL."""
    settings = UpstreamSettings(url="http://index.invalid/simple/", proxy=index.url, timeout_s=5)
    async with UpstreamClient(settings, now_s=lambda: NOW_S).open() as client:
        assert (await client.fetch(DEMO, None)).body is not None
    assert index.requests[-1].headers["Host"] == "index.invalid"
