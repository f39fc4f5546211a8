"""Fixtures of the HTTP tests: an upstream on loopback, and the overlay in front of it as it is wired in production."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from overlay.config.tables import Config, ReadConfig
from tests.fakes.index import ScriptedIndex
from tests.running import Running, config_for, running


@pytest.fixture
async def index() -> AsyncIterator[ScriptedIndex]:
    async with ScriptedIndex() as scripted:
        yield scripted


@pytest.fixture
def config(tmp_path: Path, index: ScriptedIndex) -> Config:
    return config_for(tmp_path / "store", index.simple_url)


@pytest.fixture
async def overlay(config: Config) -> AsyncIterator[Running]:
    async with running(config) as served:
        yield served


@pytest.fixture
async def closed_overlay(config: Config) -> AsyncIterator[Running]:
    """An overlay whose operator closed reading."""
    async with running(dataclasses.replace(config, read=ReadConfig(open=False))) as served:
        yield served
