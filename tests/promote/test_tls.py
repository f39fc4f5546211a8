"""Which certificates are trusted and shown, against servers with TLS on loopback."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from overlay.promote import hosts, tls
from overlay.promote.answers import Accepted
from overlay.promote.clock import Clock
from overlay.promote.course import Options
from overlay.promote.credentials import ByCertificate, find
from overlay.promote.errors import Ending, Refused
from overlay.promote.http import session_to
from overlay.promote.mint import ask_audience
from overlay.promote.push import HttpPush
from tests.builders import wheel
from tests.promote.packages import package
from tests.promote.runs import DEMO
from tests.promote.test_credentials import Desk, plan
from tests.promote.test_outfit import InFrontOf, promoted
from tests.promote.test_trusted_publishing import VARIABLES
from tests.pypi import orders
from tests.pypi.orders import Job, Publisher
from tests.pypi.server import ScriptedPypi, pypi

WHEEL = wheel("demo", "1.1")
OURS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "TWINE_CERT", "TWINE_CLIENT_CERT", "SSL_CERT_FILE", "SSL_CERT_DIR")


class Authority:
    """Certificates in a folder: of an authority, and what it issued."""

    def __init__(self, folder: Path) -> None:
        self.made = trustme.CA()
        self.bundle = folder / "ca.pem"
        self.made.cert_pem.write_to_path(self.bundle)
        self.client = folder / "client.pem"
        self.issued = self.made.issue_cert("client.test")
        self.issued.private_key_and_cert_chain_pem.write_to_path(self.client)

    def context(self, *, asks: bool = False) -> ssl.SSLContext:
        """Form a server's context; one that `asks` wants a client certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.made.issue_cert("localhost").configure_cert(context)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            self.made.configure_trust(context)
        return context


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    return Authority(tmp_path)


@contextlib.asynccontextmanager
async def over_tls(context: ssl.SSLContext, seen: list[dict[str, str]]) -> AsyncIterator[str]:
    """Accept every upload, and remember its headers."""

    async def accept(request: web.Request) -> web.Response:
        await request.read()
        seen.append(dict(request.headers))
        return web.Response()

    app = web.Application()
    app.router.add_post("/legacy/", accept)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=context).start()
    try:
        yield f"https://localhost:{runner.addresses[0][1]}/legacy/"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def front(index: ScriptedPypi, context: ssl.SSLContext) -> AsyncIterator[str]:
    """Put TLS before the scripted PyPI; yields its upload URL."""

    async def relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await source.read(1 << 16):
                sink.write(piece)
                await sink.drain()
        sink.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = index.url.removeprefix("http://").partition(":")
        behind = await asyncio.open_connection(host, int(port))
        await asyncio.gather(relay(reader, behind[1]), relay(behind[0], writer))

    async with await asyncio.start_server(connect, "localhost", 0, ssl=context) as server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/legacy/"


def pypirc(folder: Path, url: str, **keys: object) -> Path:
    """Write a .pypirc with a section for the URL."""
    path = folder / ".pypirc"
    lines = [f"{key} = {value}" for key, value in keys.items()]
    path.write_text("\n".join(["[ours]", f"repository = {url}", *lines]))
    return path


async def push(url: str, connected: tls.Tls, folder: Path, authorization: str = "") -> object:
    to = hosts.target(url)
    async with session_to(to, connected.context) as session:
        return await HttpPush(session, to)(package(WHEEL, folder), authorization, lambda _: None)


def in_folder(bundle: Path) -> Path:
    """Put an authority's certificate into a folder under the name by which OpenSSL looks for it."""
    name = b""
    for attribute in x509.load_pem_x509_certificate(bundle.read_bytes()).subject:
        assert attribute.oid.dotted_string.startswith("2.5.4.")
        assert isinstance(attribute.value, str)
        text = " ".join(attribute.value.lower().split()).encode()
        pair = bytes((6, 3, 0x55, 4, int(attribute.oid.dotted_string.split(".")[3]), 0x0C, len(text))) + text
        name += bytes((0x31, len(pair) + 2, 0x30, len(pair))) + pair
    number = int.from_bytes(hashlib.sha1(name, usedforsecurity=False).digest()[:4], "little")
    folder = bundle.parent / "folder"
    folder.mkdir()
    (folder / f"{number:08x}.0").write_bytes(bundle.read_bytes())
    return folder


@pytest.mark.parametrize("source", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "TWINE_CERT", "ca_cert", "SSL_CERT_FILE"])
async def test_an_authority_is_trusted_from_wherever_it_is_named(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """And from nowhere else; without any the index gets nothing, and the sentence says where to name it."""
    seen: list[dict[str, str]] = []
    async with over_tls(authority.context(), seen) as url:
        to = hosts.target(url)
        with pytest.raises(Refused, match=r"localhost showed a certificate that is not trusted.*TWINE_CERT") as refused:
            await push(url, tls.read({}, tmp_path / ".pypirc", to), tmp_path)
        assert "unable to get local issuer" in str(refused.value)
        if source == "SSL_CERT_FILE":
            monkeypatch.setenv(source, str(authority.bundle))
        path = pypirc(tmp_path, url, **({source: authority.bundle} if source == "ca_cert" else {}))
        connected = tls.read({source: str(authority.bundle)}, path, to)
        assert await push(url, connected, tmp_path) == Accepted(200, "")
        assert len(seen) == 1
        assert connected.shown == ""


async def test_a_folder_of_authorities_is_trusted(authority: Authority, tmp_path: Path) -> None:
    """As OpenSSL has them, by the hash of their name."""
    async with over_tls(authority.context(), []) as url:
        connected = tls.read({"TWINE_CERT": str(in_folder(authority.bundle))}, tmp_path / "none", hosts.target(url))
        assert await push(url, connected, tmp_path) == Accepted(200, "")


async def test_the_first_that_names_an_authority_counts(authority: Authority, tmp_path: Path) -> None:
    """In the order that twine's library has; what is named later is not even read, an empty variable names nothing."""
    url = "https://localhost:1/legacy/"
    path = pypirc(tmp_path, url, ca_cert="/none/pypirc")
    named = {name: f"/none/{name}" for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "TWINE_CERT")}
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "TWINE_CERT"):
        with pytest.raises(Refused, match=f"There is no file /none/{name} \\({name}\\)"):
            tls.read(named, path, hosts.target(url))
        tls.read({**named, name: str(authority.bundle)}, path, hosts.target(url))
        named[name] = " "
    with pytest.raises(Refused, match=r"/none/pypirc \(ca_cert in \[ours\] of .*\.pypirc\)"):
        tls.read(named, path, hosts.target(url))


def test_a_later_section_may_name_what_the_first_does_not(tmp_path: Path) -> None:
    """Of several sections of one URL the first that names a certificate counts."""
    url = "https://localhost:1/legacy/"
    path = pypirc(tmp_path, url)
    path.write_text(f"{path.read_text()}\n[also]\nrepository = {url}\nca_cert = /none/also\n")
    with pytest.raises(Refused, match=r"/none/also \(ca_cert in \[also\] of .*\.pypirc\)"):
        tls.read({}, path, hosts.target(url))


@pytest.mark.parametrize("source", ["TWINE_CLIENT_CERT", "client_cert"])
async def test_a_client_certificate_is_shown(authority: Authority, tmp_path: Path, source: str) -> None:
    """Beside the credential, or as the only one: then no header is sent."""
    seen: list[dict[str, str]] = []
    async with over_tls(authority.context(asks=True), seen) as url:
        named = {"ca_cert": authority.bundle} | ({source: authority.client} if source == "client_cert" else {})
        environment = {source: str(authority.client)}
        connected = tls.read(environment, pypirc(tmp_path, url, **named), hosts.target(url))
        assert await push(url, connected, tmp_path) == Accepted(200, "")
        assert await push(url, connected, tmp_path, "Basic abc") == Accepted(200, "")
        assert [headers.get("Authorization") for headers in seen] == [None, "Basic abc"]
        assert source in connected.shown


def bare(authority: Authority) -> bytes:
    return authority.issued.cert_chain_pems[0].bytes()


def encrypted(authority: Authority) -> bytes:
    key = serialization.load_pem_private_key(authority.issued.private_key_pem.bytes(), None)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(*form, serialization.BestAvailableEncryption(b"secret")) + bare(authority)


def of_another(authority: Authority) -> bytes:
    return authority.made.issue_cert("other.test").private_key_pem.bytes() + bare(authority)


@pytest.mark.parametrize(
    ("source", "content", "words"),
    [
        ("TWINE_CERT", None, "There is no file"),
        ("TWINE_CERT", lambda _: b"", "has no certificates in PEM form"),
        ("TWINE_CERT", lambda _: b"\x30\x82\x01\x00", "has no certificates in PEM form"),
        ("TWINE_CLIENT_CERT", None, "There is no file"),
        ("TWINE_CLIENT_CERT", lambda _: b"", "one file must have both, in PEM form"),
        ("TWINE_CLIENT_CERT", bare, "one file must have both, in PEM form"),
        ("TWINE_CLIENT_CERT", of_another, "one file must have both, in PEM form"),
        ("TWINE_CLIENT_CERT", encrypted, "protected by a passphrase"),
    ],
)
async def test_what_cannot_be_used_is_refused_with_what_to_do(
    authority: Authority, tmp_path: Path, source: str, content: Callable[[Authority], bytes] | None, words: str
) -> None:
    """With the path and what named it. Over plain http, which only loopback has, nothing of it is looked at."""
    path = tmp_path / "named.pem"
    if content is not None:
        path.write_bytes(content(authority))
    with pytest.raises(Refused, match=words) as refused:
        tls.read({source: str(path)}, tmp_path / ".pypirc", hosts.target("https://localhost:1/legacy/"))
    assert f"{path} ({source})" in str(refused.value)
    assert tls.read({source: str(path)}, tmp_path / ".pypirc", hosts.target("http://127.0.0.1:1/")) == tls.Tls(None)


# A whole run


@pytest.fixture
async def index(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedPypi]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    async with pypi() as serving:
        await serving.do(orders.Token(text=orders.TOKEN))
        yield serving


async def test_a_release_by_token_and_tls(index: ScriptedPypi, authority: Authority, tmp_path: Path) -> None:
    """With an authority of one's own; what cannot be used is found before anything goes out, by --dry-run, too."""
    server = InFrontOf(index, DEMO)
    async with front(index, authority.context()) as server.target:
        environment = {"TWINE_REPOSITORY_URL": server.target, "TWINE_PASSWORD": orders.TOKEN}
        environment["TWINE_CERT"] = str(tmp_path / "none.pem")
        for dry_run in (True, False):
            result = await promoted(server, tmp_path, environment, Options(timeout_s=30, dry_run=dry_run))
            assert result.ending is Ending.REFUSED
            assert "none.pem (TWINE_CERT)" in result.problem
        assert not (await index.recording()).posts()
        result = await promoted(server, tmp_path, environment | {"TWINE_CERT": str(authority.bundle)})
        assert (result.ending, result.problem) == (Ending.DONE, "")


async def test_a_release_by_trusted_publishing_and_tls(
    index: ScriptedPypi, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Audience, mint and push go over it; whom nobody vouches for gets no identity token."""
    await index.do(Publisher(projects=("demo",), pending=True))
    for name, value in (await index.job(Job())).items():
        monkeypatch.setenv(name, value)
    server = InFrontOf(index, DEMO)
    async with front(index, authority.context()) as server.target:
        result = await promoted(server, tmp_path, {"TWINE_REPOSITORY_URL": server.target})
        assert result.ending is Ending.REFUSED
        assert "showed a certificate that is not trusted here" in result.problem
        assert not (await index.recording()).minted()
        pypirc(tmp_path, server.target, ca_cert=authority.bundle)
        result = await promoted(server, tmp_path, {"TWINE_REPOSITORY_URL": server.target})
        assert (result.ending, result.problem) == (Ending.DONE, "")
        assert len((await index.recording()).minted()) == 1


async def test_an_audience_is_not_asked_for_twice_of_a_stranger(authority: Authority) -> None:
    """To ask again would not make him less strange."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with over_tls(authority.context(), []) as url:
        with pytest.raises(Refused, match="not trusted"):
            await ask_audience(hosts.target(url), Clock(passed_s=float, now_s=float, sleep=sleep))
    assert slept == []


async def test_a_client_certificate_may_be_the_only_credential(authority: Authority, tmp_path: Path) -> None:
    """Of an index that has no other and that the job itself means, and never of PyPI; it is said what was not found."""
    environment, url = {"TWINE_CLIENT_CERT": str(authority.client)}, "https://index.example/legacy/"
    named = Desk(tmp_path, {**environment, "TWINE_REPOSITORY_URL": url})

    async def refused(_: hosts.Target) -> ByCertificate:
        raise Refused("It offers no Trusted Publishing.")

    found = await find(replace(named.sources, trusted=refused), hosts.target(url), plan())
    assert (found.words, await found.authorization()) == ("the client certificate (TWINE_CLIENT_CERT)", "")
    assert "offers no Trusted Publishing" in named.warnings[0]
    for to in (url, "https://upload.pypi.org/legacy/"):
        with pytest.raises(Refused):
            await find(replace(Desk(tmp_path, environment).sources, trusted=refused), hosts.target(to), plan())
    pypirc(tmp_path, url, client_cert=authority.client)
    found = await find(replace(Desk(tmp_path).sources, trusted=refused), hosts.target(url), plan())
    assert found.words.startswith("the client certificate (client_cert in [ours] of ")
