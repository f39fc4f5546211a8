"""The commands that ask a server, against a real one."""

import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from yarl import URL

from overlay.cli.client import Call, Connection, Server, server
from overlay.cli.main import main
from overlay.cli.manage import shown
from overlay.cli.outcome import DONE, FAILED, REFUSED, USAGE, CommandFailed
from overlay.domain.wire import PromotingFileView, ReleasePromotionView, ReleaseView, ServerInfo
from overlay.promote.proxies import proxy_for
from tests.builders import sdist, wheel
from tests.cli.conftest import Command
from tests.running import ADMIN, Running

DEMO = wheel("demo", "1.0")
SOURCE = sdist("demo", "1.0")


# Reading


async def test_list_shows_what_is_staged(overlay: Running, command: Command) -> None:
    await overlay.upload(DEMO)
    await overlay.upload(wheel("other", "2.0"))
    heads, *rows = (await command("list")).out.splitlines()
    assert heads.split() == ["PROJECT", "VERSION", "FILE", "SIZE", "STANDING", "STAGED", "BY"]
    assert [row.split()[:3] for row in rows] == [
        ["demo", "1.0", DEMO.filename],
        ["other", "2.0", "other-2.0-py3-none-any.whl"],
    ]
    assert "other" not in (await command("list", "demo")).out


async def test_list_of_nothing_is_a_sentence(command: Command) -> None:
    ran = await command("list")
    assert (ran.code, ran.out) == (DONE, "Nothing is staged.\n")


async def test_show_says_digests_standing_and_findings(overlay: Running, command: Command) -> None:
    await overlay.upload(DEMO)
    ran = await command("show", "demo==1.0")
    assert ran.code == DONE
    assert "demo==1.0: 1 file staged" in ran.out
    assert f"{DEMO.sha256}  {DEMO.filename}" in ran.out


def test_show_says_how_far_a_promotion_came() -> None:
    """And who runs it; nothing where there is none."""
    release = ReleaseView(project="demo", version="1.0", upstream_known=True, files=())
    assert "romotion" not in shown(release)
    promotion = ReleasePromotionView(
        id="a" * 32,
        state="waiting",
        who="ci\x1b[2J",
        since="2026-01-31T08:15:02.000000Z",
        files=(PromotingFileView(filename=DEMO.filename, state="pushed"),),
    )
    said = shown(msgspec.structs.replace(release, promotion=promotion))
    assert "Promotion waiting, by ci\N{REPLACEMENT CHARACTER}[2J since 2026-01-31 08:15 UTC:" in said
    assert f"{DEMO.filename}  pushed" in said


def test_show_says_that_a_promotion_ended_and_where_its_receipt_is() -> None:
    """And where it went, and what went with it; of one that runs, how long its lease is."""
    release = ReleaseView(project="demo", version="1.0", upstream_known=True, files=())
    promotion = ReleasePromotionView(
        id="a" * 32,
        state="live",
        who="ci",
        since="2026-01-31T08:15:02.000000Z",
        files=(),
        others=("other==2.0",),
        target="https://upload.example/legacy/",
        ended_at="2026-01-31T08:17:02.000000Z",
        ended_by="ada\x1b[2J",
        url="https://overlay.example/api/v1/promotions/a",
    )
    said = shown(msgspec.structs.replace(release, promotion=promotion)).splitlines()
    ended = "ended 2026-01-31 08:17 UTC by ada\N{REPLACEMENT CHARACTER}[2J"
    assert f"Promotion live, by ci since 2026-01-31 08:15 UTC, {ended}:" in said
    assert {
        "Target: https://upload.example/legacy/",
        "Together with: other==2.0",
        "Receipt: https://overlay.example/api/v1/promotions/a",
    } <= {*said}
    runs = msgspec.structs.replace(
        promotion, state="running", ended_at=None, leased_until="2026-01-31T08:16:02.000000Z"
    )
    assert "its lease till 2026-01-31 08:16 UTC unless renewed" in shown(
        msgspec.structs.replace(release, promotion=runs)
    )


async def test_show_without_version_shows_every_staged_one(overlay: Running, command: Command) -> None:
    await overlay.upload(DEMO)
    await overlay.upload(wheel("demo", "1.1"))
    ran = await command("show", "Demo")
    assert "demo==1.0" in ran.out
    assert "demo==1.1" in ran.out
    assert [release["version"] for release in json.loads((await command("show", "demo", "--json")).out)] == [
        "1.0",
        "1.1",
    ]


@pytest.mark.parametrize("name", ["demo", "demo==9"])
async def test_show_of_nothing_fails(command: Command, name: str) -> None:
    ran = await command("show", name)
    assert ran.code == FAILED
    assert "Nothing is staged for demo" in ran.err


async def test_sums_are_what_sha256sum_checks(overlay: Running, command: Command, tmp_path: Path) -> None:
    for built in (DEMO, SOURCE):
        await overlay.upload(built)
        (tmp_path / built.filename).write_bytes(built.body)
    ran = await command("show", "demo==1.0", "--sums")
    for line in ran.out.splitlines():
        digest, _, filename = line.partition("  ")
        assert hashlib.sha256((tmp_path / filename).read_bytes()).hexdigest() == digest
    checked = subprocess.run(["sha256sum", "-c"], input=ran.out, cwd=tmp_path, text=True, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("list",), "files"),
        (("show", "demo==1.0"), "upstream_known"),
        (("history", "demo"), "entries"),
        (("events",), "epoch"),
        (("token", "list"), "tokens"),
        (("sweep", "--dry-run"), "blobs"),
        (("reconcile",), "projects"),
        (("token", "create", "--label", "ci", "--right", "read", "--project", "*"), "text"),
        (("withdraw", "demo==1.0"), "files"),
    ],
)
async def test_json_is_the_noun_of_the_api(
    overlay: Running, command: Command, words: tuple[str, ...], key: str
) -> None:
    await overlay.upload(DEMO)
    ran = await command(*words, "--json")
    assert ran.code == DONE
    assert key in json.loads(ran.out)


# Changing


async def test_withdraw_names_what_is_live_and_stays(overlay: Running, command: Command) -> None:
    for built in (DEMO, SOURCE):
        await overlay.upload(built)
    ledger = overlay.wired.services.ledger
    (upload,) = [file.upload_id for file in (await ledger.index()).files if file.filename == SOURCE.filename]
    await ledger.mark_live([upload])
    ran = await command("withdraw", "demo==1.0")
    assert ran.code == DONE
    assert "Withdrew 1 file of demo==1.0" in ran.out
    assert f"{SOURCE.filename} stays: it is live upstream." in ran.out
    ran = await command("withdraw", "demo==1.0")
    assert ran.code == REFUSED
    assert "yank or delete it there" in ran.err


async def test_withdraw_ends_the_named_files_and_history_tells(overlay: Running, command: Command) -> None:
    for built in (DEMO, SOURCE):
        await overlay.upload(built)
    assert (await command("history", "demo")).out == "No staged file of demo has ended yet.\n"
    ran = await command("withdraw", "demo==1.0", SOURCE.filename)
    assert ran.code == DONE
    assert f"{SOURCE.sha256}  {SOURCE.filename}" in ran.out
    listed = (await command("list")).out
    assert DEMO.filename in listed
    assert SOURCE.filename not in listed
    row = (await command("history", "demo")).out.splitlines()[1]
    assert "withdrawn" in row
    assert SOURCE.filename in row


async def test_a_created_tokens_text_alone_goes_to_stdout_and_it_works(
    overlay: Running, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    await overlay.upload(DEMO)
    made = await command(
        "token", "create", "--label", "ci", "--right", "stage", "--project", "demo", "--expires-in", "2h"
    )
    text = made.out.strip()
    assert text.startswith("ovl_")
    assert text not in made.err
    token_id = made.err.split()[1].rstrip(",")
    listed = (await command("token", "list")).out
    assert token_id in listed
    assert text not in listed

    monkeypatch.setenv("OVERLAY_TOKEN", text)
    assert (await command("withdraw", "demo==1.0")).code == DONE
    monkeypatch.setenv("OVERLAY_TOKEN", ADMIN)
    assert (await command("token", "revoke", token_id)).code == DONE
    monkeypatch.setenv("OVERLAY_TOKEN", text)
    assert (await command("withdraw", "demo==1.0")).code == REFUSED


async def test_no_tokens_are_a_sentence(command: Command) -> None:
    assert (await command("token", "list")).out == "No token is stored.\n"


async def test_reconcile_heals_the_ledger_and_says_so(overlay: Running, command: Command) -> None:
    await overlay.upload(DEMO)
    assert (await command("reconcile")).out == "The ledger agrees with the records.\n"
    await overlay.wired.services.ledger.load((), ())
    assert (await command("list")).out == "Nothing is staged.\n"
    said = "Looked again at 1 project and 0 tokens; the ledger agrees with the records now.\n"
    assert (await command("reconcile")).out == said
    assert DEMO.filename in (await command("list")).out


async def test_sweep_says_what_it_did(overlay: Running, command: Command, tmp_path: Path) -> None:
    await overlay.upload(DEMO)
    await command("withdraw", "demo==1.0")
    assert (await command("sweep")).out == "Deleted 0 blobs, 0 B.\n"
    assert (await command("sweep", "--older-than", "0", "--dry-run")).out.startswith("Would delete 2 blobs, ")
    (tmp_path / "store/spool/left").write_bytes(b"half")
    said = (await command("sweep", "--older-than", "0")).out
    assert said.startswith("Deleted 2 blobs, ")
    assert said.endswith("\nEnded 1 unfinished upload.\n")


# Failing


async def test_without_token_the_variable_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERLAY_TOKEN")
    ran = await command("token", "list")
    assert ran.code == REFUSED
    assert "OVERLAY_TOKEN is not set" in ran.err


async def test_an_unknown_token_is_refused_and_never_printed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLAY_TOKEN", "ovl_unknown-secret")
    ran = await command("token", "list")
    assert ran.code == REFUSED
    assert "OVERLAY_TOKEN was not accepted" in ran.err
    assert "unknown-secret" not in ran.err


async def test_a_token_without_the_right_is_refused_with_what_would_help(
    overlay: Running, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLAY_TOKEN", await overlay.token("read"))
    ran = await command("sweep")
    assert ran.code == REFUSED
    assert "this needs admin" in ran.err
    assert "OVERLAY_TOKEN" in ran.err


async def test_a_server_that_is_not_there_is_named(command: Command) -> None:
    ran = await command("list", "--url", "http://127.0.0.1:9")
    assert ran.code == FAILED
    assert "Cannot reach the overlay at http://127.0.0.1:9: the connection was refused." in ran.err


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("", USAGE, "OVERLAY_URL"),
        ("overlay.example", USAGE, "http://"),
        ("ftp://overlay.example", USAGE, "http://"),
        ("http://", USAGE, "host"),
        ("http://[", USAGE, "none"),
        ("http://ada:secret@overlay.example", USAGE, "OVERLAY_TOKEN"),
    ],
)
def test_an_address_that_is_none_is_wrong_usage(url: str, code: int, words: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        server(url, {})
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_token_of_pypi_is_never_sent() -> None:
    with pytest.raises(CommandFailed) as caught:
        server("http://overlay.example", {"OVERLAY_TOKEN": "pypi-secret"})
    assert caught.value.code == REFUSED
    assert "pypi-secret" not in str(caught.value)


def test_the_token_is_not_in_the_servers_representation() -> None:
    assert "ovl_x" not in repr(server("http://overlay.example/next/", {"OVERLAY_TOKEN": "ovl_x"}))


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://overlay.example", "http://proxy.example:3128"),
        ("http://overlay.example", None),  # http_proxy is not set
        ("https://inside.example", None),
        ("https://127.0.0.1:8080", None),
        ("https://[::1]:8080", None),
        ("https://localhost", None),
    ],
)
def test_the_environments_proxy_is_used_but_not_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_for(URL(url)) == proxy


# Another server


@pytest.fixture
async def stranger() -> AsyncIterator[tuple[Server, list[str]]]:
    """A server that is no overlay: /redirects leads to /caught, everything else is a page."""
    seen: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        seen.append(request.path)
        if request.path.startswith("/redirects"):
            raise web.HTTPTemporaryRedirect(f"http://{request.host}/caught")
        if request.path.startswith("/absent"):
            raise web.HTTPNotFound
        if request.path.startswith("/fails"):
            return web.Response(status=502, text="<h1>Bad Gateway</h1>")
        return web.Response(text="<h1>Hello</h1>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield server(f"http://127.0.0.1:{runner.addresses[0][1]}", {"OVERLAY_TOKEN": "ovl_x"}), seen
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/redirects", "redirects to"),
        ("/fails", "answered 502 Bad Gateway"),
        ("/page", "is not the overlay's API"),
        ("/absent", "answered 404 Not Found.\nNo overlay has its API at .*/absent/api/v1"),
    ],
)
async def test_a_server_that_is_no_overlay_gets_a_sentence(
    stranger: tuple[Server, list[str]], path: str, words: str
) -> None:
    at, seen = stranger
    async with Connection(Server(at.url / path[1:], at.token)) as connection:
        with pytest.raises(CommandFailed, match=words):
            await connection.call(Call(method="GET", path="/info"), ServerInfo)
    assert seen == [f"{path}/api/v1/info"]  # and no redirect was followed


async def test_an_overlay_that_is_asked_at_another_path_says_so(
    overlay: Running, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OVERLAY_URL names the overlay's own root, not a page below it; what it does not have is another thing."""
    monkeypatch.setenv("OVERLAY_URL", f"{overlay.url}/simple")
    told = await command("list")
    assert told.code == FAILED
    assert f"No overlay has its API at {overlay.url}/simple/api/v1. Is OVERLAY_URL right" in told.err
    monkeypatch.setenv("OVERLAY_URL", overlay.url)
    assert "OVERLAY_URL" not in (await command("show", "demo==9.9")).err


# Usage


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("show",),
        ("show", "demo=1.0"),
        ("show", "demo==1.0", "--sums", "--json"),
        ("withdraw", "demo"),
        ("withdraw", "demo=="),
        ("history", "../etc"),
        ("sweep", "--older-than", "soon"),
        ("token",),
        ("token", "create", "--right", "read"),
        ("serve", "--port", "http"),
    ],
)
def test_wrong_usage_exits_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == USAGE
    assert "usage: overlay" in capsys.readouterr().err


def test_help_opens_with_the_happy_path(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    out = capsys.readouterr().out
    assert caught.value.code == DONE
    path = ["overlay serve ", "export OVERLAY_URL=", "twine upload ", "pip install ", "overlay show ", "commands:"]
    assert sorted(path, key=out.index) == path


def test_the_version_comes_without_the_servers_imports() -> None:
    program = (
        "import sys\nfrom overlay.cli.main import main\ntry:\n    main(['--version'])\n"
        "except SystemExit:\n    print(sorted({'aiohttp', 'msgspec', 'jinja2'} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[1] == "[]"
