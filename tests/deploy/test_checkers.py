"""The files of deploy/ before those who know their languages: the schemas of Compose and Kubernetes, and hadolint."""

from pathlib import Path
from typing import Final

import pytest

from tests.clients import CLIENTS_BIN, Clients
from tests.deploy.documents import DEPLOY

pytestmark = pytest.mark.clients

COMPOSE: Final = ("check-jsonschema", "--builtin-schema", "vendor.compose-spec")
# Unknown keys are errors, and the fields are those of an old cluster and of a new one.
KUBERNETES: Final = ("kubernetes-validate", "--strict", "-k", "1.30", "-k", "1.37")
CONTAINER: Final = ("hadolint", "--failure-threshold", "info")
MANIFESTS: Final = sorted({path.name for path in DEPLOY.glob("kubernetes/*.yaml")} - {"kustomization.yaml"})


@pytest.fixture
def checkers(tmp_path: Path) -> Clients:
    """Give the checkers a home of their own; skip where they are not installed (a failure in CI)."""
    if not CLIENTS_BIN.is_dir():
        pytest.skip("the checkers are missing: `make test` installs them into .venv-clients")
    root = tmp_path / "checkers"
    root.mkdir()
    return Clients(root)


async def test_compose_knows_what_it_reads(checkers: Clients, tmp_path: Path) -> None:
    """And would say so if it did not."""
    file = DEPLOY / "compose.yaml"
    ran = await checkers.run(*COMPOSE, file)
    assert ran.code == 0, ran.output
    spoiled = tmp_path / "compose.yaml"
    spoiled.write_text(file.read_text().replace("stop_grace_period", "stop_grace_time"))
    assert (await checkers.run(*COMPOSE, spoiled)).code != 0


async def test_kubernetes_knows_what_it_reads(checkers: Clients) -> None:
    """Old clusters and new ones."""
    paths = [DEPLOY / "kubernetes" / name for name in MANIFESTS]
    ran = await checkers.run(*KUBERNETES, *paths)
    assert ran.code == 0, ran.output
    assert [path for path in paths if f"{path} passed" not in ran.output] == []


async def test_kubernetes_would_say_what_is_wrong(checkers: Clients, tmp_path: Path) -> None:
    """A key that it does not know, and one in the wrong place."""
    deployment = (DEPLOY / "kubernetes" / "deployment.yaml").read_text()
    for found, wrong in (("enableServiceLinks", "enableServiceLink"), ("    spec:\n", "    specification:\n")):
        assert found in deployment
        (tmp_path / "deployment.yaml").write_text(deployment.replace(found, wrong))
        assert (await checkers.run(*KUBERNETES, tmp_path / "deployment.yaml")).code != 0


async def test_nothing_in_the_containerfile_is_bad_practice(checkers: Clients) -> None:
    """As far as hadolint knows."""
    ran = await checkers.run(*CONTAINER, DEPLOY / "Containerfile")
    assert (ran.code, ran.output) == (0, "")
