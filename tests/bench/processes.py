"""Starts the servers that are compared, each pinned to one core, and the load to the other; reads what they used."""

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.running import ADMIN

_ROOT = Path(__file__).resolve().parents[2]
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = {_CORES[0]}, {_CORES[-1]}
BOTH_CORES = SERVER_CORE | LOAD_CORE
_STOP_S = 10.0
_START_S = 10.0
_numbers = itertools.count()


@dataclass(frozen=True)
class Served:
    """One path of a bare server; `streamed`: by FileResponse instead of from memory."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    streamed: bool = False


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def cpu_s(self) -> float:
        """CPU time of its threads so far, to the nanosecond (cpu_times counts hundredths of a second)."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    @property
    def memory_mib(self) -> float:
        return self._status("VmRSS")

    @property
    def peak_mib(self) -> float:
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM

    def _status(self, key: str) -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
        assert found is not None
        return int(found[1]) / 1024


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Let what is started in the block inherit the cores."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


@contextlib.contextmanager
def overlay(
    store: Path,
    upstream: str,
    *,
    access_log: bool = True,
    cores: set[int] = SERVER_CORE,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Run `overlay serve` as an operator does, the log going to a file: embedded unless `settings` say more."""
    environment = {
        **os.environ,
        "OVERLAY_ADMIN_TOKEN": ADMIN,
        "OVERLAY_STORE_PATH": str(store),
        "OVERLAY_UPSTREAM_URL": f"{upstream}/simple/",
        "OVERLAY_UPSTREAM_FRESH_S": "3600",
        "OVERLAY_SERVER_PORT": "0",
        "OVERLAY_SERVER_ACCESS_LOG": "true" if access_log else "false",
        **settings,
    }
    with _running([sys.executable, "-m", "overlay", "serve"], cores, store.parent, environment) as server:
        yield server


@contextlib.contextmanager
def bare(folder: Path, served: Sequence[Served], *, cores: set[int] = SERVER_CORE, port: int = 0) -> Iterator[Server]:
    """Run the bare counterpart; port 0: any free one."""
    own = folder / f"bare-{next(_numbers)}"
    own.mkdir(parents=True)
    entries = []
    for number, page in enumerate(served):
        file = own / f"{number}.body"
        file.write_bytes(page.body)
        entries.append({**page.__dict__, "body": None, "file": str(file), "headers": dict(page.headers)})
    manifest = own / "manifest.json"
    manifest.write_text(json.dumps(entries))
    command = [sys.executable, "-m", "tests.bench.bare", str(manifest), str(port)]
    with _running(command, cores, _ROOT, os.environ) as server:
        yield server


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def has_nginx() -> bool:
    return shutil.which("nginx") is not None


@contextlib.contextmanager
def nginx(folder: Path, served: Sequence[Served], port: int) -> Iterator[Server]:
    """Run nginx with one worker over files; paths must not nest."""
    own = folder / f"nginx-{next(_numbers)}"
    own.mkdir(parents=True)
    locations = []
    for number, page in enumerate(served):
        file = own / f"{number}.body"
        file.write_bytes(page.body)
        headers = "".join(f"add_header {k} '{v}'; " for k, v in page.headers.items() if k != "Content-Type")
        kind = page.headers.get("Content-Type", "application/octet-stream")
        locations.append(f"location = {page.path} {{ alias {file}; default_type '{kind}'; types {{ }} {headers} }}")
    folders = "".join(
        f"{name}_temp_path {own}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = f"""
        {"user root;" if os.geteuid() == 0 else ""} daemon off; worker_processes 1;
        pid {own}/pid; error_log {own}/error.log; events {{ worker_connections 256; }}
        http {{ access_log off; sendfile on; tcp_nopush on; {folders}
        server {{ listen 127.0.0.1:{port}; {" ".join(locations)} }} }}"""
    (own / "nginx.conf").write_text(configuration)
    command = ["nginx", "-p", str(own), "-e", str(own / "error.log"), "-c", str(own / "nginx.conf")]
    with on_cores(SERVER_CORE):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield Server(process, port)
    finally:
        _stopped(process)


def _wait_for(port: int) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < until, "nginx did not start"
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def _running(command: Sequence[str], cores: set[int], folder: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    with (folder / "server.log").open("ab") if folder != _ROOT else Path(os.devnull).open("ab") as log:
        with on_cores(cores):
            process = subprocess.Popen(
                command, cwd=folder, env=dict(environment), stdout=subprocess.PIPE, stderr=log, bufsize=0
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            found = re.search(r"http://[^/]*:(\d+)/", line)
            assert found is not None, f"{command} did not start"
            yield Server(process, int(found[1]))
        finally:
            _stopped(process)
            assert process.stdout is not None
            process.stdout.close()


def _stopped(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
