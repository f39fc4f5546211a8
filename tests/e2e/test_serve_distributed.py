"""`make serve-distributed`: what it prints is so, and Ctrl-C leaves nothing behind."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import Final

import aiohttp
import psutil
import pytest

from overlay.domain.page import Format
from tests.builders import wheel
from tests.fakes.index import ScriptedIndex
from tests.ports import free_port
from tests.running import basic, form

pytestmark = pytest.mark.hosts

LIMIT_S: Final = 120.0
CHECKOUT: Final = Path(__file__).parent.parent.parent
URLS: Final = re.compile(r"Two overlays of one index: (\S+)/ and (\S+)/")
TOKEN: Final = re.compile(r"OVERLAY_TOKEN=\$\(cat (\S+)\)")


async def test_it_serves_on_two_hosts_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """What is staged on the first is listed by the second; no process is left after that."""
    async with ScriptedIndex() as index:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.serve_distributed"),
            *("--port", str(free_port()), "--upstream", index.simple_url),
            cwd=tmp_path,  # what it stores is put there
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
            stdout=asyncio.subprocess.PIPE,
        )
        tree = [psutil.Process(process.pid)]
        try:
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT_S):
                said = (await process.stdout.readuntil(b"Ctrl-C ends all of it")).decode()
            tree += tree[0].children(recursive=True)
            one, other = _found(URLS, said)
            (token_file,) = _found(TOKEN, said)
            async with aiohttp.ClientSession(headers={"Accept": Format.JSON.value}) as session:
                token = basic(Path(token_file).read_text().strip())
                file = wheel("demo", "1.1")
                async with session.post(f"{one}/legacy/", data=form(file), headers=token) as response:
                    assert response.status == 200, await response.text()
                async with session.get(f"{other}/simple/demo/") as response:
                    assert [listed["filename"] for listed in (await response.json())["files"]] == [file.filename]
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(LIMIT_S):
                await process.communicate()
            assert process.returncode == 0
            assert len(tree) >= 9, "it, two servers, two supervisors, four workers"
            assert [left for left in tree if left.is_running()] == []
        finally:
            for left in tree:
                if left.is_running():
                    left.kill()
            await process.wait()


def _found(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = pattern.search(text)
    assert found is not None, text
    return found.groups()
