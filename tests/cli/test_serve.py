"""The commands that run in their own process, as a user starts them."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from overlay.domain.layout import record_key
from overlay.domain.records import Record, encode
from overlay.storage.documents_directory import DirectoryDocuments
from overlay.storage.files import empty_spool
from tests.builders import sdist, wheel
from tests.fakes.index import Answer, ScriptedIndex
from tests.ports import free_port
from tests.staged import staged_file

ROOT = Path(__file__).parent.parent.parent


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OVERLAY_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


async def overlay(folder: Path, *arguments: str, **more: str) -> tuple[int, str]:
    """Run to the end; returns exit code and both outputs."""
    process = await start(folder, *arguments, **more)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out + err).decode()


async def start(folder: Path, *arguments: str, **more: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "overlay", *arguments, cwd=folder, env=environment(**more), stdout=PIPE, stderr=PIPE
    )


@asynccontextmanager
async def serving(folder: Path, *arguments: str, **more: str) -> AsyncIterator[tuple[str, Process]]:
    """Serve on a free port; yields the URL that it printed."""
    process = await start(folder, "serve", "--port", "0", *arguments, **more)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode()
        found = re.search(r"http://\S+?(?=/ )", line)
        assert found is not None, line
        yield found.group(), process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.communicate()


@pytest.fixture
async def index() -> AsyncIterator[ScriptedIndex]:
    async with ScriptedIndex() as made:
        made.add(wheel("pip", "99.0"), wheel("demo", "0.9"))
        yield made


async def test_the_first_start_makes_a_token_that_only_its_owner_reads(tmp_path: Path, index: ScriptedIndex) -> None:
    """The printed line works as it stands; the second start keeps the token."""
    token_file = tmp_path / "data" / "admin-token"
    async with serving(tmp_path, OVERLAY_UPSTREAM_URL=index.simple_url) as (url, _):
        assert token_file.stat().st_mode & 0o777 == 0o600
        token = token_file.read_text().strip()
        async with aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get(f"{url}/api/v1/tokens", headers=headers) as response:
                assert response.status == 200
    async with serving(tmp_path, OVERLAY_UPSTREAM_URL=index.simple_url):
        assert token_file.read_text().strip() == token
    token_file.unlink()
    async with serving(tmp_path, OVERLAY_UPSTREAM_URL=index.simple_url):
        assert token_file.read_text().strip() != token


async def test_an_operators_token_leaves_no_file(tmp_path: Path, index: ScriptedIndex) -> None:
    """OVERLAY_ADMIN_TOKEN is the admin token, and none is written."""
    token = "ovl_" + "o" * 40
    async with serving(tmp_path, OVERLAY_UPSTREAM_URL=index.simple_url, OVERLAY_ADMIN_TOKEN=token) as (url, _):
        assert not (tmp_path / "data" / "admin-token").exists()
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{url}/api/v1/tokens") as response:
            assert response.status == 200


DISTRIBUTED = {
    "OVERLAY_STORE_KIND": "s3",
    "OVERLAY_STORE_BUCKET": "nowhere",
    "OVERLAY_LEDGER_KIND": "redis",
    "OVERLAY_SERVER_WORKERS": "2",
}


@pytest.mark.parametrize("settings", [{}, DISTRIBUTED], ids=["embedded", "distributed"])
async def test_serve_with_files_is_an_overlay_that_forgets(
    tmp_path: Path, index: ScriptedIndex, settings: dict[str, str]
) -> None:
    """The files are staged, live projects are there, and nothing stays behind, whatever form is configured."""
    for built in (wheel("demo", "1.0"), sdist("demo", "1.0")):
        (tmp_path / built.filename).write_bytes(built.body)
    names = [path.name for path in tmp_path.iterdir()]
    async with (
        serving(tmp_path, "--with", *names, OVERLAY_UPSTREAM_URL=index.simple_url, **settings) as (url, process),
        aiohttp.ClientSession() as session,
        session.get(f"{url}/simple/demo/") as response,
    ):
        page = await response.text()
    assert all(name in page for name in [*names, "demo-0.9-py3-none-any.whl"])
    assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


async def test_serve_with_a_file_that_is_none_says_so(tmp_path: Path, index: ScriptedIndex) -> None:
    """Exit 1, naming the file; a missing one too."""
    (tmp_path / "demo-1.0.tar.gz").write_bytes(b"no archive")
    for name in ("demo-1.0.tar.gz", "demo-2.0.tar.gz", "notes.txt"):
        code, output = await overlay(tmp_path, "serve", "--with", name, OVERLAY_UPSTREAM_URL=index.simple_url)
        assert code == 1
        assert name in output
        assert "Traceback" not in output


async def test_a_second_server_on_a_store_is_refused(tmp_path: Path, index: ScriptedIndex) -> None:
    """Exit 2, naming the process that holds it; `overlay check` says it too and is fine with it."""
    async with serving(tmp_path, OVERLAY_UPSTREAM_URL=index.simple_url) as (_, process):
        code, output = await overlay(tmp_path, "serve", "--port", "0", OVERLAY_UPSTREAM_URL=index.simple_url)
        assert code == 2
        assert str(process.pid) in output
        code, output = await overlay(tmp_path, "check", OVERLAY_UPSTREAM_URL=index.simple_url)
        assert code == 0, output
        assert str(process.pid) in output


async def test_check_names_what_fails(tmp_path: Path, index: ScriptedIndex) -> None:
    """One line a part, exit 1; a wrong configuration is exit 2."""
    assert (await overlay(tmp_path, "check", OVERLAY_UPSTREAM_URL=index.simple_url))[0] == 0
    index.down = True
    code, output = await overlay(tmp_path, "check", OVERLAY_UPSTREAM_URL=index.simple_url)
    assert code == 1
    assert re.search(r"^upstream +FAILED", output, re.MULTILINE)
    code, output = await overlay(tmp_path, "check", OVERLAY_SERVER_PORT="many")
    assert code == 2
    assert "[server] port must be a whole number" in output


async def test_check_says_each_trouble_once(tmp_path: Path, index: ScriptedIndex) -> None:
    """A Redis and a bucket that are away have a line each, with the reason, and none on stderr besides."""
    nobody = f"127.0.0.1:{free_port()}"
    code, output = await overlay(
        tmp_path,
        "check",
        OVERLAY_UPSTREAM_URL=index.simple_url,
        OVERLAY_STORE_KIND="s3",
        OVERLAY_STORE_BUCKET="staged",
        OVERLAY_STORE_ENDPOINT_URL=f"http://{nobody}",
        OVERLAY_LEDGER_KIND="redis",
        OVERLAY_LEDGER_URL=f"redis://{nobody}/0",
        AWS_ACCESS_KEY_ID="key",
        AWS_SECRET_ACCESS_KEY="secret",
    )
    assert code == 1, output
    assert [line.split(maxsplit=2)[:2] for line in output.splitlines()] == [
        ["configuration", "ok"],
        ["store", "FAILED:"],
        ["ledger", "FAILED:"],
        ["upstream", "ok,"],
    ], output
    assert "refuses" in output.splitlines()[2]


async def test_check_changes_nothing(tmp_path: Path, index: ScriptedIndex) -> None:
    """No folder is made, no lock, and what a rebuild would settle stays; a killed server's lock is no lock."""
    code, output = await overlay(tmp_path, "check", OVERLAY_UPSTREAM_URL=index.simple_url)
    assert code == 0
    assert "the first start will make it" in output
    assert list(tmp_path.iterdir()) == []
    root = tmp_path / "data"
    documents = DirectoryDocuments(root, empty_spool(root))
    for number in (1, 2):  # of one name: a rebuild ends the first
        file = staged_file(number, content=f"bytes {number}")
        await documents.put(
            record_key(file.project, file.upload_id),
            encode(Record(file=file, form=(), attestations=None, replace=True)),
        )
    (root / "lock").write_text("1\n")
    before = contents(root)
    code, output = await overlay(tmp_path, "check", OVERLAY_UPSTREAM_URL=index.simple_url)
    assert code == 0
    assert "ok, 1 staged files" in output
    assert contents(root) == before


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in root.rglob("*")
    }


async def test_check_says_what_it_found_upstream(tmp_path: Path, index: ScriptedIndex) -> None:
    """A private index need not have pip; that it answers is what counts. No credential is printed."""
    credential = index.simple_url.replace("http://", "http://ada:s3cret@")
    code, output = await overlay(tmp_path, "check", OVERLAY_UPSTREAM_URL=credential)
    assert code == 0
    assert re.search(rf"^upstream +ok, {index.simple_url} has pip \([0-9,]+ bytes\)$", output, re.MULTILINE)
    index.remove("pip-99.0-py3-none-any.whl")
    index.script("pip", Answer(status=404))
    code, output = await overlay(tmp_path, "check", OVERLAY_UPSTREAM_URL=credential)
    assert code == 0
    assert re.search(rf"^upstream +ok, {index.simple_url} has no pip, but answers$", output, re.MULTILINE)
    assert "s3cret" not in output


async def test_the_start_prints_no_credential(tmp_path: Path, index: ScriptedIndex) -> None:
    """Neither a user nor a password of upstream's URL."""
    credential = index.simple_url.replace("http://", "http://ada:s3cret@")
    process = await start(tmp_path, "serve", "--port", "0", OVERLAY_UPSTREAM_URL=credential)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = await process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        out, err = await process.communicate()
    assert line.decode().endswith(f"in front of {index.simple_url}\n")
    assert b"s3cret" not in out + err


@pytest.mark.parametrize("wanted", [True, False])
async def test_the_access_log_may_be_left_to_the_proxy(tmp_path: Path, index: ScriptedIndex, *, wanted: bool) -> None:
    """Everything else is logged and counted all the same."""
    named = {"OVERLAY_UPSTREAM_URL": index.simple_url, "OVERLAY_SERVER_ACCESS_LOG": str(wanted).lower()}
    async with serving(tmp_path, **named) as (url, process):
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/simple/demo/") as response:
                assert response.status == 200
            async with session.get(f"{url}/-/metrics") as response:
                assert 'overlay_http_requests_total{method="GET",route="/simple/{project}/"' in await response.text()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            _, err = await process.communicate()
    assert (b'"GET /simple/demo/" 200' in err) is wanted


async def test_config_prints_what_is_in_effect(tmp_path: Path) -> None:
    """From the file and the environment; a file in the current folder is never read unasked."""
    (tmp_path / "config.toml").write_text("[server]\nport = 1234\n")
    code, output = await overlay(tmp_path, "config", OVERLAY_SERVER_HOST="0.0.0.0")
    assert code == 0
    assert "port = 8080" in output
    assert 'host = "0.0.0.0"' in output
    for asked in (["--config", "config.toml"], []):
        more = {} if asked else {"OVERLAY_CONFIG": "config.toml"}
        code, output = await overlay(tmp_path, "config", *asked, **more)
        assert "port = 1234" in output


async def test_workers_are_refused_with_the_reason(tmp_path: Path) -> None:
    """The memory ledger lives in one process."""
    code, output = await overlay(tmp_path, "serve", "--workers", "2")
    assert code == 2
    assert "a second worker would not see" in output


async def test_a_taken_port_is_said(tmp_path: Path, index: ScriptedIndex) -> None:
    """Exit 1 with a sentence, not a traceback."""
    port = index.url.rpartition(":")[2]
    code, output = await overlay(tmp_path, "serve", "--port", port, OVERLAY_UPSTREAM_URL=index.simple_url)
    assert code == 1
    assert "Traceback" not in output
    assert port in output
