"""The log: a line for every request and every record, in text or JSON, that nobody can forge and no secret enters."""

import asyncio
import io
import itertools
import json
import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from overlay.config.tables import Config
from overlay.web.access_log import LAG_S, AccessLog, Lines, Watch, request_ids
from overlay.web.log_format import JsonFormatter, LogForm, TextFormatter, masked
from overlay.web.metrics import Metrics
from tests.builders import wheel
from tests.fakes.index import ScriptedIndex
from tests.running import Running, basic, running

TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO overlay\.access: (.*)")
SECRET = "st_0123456789abcdef"


async def lines_of(config: Config, form: LogForm, *paths: str) -> list[str]:
    """Ask for the paths, as they stand, one connection each, and return what was logged."""
    log = io.StringIO()
    async with running(config, access_log=log, log_form=form) as overlay:
        for path in paths:
            await ask(overlay, path)
    return log.getvalue().splitlines()


async def ask(overlay: Running, path: str) -> bytes:
    host, _, port = overlay.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("utf-8", "surrogateescape"))
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_text_line_says_who_asked_what_and_how_it_went(config: Config) -> None:
    """Client, method and path, status, bytes, time and the id that the answer carries; no query."""
    (line,) = await lines_of(config, LogForm.TEXT, "/-/health?token=ovl_secret")
    found = TEXT_LINE.fullmatch(line)
    assert found is not None
    assert re.fullmatch(r'127\.0\.0\.1 "GET /-/health" 200 \d+ \d+\.\dms [0-9a-f]{16}', found[1])


async def test_a_json_line_is_one_object_with_the_same_facts(config: Config) -> None:
    """Its time is UTC with milliseconds, as collectors of logs expect."""
    log = io.StringIO()
    async with (
        running(config, access_log=log, log_form=LogForm.JSON) as overlay,
        overlay.get("/-/health?token=ovl_secret") as response,
    ):
        request_id = response.headers["X-Request-Id"]
    entry = json.loads(log.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry.pop("bytes") > 0
    assert entry.pop("ms") >= 0
    assert entry == {
        "level": "INFO",
        "logger": "overlay.access",
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/-/health",
        "status": 200,
        "request_id": request_id,
    }


@pytest.mark.parametrize("form", LogForm)
async def test_what_a_path_holds_stays_within_its_line(config: Config, form: LogForm) -> None:
    """Percent-encoded line breaks stay encoded; quotes, other bytes and endless paths do not break the form either."""
    paths = ["/a%0a2026%20forged", '/a"quoted\\"', "/\u00e9", "/" + "long" * 1900]
    lines = await lines_of(config, form, *paths)
    assert len(lines) == len(paths)
    assert all(len(line) < 4096 and line.isprintable() and line.replace("…", "").isascii() for line in lines)
    if form is LogForm.JSON:
        shown = [json.loads(line)["path"] for line in lines]
        assert shown[0] == "/a%0a2026%20forged"
        assert shown[1] == '/a"quoted\\"'


@pytest.mark.parametrize("form", LogForm)
@pytest.mark.parametrize("path", ["/\u00e9", "/\u2028x", "/\x85", "/\x1b[2J", "/a\nb", "/\udcff"])
async def test_what_another_parser_would_let_through_is_escaped(form: LogForm, path: str) -> None:
    """The parser in C refuses such paths; aiohttp's other one, in Python, does not."""
    log = io.StringIO()
    lines = Lines(log, form)
    AccessLog(Watch(Metrics(), lines, ()), "").log(make_mocked_request("GET", path), web.Response(), 0.1)
    lines.flush()
    (line,) = log.getvalue().splitlines()
    assert line.isprintable()
    assert line.isascii()


@pytest.mark.parametrize("form", LogForm)
async def test_a_secret_stage_is_never_logged(config: Config, form: LogForm) -> None:
    """However a client writes its URL; a public stage is shown."""
    encoded = SECRET.replace("_", "%5F").replace("s", "%73")
    paths = [f"/s/{name}/simple/demo/" for name in (SECRET, f"main+{SECRET}", encoded)]
    log = "\n".join(await lines_of(config, form, *paths, f"/s/{SECRET}", "/s/public/simple/"))
    assert "0123456789abcdef" not in log
    assert log.count("/s/st_…") == 4
    assert "/s/public/simple/" in log


@pytest.mark.parametrize("form", LogForm)
async def test_requests_that_are_no_http_have_their_line(config: Config, form: LogForm) -> None:
    """They never reach the application, which gives ids; they are answered and logged all the same."""
    log = io.StringIO()
    async with running(config, access_log=log, log_form=form) as overlay:
        await ask(overlay, "/a b c")
    (line,) = log.getvalue().splitlines()
    if form is LogForm.JSON:
        assert json.loads(line)["status"] == 400
    else:
        assert " 400 " in line


@pytest.mark.parametrize("target", ["http://ci:hunter2@index.example/simple/", "ci:hunter2@index.example:443"])
async def test_a_credential_in_the_target_is_never_logged(target: str) -> None:
    """Clients of a proxy send a whole URL (RFC 9112 §3.2.2), or a host: what stands before the @ is theirs alone."""
    log = io.StringIO()
    lines = Lines(log)
    lines.add(note(1, target))
    lines.add(note(2, "/files/a@b/c"))
    lines.flush()
    assert "hunter2" not in log.getvalue()
    assert "index.example" in log.getvalue()
    assert '"GET /files/a@b/c"' in log.getvalue()


class Pieces(io.StringIO):
    """A stream that keeps what it is given apart."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


def note(number: int, path: str = "/…") -> tuple[float, str, str, str, int, int, float, str]:
    return time.time(), "192.0.2.1", "GET", path, 200, 1, 0.001, str(number)


async def test_lines_are_written_in_pieces_that_pipes_keep_whole() -> None:
    """Workers share one stderr: POSIX mixes no writes of up to PIPE_BUF bytes, and lines never stretch over two."""
    stream = Pieces()
    lines = Lines(stream)
    for number in range(300):
        lines.add(note(number, f"/{'long' * (number % 300)}\u00e9"))
    lines.flush()
    assert len(stream.pieces) > 1
    assert all(len(piece.encode()) <= 4096 and piece.endswith("\n") for piece in stream.pieces)
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == [str(number) for number in range(300)]


async def test_a_line_is_written_soon_without_further_requests() -> None:
    """Whoever watches the log of a quiet server waits a tenth of a second."""
    stream = Pieces()
    lines = Lines(stream)
    lines.add(note(1))
    assert not stream.pieces
    async with asyncio.timeout(30):
        while not stream.pieces:
            await asyncio.sleep(LAG_S / 10)
    lines.add(note(2))
    lines.flush()
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["1", "2"]


async def test_a_busy_server_writes_before_the_time_is_up() -> None:
    """What a killed process loses, and what a flush takes, are bounded by a number of lines, too."""
    stream = Pieces()
    lines = Lines(stream)
    for number in range(1000):
        lines.add(note(number))
    assert len(stream.getvalue().splitlines()) > 900
    lines.flush()
    assert len(stream.getvalue().splitlines()) == 1000


async def test_each_request_has_its_line_in_the_order_of_the_answers(config: Config, index: ScriptedIndex) -> None:
    """Pages and their 304s, refusals of the short way and of the router, over one connection; no id comes twice."""
    index.add(wheel("demo", "1.0"))
    log = io.StringIO()
    async with running(config, access_log=log, log_form=LogForm.JSON) as overlay:
        answered = []
        for number in range(200):
            path = ("/simple/demo/", "/simple/demo/", "/simple/none/", "/-/health", "/nowhere/")[number % 5]
            async with overlay.get(path, If_None_Match="*" if number % 5 else '"another"') as response:
                answered.append((path, response.status, response.headers["X-Request-Id"]))
    assert {status for _, status, _ in answered} == {200, 304, 404}
    entries = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(entry["path"], entry["status"], entry["request_id"]) for entry in entries] == answered
    assert len({request_id for _, _, request_id in answered}) == len(answered)


def test_request_ids_do_not_repeat() -> None:
    """Each is 64 random bits in hex, however many are asked for."""
    ids = list(itertools.islice(request_ids(), 5000))
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", request_id) for request_id in ids)


async def test_a_log_that_cannot_be_written_fails_no_request(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    """A closed pipe or a full disk behind stderr is no reason not to serve, and there is nobody to tell."""
    log = io.StringIO()
    log.close()
    async with running(config, access_log=log) as overlay, overlay.get("/-/health") as response:
        assert response.status == 200
    assert not [record for record in caplog.records if record.name == "asyncio"]


def logged(form: LogForm, error: str, message: str, *arguments: str) -> str:
    """Return what is written of an error that was caught."""
    try:
        fail(error)
    except ValueError as err:
        record = logging.LogRecord(
            "overlay.test", logging.ERROR, "", 0, message, arguments, (type(err), err, err.__traceback__)
        )
        return (JsonFormatter() if form is LogForm.JSON else TextFormatter()).format(record)
    raise AssertionError


def fail(error: str) -> None:
    raise ValueError(error)


def test_a_record_in_text_is_one_line_and_an_indented_traceback() -> None:
    """No line of a traceback can be taken for a record, whatever the error says."""
    forged = "\n2026-01-01 00:00:00,000 INFO overlay.access: forged"
    first, *rest = logged(LogForm.TEXT, f"first{forged}\x1b[2J", "failed for %s", f"demo{forged}").splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ERROR overlay\.test: failed for demo\\n2026", first)
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_a_record_in_json_is_one_object_with_its_traceback() -> None:
    """The traceback is a string of several lines inside of it."""
    (line,) = logged(LogForm.JSON, "first\nsecond", "failed for %s", "demo\nforged \udcff").splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["logger"]) == ("ERROR", "overlay.test")
    assert entry["message"] == "failed for demo\nforged \udcff"
    assert entry["exception"].startswith("Traceback (most recent call last):\n")
    assert entry["exception"].endswith("ValueError: first\nsecond")


@pytest.mark.parametrize("form", LogForm)
def test_records_hide_secret_stages(form: LogForm) -> None:
    """In the message and in the traceback."""
    written = logged(form, f"GET https://index.example/s/{SECRET}/simple/?x=1", "failed: GET /s/%s/simple/", SECRET)
    assert SECRET not in written
    assert written.count("/simple/") == 2
    assert SECRET.removeprefix("st_") not in logged(form, f"GET /%73/%73{SECRET.removeprefix('s')}/simple/", "failed")


@given(st.text(), st.sampled_from(LogForm))
def test_no_message_makes_two_lines(text: str, form: LogForm) -> None:
    """A log line ends where its record ends."""
    record = logging.LogRecord("overlay", logging.INFO, "", 0, "%s", (text,), None)
    line = (JsonFormatter() if form is LogForm.JSON else TextFormatter()).format(record)
    assert len(line.splitlines()) == 1
    if form is LogForm.JSON:
        assert json.loads(line)["message"] == masked(text)


PROGRAM = """
import logging, sys, threading, warnings
from overlay.web.log_format import LogForm, configure_logging
configure_logging(LogForm(sys.argv[1]), sys.stderr)
class Broken:
    def __del__(self):
        raise ValueError("in del")
logging.getLogger("overlay.any").warning("a warning")
warnings.warn("of\\nPython")
thread = threading.Thread(target=lambda: 1 / 0, name="worker")
thread.start(); thread.join()
Broken()
raise KeyError("at the end")
"""


@pytest.mark.parametrize("form", LogForm)
def test_everything_a_process_says_has_the_form(form: LogForm, tmp_path: Path) -> None:
    """Records, Python's warnings, and what nobody caught: in the main thread, in another, in a finalizer."""
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM, form.value],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ended.returncode == 1
    assert all(word in ended.stderr for word in ("a warning", "Python", "ZeroDivisionError", "in del", "at the end"))
    if form is LogForm.JSON:
        entries = [json.loads(line) for line in ended.stderr.splitlines()]
        assert [entry["level"] for entry in entries] == ["WARNING", "WARNING", "ERROR", "ERROR", "CRITICAL"]
        assert all(set(entry) <= {"time", "level", "logger", "message", "exception"} for entry in entries)


async def test_a_failed_request_is_found_by_the_id_in_its_answer(config: Config) -> None:
    """The answer, the access line and the id in X-Request-Id agree."""
    log = io.StringIO()
    async with (
        running(config, access_log=log, log_form=LogForm.JSON) as overlay,
        overlay.session.post(overlay.legacy, headers=basic("ovl_wrong")) as response,
    ):
        request_id = response.headers["X-Request-Id"]
    entry = json.loads(log.getvalue())
    assert (entry["request_id"], entry["status"]) == (request_id, 401)
