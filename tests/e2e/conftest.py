"""Fixtures of the end-to-end tests: the real clients."""

from pathlib import Path

import pytest

from tests.clients import CLIENTS_BIN, Clients


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the clients, before `-m` chooses: `-m "not clients"` then never meets them."""
    for item in items:
        if isinstance(item, pytest.Function) and "clients" in item.fixturenames:
            item.add_marker("clients")


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    """Give the real clients a home of their own; skip where they are not installed (a failure in CI)."""
    if not (CLIENTS_BIN / "twine").exists():
        pytest.skip("the real clients are missing: `make test` installs them into .venv-clients")
    root = tmp_path / "clients"
    root.mkdir()
    return Clients(root)
