"""`overlay serve --workers N`: an ended worker comes back, SIGHUP replaces all unnoticed, one signal ends them."""

import asyncio
import contextlib
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import aiohttp
import psutil
import pytest

from tests.builders import wheel
from tests.distributed import Backing, backing_in
from tests.distributed import workers as living
from tests.fakes.index import ScriptedIndex
from tests.redis_servers import RedisServer, running, valkey_binary
from tests.running import ADMIN, basic, form
from tests.served import ANSWERED, QUEUED, NotStarted, Served, queued

LIMIT_S: Final = 180.0  # a roll starts interpreters one after another, which a loaded machine does slowly
PAUSE_S: Final = 0.01  # between a client's requests: they are not to keep the machine from starting workers
WORKERS: Final = 2
LASTING_S: Final = 8.0  # more than a worker takes to refuse its configuration


@pytest.fixture(scope="module")
def backing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backing]:
    """One S3 server and one Redis for this module, which stops neither."""
    with backing_in(tmp_path_factory.mktemp("backing")) as made:
        yield made


@pytest.fixture
async def host(backing: Backing, tmp_path: Path) -> AsyncIterator[Served]:
    """A host whose configuration is a file that a test may change; its store and ledger are its own."""
    config = tmp_path / "config.toml"
    config.write_text("[uploads]\nreplace = true\n")
    async with ScriptedIndex() as index:
        settings = backing.settings(
            WORKERS,
            OVERLAY_CONFIG=str(config),
            OVERLAY_STORE_PREFIX=tmp_path.name,
            OVERLAY_LEDGER_PREFIX=tmp_path.name,
            TMPDIR=str(tmp_path),
        )
        async with Served(tmp_path / "host", index.simple_url, settings) as served:
            yield served


def workers(host: Served) -> set[int]:
    """Return the process ids of the living workers."""
    return {worker.pid for worker in living(host)}


def age_s(worker: psutil.Process) -> float:
    """Return how long it has lived; nothing where it has ended meanwhile."""
    try:
        return time.time() - worker.create_time()
    except psutil.NoSuchProcess:
        return 0.0


async def until(holds: Callable[[], bool]) -> None:
    """Look until something holds."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def asking(host: Served) -> AsyncIterator[list[int]]:
    """Ask for a page over new connections until the block ends; what was answered is appended."""
    statuses: list[int] = []
    enough = asyncio.Event()

    async def ask() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            while not enough.is_set():
                async with session.get(f"{host.url}/simple/demo/") as response:
                    await response.read()
                    statuses.append(response.status)
                await asyncio.sleep(PAUSE_S)

    tasks = [asyncio.ensure_future(ask()) for _ in range(4)]
    try:
        yield statuses
    finally:
        enough.set()
        await asyncio.gather(*tasks)


async def stage(host: Served, version: str) -> int:
    async with (
        aiohttp.ClientSession(headers=basic(ADMIN)) as session,
        session.post(f"{host.url}/legacy/", data=form(wheel("demo", version))) as response,
    ):
        return response.status


async def test_a_worker_that_is_killed_is_started_again(host: Served) -> None:
    """The other one serves meanwhile; what was staged is there for the new one."""
    assert await stage(host, "1.0") == 200
    before = workers(host)
    assert len(before) == WORKERS
    killed = min(before)
    psutil.Process(killed).kill()
    await until(lambda: len(workers(host) - {killed}) == WORKERS)
    async with asking(host) as statuses:
        await until(lambda: len(statuses) > 50)
    assert set(statuses) == {200}


async def test_a_worker_that_is_killed_leaves_no_temporary_files(host: Served, tmp_path: Path) -> None:
    """Nor does a host that stops."""
    killed = min(workers(host))
    psutil.Process(killed).kill()
    await until(lambda: len(workers(host) - {killed}) == WORKERS)
    assert len(list(tmp_path.glob("overlay-*/worker-*"))) == WORKERS
    assert await host.stop() == 0
    assert not list(tmp_path.glob("overlay-*"))


async def test_workers_that_are_killed_before_they_serve_are_started_again(backing: Backing, tmp_path: Path) -> None:
    """Only one that ends by itself, with a reason that it gives, ends the host. The new ones can be replaced, too."""
    async with ScriptedIndex() as index:
        host = backing.host(tmp_path.name, index.simple_url, workers=WORKERS)
        launching = asyncio.ensure_future(host.launch())
        try:
            await until(lambda: host.process is not None and len(workers(host)) == WORKERS)
            for pid in workers(host):
                psutil.Process(pid).kill()
            await launching
            await host.ready()
            psutil.Process(host.pid).send_signal(signal.SIGHUP)
            await until(lambda: "all workers are replaced" in host.log)
        finally:
            await host.kill()


async def test_a_worker_is_started_again_though_temporary_files_were_cleaned_away(host: Served, tmp_path: Path) -> None:
    """As programs do that clean /tmp; what it had counted is lost, nothing else."""
    assert await stage(host, "1.0") == 200
    for folder in tmp_path.glob("overlay-*"):
        shutil.rmtree(folder)
    killed = min(workers(host))
    psutil.Process(killed).kill()
    await until(lambda: len(workers(host) - {killed}) == WORKERS)
    async with asking(host) as statuses:
        await until(lambda: len(statuses) > 50)
    assert set(statuses) == {200}


async def test_old_workers_that_end_while_they_are_replaced_are_replaced_once(host: Served) -> None:
    """A host has as many workers as before."""
    before = workers(host)
    psutil.Process(host.pid).send_signal(signal.SIGHUP)
    await until(lambda: len(workers(host)) > WORKERS)
    for pid in before:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has been replaced
            psutil.Process(pid).kill()
    await until(lambda: "all workers are replaced" in host.log)
    await until(lambda: len(workers(host)) == WORKERS)
    assert not workers(host) & before


async def test_a_new_worker_that_cannot_reach_its_redis_takes_no_request(host: Served, tmp_path: Path) -> None:
    """The old ones answer all of them."""
    assert await stage(host, "1.0") == 200
    before = workers(host)
    dead = tmp_path / "dead-redis"
    dead.write_text("redis://127.0.0.1:1/0\n")
    Path(host.settings["OVERLAY_CONFIG"]).write_text(f'[ledger]\nurl_file = "{dead}"\n')
    async with asking(host) as statuses:
        psutil.Process(host.pid).send_signal(signal.SIGHUP)
        await until(lambda: "cannot be shown until Redis serves" in host.log)
        many = len(statuses)
        await until(lambda: len(statuses) > many + 200)
    assert set(statuses) == {200}
    assert before < workers(host)


async def test_a_hang_up_replaces_every_worker_and_no_request_fails(host: Served) -> None:
    """The new ones have read the configuration anew."""
    assert await stage(host, "1.0") == 200
    before = workers(host)
    Path(host.settings["OVERLAY_CONFIG"]).write_text("[uploads]\nreplace = true\nlimit_bytes = 1\n")
    async with asking(host) as statuses:
        psutil.Process(host.pid).send_signal(signal.SIGHUP)
        await until(lambda: "all workers are replaced" in host.log)
        many = len(statuses)
        await until(lambda: len(statuses) > many + 20)
    assert set(statuses) == {200}
    assert len(workers(host)) == WORKERS
    assert not workers(host) & before
    assert await stage(host, "1.1") == 413


async def test_a_hang_up_with_a_broken_configuration_changes_nothing(host: Served) -> None:
    """The old workers go on; the log says what is wrong."""
    assert await stage(host, "1.0") == 200
    before = workers(host)
    Path(host.settings["OVERLAY_CONFIG"]).write_text("[uplods]\nreplace = true\n")
    async with asking(host) as statuses:
        psutil.Process(host.pid).send_signal(signal.SIGHUP)
        await until(lambda: "the old ones go on" in host.log)
    assert set(statuses) == {200}
    assert "did you mean uploads?" in host.log
    await until(lambda: workers(host) == before)


async def test_workers_do_not_outlive_their_supervisor(host: Served) -> None:
    """Not even when it was killed: nobody would start them again, and the port would stay taken."""
    left = [psutil.Process(pid) for pid in workers(host)]
    await host.kill()
    await until(lambda: not any(process.is_running() for process in left))


async def test_one_signal_ends_all(host: Served) -> None:
    """With code 0, and without a word of an error."""
    left = [psutil.Process(pid) for pid in workers(host)]
    assert await host.stop() == 0
    assert not any(process.is_running() for process in left)
    assert "Traceback" not in host.log
    assert "ERROR" not in host.log


async def test_connections_that_were_made_before_the_stop_are_answered(host: Served) -> None:
    """Those that nobody has accepted, too. Each process gets the signal, as from a terminal."""
    async with queued(host) as answers:
        for pid in (*workers(host), host.pid):
            psutil.Process(pid).send_signal(signal.SIGINT)
    assert answers == [ANSWERED] * QUEUED
    assert await host.ended() == 0


async def test_what_no_waiting_mends_ends_the_supervisor_too(backing: Backing, tmp_path: Path) -> None:
    """A Redis that may forget: said once per worker at most, with the code of wrong usage."""
    backing.redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(NotStarted) as refused:
            await Served(tmp_path / "host", "http://127.0.0.1:9/simple/", backing.settings(WORKERS)).start()
    finally:
        backing.redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert refused.value.code == 2
    assert "Set it to noeviction" in refused.value.log


async def test_what_no_waiting_mends_ends_the_supervisor_later_too(backing: Backing, tmp_path: Path) -> None:
    """A Redis that may forget took the place of the one that all workers had found fit."""
    policy = "maxmemory-policy {}\n"
    redis = RedisServer(valkey_binary(), tmp_path, config=policy.format("noeviction"))
    async with ScriptedIndex() as index:
        settings = backing.settings(WORKERS, OVERLAY_STORE_PREFIX=tmp_path.name, OVERLAY_LEDGER_URL=redis.url)
        with running(redis):
            async with Served(tmp_path / "host", index.simple_url, settings) as host:
                (tmp_path / f"{redis.port}.conf").write_text(policy.format("allkeys-lru"))
                redis.restart()
                assert await host.ended() == 2
    assert "Set it to noeviction" in host.log
    assert "Traceback" not in host.log


async def test_a_worker_that_cannot_start_any_more_is_tried_again_ever_later(host: Served) -> None:
    """Somebody is editing the configuration: the other one serves, and does not share its core with the attempts."""
    assert await stage(host, "1.0") == 200
    config = Path(host.settings["OVERLAY_CONFIG"])
    config.write_text("[uplods]\nreplace = true\n")
    psutil.Process(min(workers(host))).kill()

    def pauses() -> list[int]:
        return [int(seconds) for seconds in re.findall(r"ended with 2; starting another one in (\d+) s", host.log)]

    async with asking(host) as statuses:
        await until(lambda: len(pauses()) > 1)
    first_s, second_s = pauses()[:2]  # however long each took to refuse its configuration: it served nobody
    assert second_s == 2 * first_s > 0
    config.write_text("")

    def lasting() -> int:
        """Count the workers that are older than those that fail get."""
        return sum(age_s(worker) > LASTING_S for worker in living(host))

    await until(lambda: lasting() == WORKERS)
    assert set(statuses) == {200}


async def test_without_an_admin_token_it_does_not_start(backing: Backing, tmp_path: Path) -> None:
    """Nobody could ever stage anything; an admin token that is stored is enough."""
    index = "http://127.0.0.1:9/simple/"
    settings = backing.settings(1, OVERLAY_STORE_PREFIX=tmp_path.name, OVERLAY_LEDGER_PREFIX=tmp_path.name)
    with pytest.raises(NotStarted) as refused:
        await Served(tmp_path / "first", index, settings | {"OVERLAY_ADMIN_TOKEN": ""}).start()
    assert refused.value.code == 2
    assert "set OVERLAY_ADMIN_TOKEN to ovl_" in refused.value.log
    async with Served(tmp_path / "second", index, settings) as host, aiohttp.ClientSession() as session:
        order = {"label": "ada", "rights": ["admin"], "projects": ["*"], "stages": ["*"]}
        async with session.post(f"{host.url}/api/v1/tokens", json=order, headers=basic(ADMIN)) as response:
            assert response.status == 201, await response.text()
    async with Served(tmp_path / "third", index, settings | {"OVERLAY_ADMIN_TOKEN": ""}) as host:
        assert await host.stop() == 0
