"""Runs nginx with deploy/nginx.conf in front of overlays (or anything else) on loopback ports.

Only what names this machine is changed: the servers, the port, the folders. nginx is Debian's, which CI sees to.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.ports import HOST, free_port

CONFIGURATION: Final = Path(__file__).parent.parent / "deploy" / "nginx.conf"
_SERVERS: Final = re.compile(r"(?:^ *server overlay-\d:8080(?P<parameters>[^;]*);\n)+", re.MULTILINE)
_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_START_S: Final = 30.0
_STOP_S: Final = 10.0


@contextlib.contextmanager
def nginx_in_front_of(
    ports: Sequence[int], folder: Path, *, enabled: Sequence[str] = (), replaced: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run nginx until the block ends and yield its URL, without a slash at its end.

    `enabled` names parts that are comments in the file as it ships ("cache", "tls"); `replaced` maps texts of the file
    to others, each of which must be there.
    """
    port = free_port()
    configuration = written(ports, folder, port, enabled=enabled, replaced=replaced)
    # A group of its own: nginx's workers end with it whatever happens to the master.
    process = subprocess.Popen(
        [*_command(configuration), "-g", f"daemon off; {_globals(folder)}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(process, port, folder)
        yield f"http://{HOST}:{port}"
    finally:
        _stop(process)


def written(
    ports: Sequence[int],
    folder: Path,
    port: int,
    *,
    enabled: Sequence[str] = (),
    replaced: Mapping[str, str] | None = None,
) -> Path:
    """Write the configuration for a server on `port` into the folder."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    for name in enabled:
        text = text.replace(f"#{name} ", "")
    text, lists = _SERVERS.subn(lambda found: _servers(ports, found["parameters"]), text)
    assert lists == 2, "deploy/nginx.conf names the servers in two upstreams"
    temporary = "".join(f"{name}_temp_path {folder}/{name};\n" for name in _TEMPORARY)
    changes = {
        "listen 8080;": f"listen {HOST}:{port};",
        "/var/log/nginx": str(folder),
        "/var/cache/nginx": str(folder),
        "http {\n": f"http {{\n{temporary}",
        "127.0.0.1:8079": f"{HOST}:{free_port()}",  # the server of the shared cache
        **(replaced or {}),
    }
    for found, wanted in changes.items():
        assert found in text, f"deploy/nginx.conf does not say {found!r}"
        text = text.replace(found, wanted)
    configuration = folder / "nginx.conf"
    configuration.write_text(text, encoding="utf-8")
    return configuration


def checked(configuration: Path) -> str:
    """Let nginx check a configuration, and return what it says. Raises AssertionError."""
    command = [*_command(configuration), "-t", "-g", _globals(configuration.parent)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def _servers(ports: Sequence[int], parameters: str) -> str:
    return "".join(f"        server {HOST}:{port}{parameters};\n" for port in ports)


def _command(configuration: Path) -> list[str]:
    return [
        _nginx(),
        "-p",
        str(configuration.parent),
        "-e",
        str(_error_log(configuration.parent)),
        "-c",
        str(configuration),
    ]


def _globals(folder: Path) -> str:
    """Say what the command line of a container says, too; as root, workers must reach the test's folders."""
    user = "user root; " if os.geteuid() == 0 else ""
    return f"{user}pid {folder}/nginx.pid; error_log {_error_log(folder)} info;"


def _error_log(folder: Path) -> Path:
    return folder / "nginx-error.log"


def _nginx() -> str:
    """Find Debian's nginx; skips where there is none, which CI forbids."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed (apt-get install nginx)")
    return found


def _wait_for(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    ends_at = time.monotonic() + _START_S
    while True:
        with socket.socket() as asking:
            if asking.connect_ex((HOST, port)) == 0:
                return
        log = _error_log(folder).read_text() if _error_log(folder).exists() else ""
        assert process.poll() is None, f"nginx ended:\n{log}"
        assert time.monotonic() < ends_at, f"nginx did not start in {_START_S:g} s:\n{log}"
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
