"""Fixtures of the command-line tests: a server on loopback, and commands in a thread, as in a process of their own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from overlay.cli.main import main
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, Running, config_for, running


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def overlay(tmp_path: Path) -> AsyncIterator[Running]:
    async with ScriptedIndex() as index, running(config_for(tmp_path / "store", index.simple_url)) as served:
        yield served


@pytest.fixture
def command(overlay: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command against the server, as its admin."""
    monkeypatch.setenv("OVERLAY_URL", overlay.url)
    monkeypatch.setenv("OVERLAY_TOKEN", ADMIN)

    async def run(*words: str) -> Ran:
        capsys.readouterr()
        code = await asyncio.to_thread(main, words)
        said = capsys.readouterr()
        assert ADMIN not in said.out + said.err
        return Ran(code, said.out, said.err)

    return run
