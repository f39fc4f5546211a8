"""What every test runs under: hermetic environment, Hypothesis profiles, and the rules for skips and the live index.

CI=true turns skips into failures; FULL=1 asks for the long runs; OVERLAY_LIVE=1 asks for the live index.
"""

import functools
import os
import signal
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from overlay.config.tables import StoreConfig
from tests.redis_servers import RedisServer, cluster, redis_binary, running, valkey_binary
from tests.s3_server import REGION, S3Server, other_s3_server, s3_server_in

CI = os.environ.get("CI", "").lower() in {"1", "true"}
FULL = os.environ.get("FULL", "") not in {"", "0"}
LIVE_URL = "https://pypi.org/simple/"
LIVE_TIMEOUT_S = 5


def pytest_configure() -> None:
    """Forget the caller's own overlay, and choose how hard Hypothesis tries."""
    # A shell gives what it runs in the background an ignored SIGINT, which processes hand on: tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("OVERLAY_") and name != "OVERLAY_LIVE"]:
        del os.environ[name]
    # The machine's load decides how long an example takes: neither deadlines nor slow draws are findings.
    always = settings(deadline=None, derandomize=CI, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("usual", always, max_examples=100 if FULL else 30)
    settings.register_profile("few", always, max_examples=10)  # --hypothesis-profile few: on one more interpreter
    settings.load_profile("usual")


@pytest.fixture(scope="session")
def full() -> bool:
    """Say whether the long runs are wanted (FULL=1)."""
    return FULL


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Run one S3 server for all tests that only use it, or take S3_SERVER's; they store under prefixes of their own."""
    other = other_s3_server(os.environ)
    if other is not None:
        yield other
        return
    with s3_server_in(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_store(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreConfig:
    """Configure a store on that server, below a prefix of the test's own; boto3's own chain finds the credentials."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    return StoreConfig(
        kind="s3",
        bucket=s3_server.bucket,
        prefix=tmp_path.name,
        endpoint_url=s3_server.endpoint_url,
        region=REGION,
        addressing="path",
    )


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run one Valkey for all tests that only use it; each has a prefix of its own."""
    with running(RedisServer(valkey_binary(), tmp_path_factory.mktemp("valkey"))) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run Debian's Redis likewise; skip where it is not installed, which CI forbids."""
    binary = redis_binary()
    if binary is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    with running(RedisServer(binary, tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Run three nodes that share the slots."""
    with cluster(valkey_binary(), tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@functools.cache
def live_refusal() -> str:
    """Say why tests of the live index do not run; empty when they do. Asks at most once per process."""
    if os.environ.get("OVERLAY_LIVE") == "1":
        return ""
    if not CI:
        return "asks the live index: OVERLAY_LIVE=1 runs it"
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({})
    )  # as those tests ask, whatever HTTPS_PROXY says
    try:
        with direct.open(urllib.request.Request(LIVE_URL, method="HEAD"), timeout=LIVE_TIMEOUT_S):
            return ""
    except OSError as err:
        return f"{LIVE_URL} did not answer within {LIVE_TIMEOUT_S} s: {err}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process does it alone at the end."""

    def turn(item: pytest.Item) -> int:
        if item.get_closest_marker("hosts"):
            return 0
        return 1 if item.get_closest_marker("slow") or item.nodeid.startswith(("tests/e2e/", "tests/deploy/")) else 2

    items.sort(key=turn)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep tests of the live index from running unasked."""
    if item.get_closest_marker("live") and (refusal := live_refusal()):
        pytest.skip(refusal)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: what is missing there is missing by mistake. The live index may be away."""
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("live"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true forbids: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that skips itself (importorskip)."""
    report = yield
    if CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true forbids: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
