"""What a hostile client may send: each gets a clear refusal, nothing stays on the disk, the server goes on."""

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from tests.attempts import best_s
from tests.builders import Built, wheel
from tests.fakes.index import ScriptedIndex
from tests.hostile import HOSTILE
from tests.running import ADMIN, basic
from tests.served import Served, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK_S: Final = 1.0
HEAVY_S: Final = 5.0
ANSWER_LIMIT_S: Final = 20.0
BOUNDARY: Final = b"frontier"
GOOD: Final = wheel("demo", "1.0")
FORM: Final = f"multipart/form-data; boundary={BOUNDARY.decode()}"
UPLOAD_ID: Final = "0123456789abcdef0123456789abcdef"
# Room for the largest of the hostile archives, and little more.
LIMIT_BYTES: Final = 1024 * 1024


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    store: Path = tmp_path_factory.mktemp("hostile") / "store"
    settings = {"OVERLAY_UPLOADS_LIMIT_BYTES": str(LIMIT_BYTES)}
    async with ScriptedIndex() as index, Served(store, index.simple_url, settings) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nothing_is_left(served: Served) -> AsyncIterator[None]:
    """After every test: the same files as before it, the same process, an answer at once, and no traceback.

    At once is by processor time, and by the clock for the best of some answers: the machine may be busy with others.
    """
    before, said = served.files("blobs", "records", "history", "spool"), len(served.log)
    yield
    used_s = served.used_s
    assert await best_s(partial(_healthy_s, served), limit_s=QUICK_S) < QUICK_S
    assert served.used_s - used_s < QUICK_S
    assert served.files("blobs", "records", "history", "spool") == before
    assert "Traceback" not in served.log[said:]


async def _healthy_s(served: Served) -> float:
    began = time.monotonic()
    assert (await send(served, b"GET /-/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).status == 200
    return time.monotonic() - began


@dataclass(frozen=True)
class Reply:
    """One answer, and everything that came on the connection."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    raw: bytes

    @property
    def single(self) -> bool:
        """Whether nothing came after the answer."""
        return len(self.body) == int(self.headers["content-length"])


async def send(served: Served, request: bytes, *, more: AsyncIterator[bytes] | None = None) -> Reply:
    """Send bytes, and read until the server closes."""
    async with asyncio.timeout(ANSWER_LIMIT_S), connected(served, b"") as (reader, writer):

        async def write() -> None:
            writer.write(request)
            await writer.drain()
            if more is not None:
                async for chunk in more:
                    writer.write(chunk)
                    await writer.drain()
                writer.write_eof()  # else the server waits for the rest, to let its answer arrive

        writing = asyncio.ensure_future(write())
        raw = await reader.read()
        writing.cancel()  # the server may have closed before it had read all
        await asyncio.gather(writing, return_exceptions=True)
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    _, status, reason = (line + "  ").split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    return Reply(int(status or 0), reason.strip(), headers, body, raw)


def request(
    method: str, target: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None, length: int | None = None
) -> bytes:
    fields = {"Host": "overlay.test", "Connection": "close", **basic(ADMIN)}
    if method == "POST":
        fields["Content-Length"] = str(len(body) if length is None else length)
    fields.update(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def part(name: str, value: bytes, *, filename: bytes | None = None, more: bytes = b"") -> bytes:
    disposition = b'Content-Disposition: form-data; name="%s"' % name.encode()
    if filename is not None:
        disposition += b'; filename="%s"' % filename
    return b"--%s\r\n%s\r\n%s\r\n%s\r\n" % (BOUNDARY, disposition, more, value)


def fields_of(built: Built, changes: Mapping[str, str] | None = None) -> bytes:
    fields = {":action": "file_upload", "name": "demo", "version": "1.0", "sha256_digest": built.sha256}
    fields.update(changes or {})
    return b"".join(part(name, value.encode("utf-8", "surrogateescape")) for name, value in fields.items())


def form(built: Built = GOOD, filename: bytes | None = None, changes: Mapping[str, str] | None = None) -> bytes:
    named = built.filename.encode("utf-8", "surrogateescape") if filename is None else filename
    return fields_of(built, changes) + part("content", built.body, filename=named) + b"--%s--\r\n" % BOUNDARY


def upload(body: bytes, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request("POST", "/legacy/", body, headers={"Content-Type": FORM, **named})


def check_refused(reply: Reply, statuses: Sequence[int] = (400, 413)) -> str:
    """A clear 4xx, one answer, with a sentence in the body and the same in the reason phrase."""
    assert reply.status in statuses, reply.raw[:500]
    assert reply.single
    sentence = reply.body.decode()
    assert len(sentence) > 20
    assert "Traceback" not in sentence
    assert reply.reason.isascii()
    assert reply.reason.isprintable()
    return sentence


async def test_the_good_upload_that_the_bad_ones_are_made_of_is_good(served: Served) -> None:
    """Else their refusals would show nothing. Sent in chunks, too; then it is withdrawn and swept."""
    assert (await send(served, upload(form()))).status == 200
    head = upload(b"", Content_Length="", Transfer_Encoding="chunked")
    body = form()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7))
    assert (await send(served, head + chunks + b"0\r\n\r\n")).status == 200
    staged = json.loads((await send(served, request("GET", "/api/v1/staged"))).body)
    assert [file["sha256"] for file in staged["files"]] == [GOOD.sha256]
    assert (await send(served, request("DELETE", "/api/v1/projects/demo/1.0"))).status == 200
    swept = request("POST", "/api/v1/sweep", b'{"older_than_s":0}', headers={"Content-Type": "application/json"})
    assert (await send(served, swept)).status == 200
    assert served.files() == set()
    for path in served.files("history"):  # the fixture counts what is there
        (served.store / path).unlink()


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_archive_is_refused(served: Served, name: str) -> None:
    """Broken, lying, escaping, exploding: 400 that says what is wrong."""
    sentence = check_refused(await send(served, upload(form(HOSTILE[name]()))))
    assert "failed" not in sentence


async def test_a_refusal_in_json_has_a_message(served: Served) -> None:
    """The very type application/json, for uv."""
    reply = await send(served, upload(form(HOSTILE["zip bomb"]()), Accept="application/json"))
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body)["message"] in json.loads(reply.body)["code"]


@pytest.mark.parametrize(
    "filename",
    [
        *(b"../../evil-1.0-py3-none-any.whl", b"/etc/evil-1.0-py3-none-any.whl", b"..\\evil-1.0-py3-none-any.whl"),
        *(b"..", b".", b"", b"/", b"\\\\server\\share\\demo-1.0.tar.gz", b"demo-1.0-py3-none-any.whl/.."),
        *(b"%2e%2e%2fdemo-1.0-py3-none-any.whl", b"demo-1.0-py3-none-any.whl\x00.txt", b"demo-1.0\n.tar.gz"),
        *(b"demo-1.0-py3-none-any.whl\x1b[2J", b"demo-1.0%0D%0A-py3-none-any.whl", b"demo-1.0-py3-none-any.whl\x7f"),
        *(b"demo-1.0\xe2\x80\xae-py3-none-any.whl", b"\xff\xfe-1.0.tar.gz", b"demo-\xed\xa0\x80.tar.gz"),
        *(b"d\xd0\xb5mo-1.0-py3-none-any.whl", b"-demo-1.0.tar.gz", b".demo-1.0.tar.gz", b"a" * 5000 + b"-1.0.tar.gz"),
        *(b"demo-1.0-py3-none-any.whl.metadata", b"demo-1.0-py3-none-any.WHL", b"demo-1.0-py3-none-any.whl "),
        *(b"demo-" + b"9" * 5000 + b".tar.gz", b"demo-1.0.tar.gz\t", b"CON-1.0.exe", b"demo-1.0.tar.gz;x=y"),
    ],
)
async def test_a_hostile_filename_is_refused(served: Served, filename: bytes) -> None:
    """Nothing of it becomes a path, a header or a terminal's command."""
    sentence = check_refused(await send(served, upload(form(filename=filename))))
    assert all(char.isprintable() or char == "\n" for char in sentence)


@pytest.mark.parametrize("field", ["name", "version", "filetype", ":action", "protocol_version", "sha256_digest"])
@pytest.mark.parametrize(
    "value",
    [
        "../../etc",
        "a/b",
        "demo\x00",
        "demo\r\nX-Evil: 1\r\n\r\nHTTP/1.1 200 OK",
        "\udcff\udcfe",
        "d" * 100_000,
        "%2e%2e",
        "\x1b[2J",
    ],
)
async def test_a_hostile_field_is_refused(served: Served, field: str, value: str) -> None:
    """And the answer is one answer: no field of the form ends its header."""
    reply = await send(served, upload(form(changes={field: value})))
    check_refused(reply)
    assert "x-evil" not in reply.headers
    assert len(reply.reason) < 400


_OUT: Final = [
    *("/files/demo/../../admin-token", "/files/../admin-token", "/simple/../admin-token", "/../../../../etc/passwd"),
    *(f"/files/demo/{UPLOAD_ID}/..%2f..%2f..%2fadmin-token", f"/files/demo/{UPLOAD_ID}/%2e%2e/%2e%2e/lock"),
    *(f"/files/..%2f..%2frecords/{UPLOAD_ID}/x", f"/files/demo/..%2f{UPLOAD_ID}/x", "/files/demo/%2e%2e/x"),
    *(f"/files/demo/{UPLOAD_ID}/%00", f"/files/demo/{UPLOAD_ID}/..%5c..%5cx", f"/files/demo/{UPLOAD_ID}/%ff%fe"),
    *(
        f"/files/demo/{UPLOAD_ID[:-1]}/x",
        f"/files/demo/{UPLOAD_ID.upper()}/x",
        f"/files/demo/{UPLOAD_ID}/" + "a" * 4000,
    ),
    *("/simple/..%2f..%2fetc/", "/simple/%2e%2e/", "/simple/%00/", "/simple/" + "a" * 4000 + "/", "/simple/%ff/"),
    *("/staged/simple/..%2fx/", "/pypi/..%2f..%2fx/json", "/pypi/demo/..%2fx/json", "/project/..%2f..%2fx/"),
    *("/api/v1/projects/..%2f..%2fx/1.0", "/api/v1/projects/demo/..%2f1.0", "/api/v1/projects/demo/" + "9" * 4900),
    *("/api/v1/projects/%00/1.0", "/api/v1/projects/..%2fx/history", "/api/v1/staged?project=..%2fx", "/api/v1/../x"),
    *("/api/v1/events?after=-1", "/api/v1/events?after=%00", "/api/v1/events?after=" + "9" * 50, "/static/../x"),
    *(
        "//evil.test/%2f..",
        "/s/..%2f/simple/",
        "/s/st_x/simple/",
        "/templates/..%2fconfig.toml",
        "/\\..\\x",
        "/%5c%2e%2e",
    ),
]


@pytest.mark.parametrize("target", _OUT)
async def test_a_path_that_leads_out_is_nowhere(served: Served, target: str) -> None:
    """4xx; no byte of the disk, and no redirect to somebody else."""
    reply = await send(served, request("GET", target))
    assert 400 <= reply.status < 500, reply.raw[:300]
    assert reply.single
    assert "location" not in reply.headers
    assert b"root:" not in reply.body
    assert b"ovl_" not in reply.body


@pytest.mark.parametrize(
    "token_id", ["..%2f..%2frecords%2fdemo", "%2e%2e", "%00", "a" * 300, "a" * 4000, "%c3%a9", "%ff", "operator", "*"]
)
async def test_a_token_id_that_is_none_is_unknown(served: Served, token_id: str) -> None:
    """404, whatever it would mean to a file system."""
    reply = await send(served, request("DELETE", f"/api/v1/tokens/{token_id}"))
    assert (reply.status, reply.single) == (404, True)


async def test_a_huge_field_is_too_large(served: Served) -> None:
    """10 MB in one, or in several: 413 before all of it is in memory."""
    assert "'summary'" in check_refused(await send(served, upload(form(changes={"summary": "x" * 10_000_000}))), (413,))
    several = {f"description{number}": "x" * 6_000_000 for number in range(3)}
    check_refused(await send(served, upload(form(changes=several))), (413,))


async def test_a_hundred_thousand_fields_are_refused_quickly(served: Served) -> None:
    """Without a look at each of them."""
    body = b"".join(part(f"f{number}", b"x") for number in range(100_000)) + form()
    used_s = served.used_s
    check_refused(await send(served, upload(body)))
    assert served.used_s - used_s < HEAVY_S


_CONTENT: Final = part("content", GOOD.body, filename=GOOD.filename.encode())
_END: Final = b"--%s--\r\n" % BOUNDARY
_BODIES: Final = {
    "nothing": b"",
    "only the end": _END,
    "no end": fields_of(GOOD) + _CONTENT,
    "half of the file": (fields_of(GOOD) + _CONTENT)[:-200],
    "no file": fields_of(GOOD) + _END,
    "the file twice": fields_of(GOOD) + _CONTENT + _CONTENT + _END,
    "the file as text": fields_of(GOOD) + part("content", GOOD.body) + _END,
    "another file field": fields_of(GOOD) + part("readme", b"x", filename=b"readme") + _CONTENT + _END,
    "an empty file": fields_of(GOOD) + part("content", b"", filename=GOOD.filename.encode()) + _END,
    "other line ends": form().replace(b"\r\n", b"\n"),
    "another boundary": form().replace(BOUNDARY, b"elsewhere"),
    "a longer boundary": form().replace(b"--" + BOUNDARY, b"--" + BOUNDARY + b"x"),
    "text before the boundary": b"hello" + form(),
    "no disposition": fields_of(GOOD) + b"--%s\r\n\r\nx\r\n" % BOUNDARY + _CONTENT + _END,
    "no name": fields_of(GOOD) + b"--%s\r\nContent-Disposition: form-data\r\n\r\nx\r\n" % BOUNDARY + _CONTENT + _END,
    "a header without colon": b"--%s\r\nhello\r\n\r\nx\r\n" % BOUNDARY + form(),
    "a huge header": part("x", b"y", more=b"X-Long: " + b"y" * 100_000 + b"\r\n") + form(),
    "many headers": part("x", b"y", more=b"X-Many: y\r\n" * 1000) + form(),
    "a length that lies": part("x", b"y", more=b"Content-Length: 1000000000\r\n") + form(),
    "a part in base64": part("x", b"eA==", more=b"Content-Transfer-Encoding: base64\r\n") + form(filename=b".."),
    "binary in a field": part("x", b"\xff\xfe") + form(),
    "a digest of something else": form(changes={"sha256_digest": "0" * 64}),
    "no digest": form(changes={"sha256_digest": ""}),
    "no name field": form(changes={"name": ""}),
    "random bytes": zlib.compress(form()) * 10,
}


@pytest.mark.parametrize("name", _BODIES)
async def test_a_malformed_form_is_refused(served: Served, name: str) -> None:
    """Boundary games and truncations: 400 with a sentence."""
    check_refused(await send(served, upload(_BODIES[name])))


@pytest.mark.parametrize(
    "content_type",
    [
        *(
            "",
            "text/plain",
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/mixed; boundary=frontier",
        ),
        *("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""', "; boundary=x"),
        *(
            "multipart/form-data; boundary=\xff\xfe",
            'multipart/form-data; boundary="\xe4"',
            "multipart/form-data;" * 500,
        ),
        *("multipart/form-data; boundary=" + "b" * 8000, "multipart/form-data; charset=utf-7; boundary=other"),
    ],
)
async def test_a_wrong_content_type_is_refused(served: Served, content_type: str) -> None:
    """Uploads are multipart/form-data with a boundary, or nothing."""
    check_refused(await send(served, upload(form(), Content_Type=content_type)))


async def test_endless_text_around_the_form_is_too_large(served: Served) -> None:
    """Without a length, before the first boundary or after the last: it ends at the limit of the upload."""
    head = upload(b"", Content_Length="", Transfer_Encoding="chunked")

    async def endless() -> AsyncIterator[bytes]:
        block = b"%x\r\n%s\r\n" % (1_000_000, b"\r\n" * 500_000)
        for _ in range(100):  # three times the limit
            yield block

    check_refused(await send(served, head, more=endless()), (413,))
    whole = form()
    check_refused(await send(served, head + b"%x\r\n%s\r\n" % (len(whole), whole), more=endless()), (413,))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "rot13"])
async def test_a_compressed_body_is_refused(served: Served, coding: str) -> None:
    """No client sends one, and unpacking would be the sender's choice of how much we do."""
    body = gzip.compress(form()) if coding == "gzip" else form()
    sentence = check_refused(await send(served, upload(body, Content_Encoding=coding)), (400, 415))
    assert "Content-Encoding" in sentence


async def test_a_gzip_bomb_is_not_unpacked(served: Served) -> None:
    """6 GB in 6 MB cost neither time nor memory, not even when the refusal is out and the rest still comes in."""
    member = gzip.compress(bytes(64 * 1024 * 1024))
    peak = Path(f"/proc/{served.pid}/status")
    Path(f"/proc/{served.pid}/clear_refs").write_text("5")
    before = _peak_bytes(peak)
    used_s = served.used_s
    head = upload(b"", Content_Encoding="gzip", Content_Length=str(100 * len(member)))

    async def members() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield member

    check_refused(await send(served, head, more=members()), (400, 415))
    assert served.used_s - used_s < HEAVY_S
    assert _peak_bytes(peak) - before < 32 * 1024 * 1024


def _peak_bytes(status: Path) -> int:
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize(
    ("secret", "status"), [("ovl_" + "s" * 9216, 401), ("pypi-" + "s" * 9216, 403), ("s" * 9216, 401)]
)
async def test_a_long_credential_is_read(served: Served, secret: str, status: int) -> None:
    """9 KiB are met in the wild, and are refused like any other; the log keeps nothing of it."""
    for headers in (basic(secret), {"Authorization": f"Bearer {secret}"}):
        reply = await send(served, upload(form(), **headers))
        check_refused(reply, (status,))
        assert b"ssss" not in reply.raw
    assert "ssss" not in served.log


async def test_a_header_beyond_the_limit_is_refused_without_quoting_it(served: Served) -> None:
    """It may be a credential: 431, and the value is neither in the answer nor in the log."""
    secret = "q" * 20_480
    for headers in (basic(secret), {"Authorization": f"Bearer {secret}"}, {"Cookie": secret}):
        reply = await send(served, upload(form(), **headers))
        assert reply.status == 431, reply.raw[:300]
        assert reply.single
        assert len(reply.body) > 20
        sent = next(iter(headers.values())).rsplit(" ", 1)[-1]
        assert sent[200:260].encode() not in reply.raw
        assert sent[200:260] not in served.log
    assert (await send(served, request("GET", "/simple/?" + "q" * 20_480))).status == 414
    assert "q" * 50 not in served.log


@pytest.mark.parametrize("host", ["evil.test", "evil.test:1234", "evil.test/x", '"><script>evil.test', "evil.test\\@x"])
async def test_a_forged_host_is_in_no_page_that_installers_read(served: Served, host: str) -> None:
    """URLs of staged files are relative, redirects stay on the server, and nothing of the value is in the page."""
    assert (await send(served, upload(form()))).status == 200
    try:
        for target in (
            "/simple/demo/",
            "/staged/simple/demo/",
            "/simple/Demo/",
            "/simple/demo",
            "/simple",
            "/project/Demo/",
        ):
            for accept in ("text/html", "application/vnd.pypi.simple.v1+json"):
                reply = await send(served, request("GET", target, headers={"Host": host, "Accept": accept}))
                assert reply.status < 500
                assert b"evil" not in reply.body
                assert "evil" not in reply.headers.get("location", "")
    finally:
        assert (await send(served, request("DELETE", "/api/v1/projects/demo/1.0"))).status == 200
        swept = request("POST", "/api/v1/sweep", b'{"older_than_s":0}', headers={"Content-Type": "application/json"})
        await send(served, swept)
        for path in served.files("history"):
            (served.store / path).unlink()


_HEAD: Final = "POST /legacy/ HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
_NEXT: Final = "GET /-/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
_SMUGGLED: Final = {
    "both lengths": _HEAD + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _NEXT,
    "both lengths, turned": _HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + _NEXT,
    "two lengths": _HEAD + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + _NEXT,
    "a list of lengths": _HEAD + "Content-Length: 5, 5\r\n\r\nhello" + _NEXT,
    "a signed length": _HEAD + "Content-Length: +5\r\n\r\nhello" + _NEXT,
    "a negative length": _HEAD + "Content-Length: -5\r\n\r\nhello" + _NEXT,
    "a hexadecimal length": _HEAD + "Content-Length: 0x5\r\n\r\nhello" + _NEXT,
    "a length of many digits": _HEAD + "Content-Length: " + "9" * 100 + "\r\n\r\nhello" + _NEXT,
    "a coding that is none": _HEAD + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + _NEXT,
    "chunked not last": _HEAD + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + _NEXT,
    "chunked twice": _HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _NEXT,
    "a blank before the colon": _HEAD + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + _NEXT,
    "a folded header": _HEAD + "X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n" + _NEXT,
    "a chunk size that is none": _HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n" + _NEXT,
    "a signed chunk size": _HEAD + "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n" + _NEXT,
    "a null in a header": _HEAD + "X-A: b\0c\r\n\r\n" + _NEXT,
    "a bare return in a header": _HEAD + "X-A: b\rTransfer-Encoding: chunked\r\n\r\n" + _NEXT,
    "a null in a name": _HEAD + "X\0A: b\r\n\r\n" + _NEXT,
    "two hosts": "GET /-/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + _NEXT,
    "no HTTP": "hello\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "x" * 200,
    "another version": "GET /-/health HTTP/9.9\r\nHost: x\r\n\r\n",
    "a method that is none": "GE<T /-/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "a null in the path": "GET /-/\0health HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", _SMUGGLED)
async def test_a_request_of_two_meanings_gets_one_answer(served: Served, name: str) -> None:
    """400, and what would be the next request to somebody else is not answered."""
    reply = await send(served, _SMUGGLED[name].encode("latin-1"))
    check_refused(reply, (400,))


async def test_many_requests_that_never_end_leave_room_for_others(served: Served) -> None:
    """A hundred uploads that stop in their middle: another request is answered at once, and when they go, all goes."""
    half = upload(form(), Content_Length=str(LIMIT_BYTES))[:-100]
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(ANSWER_LIMIT_S):
        hang = asyncio.Event()
        under_way = asyncio.Semaphore(0)

        async def stop_in_the_middle() -> None:
            async with connected(served, half):
                under_way.release()
                await hang.wait()

        for _ in range(100):
            tasks.create_task(stop_in_the_middle())
        for _ in range(100):
            await under_way.acquire()

        async def answered_s() -> float:
            began = time.monotonic()
            assert (await send(served, request("GET", "/-/health"))).status == 200
            assert (await send(served, request("GET", "/simple/demo/"))).status == 404
            return time.monotonic() - began

        assert await best_s(answered_s, limit_s=QUICK_S) < QUICK_S
        hang.set()
    await gone(served)


async def gone(served: Served) -> None:
    """Wait until the server has noticed that its clients went: each round trip lets it."""
    async with asyncio.timeout(ANSWER_LIMIT_S):
        while served.files("spool"):
            await send(served, request("GET", "/-/health"))
