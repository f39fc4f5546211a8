"""What a client and an operator notice: `uv pip compile` through the overlay and past it; start-up and idle memory."""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from overlay.domain.page import Format
from tests.bench.load import Client
from tests.bench.pages import packed, seed
from tests.bench.processes import LOAD_CORE, Served, Server, bare, free_port, overlay
from tests.bench.rows import Row
from tests.bench.warm import Plan
from tests.builders import metadata
from tests.clients import CLIENTS_BIN

_PROJECTS = 40
_VERSIONS = 60
_STAGED = 100


def resolve(plan: Plan) -> Iterator[Row]:
    """`uv pip compile` of forty projects with an empty cache of its own; cold: with an overlay that has none either."""
    if not (CLIENTS_BIN / "uv").exists():
        return
    port = free_port()
    seconds: dict[str, list[float]] = {"direct": [], "cold": [], "warm": []}
    with bare(plan.folder, list(_tree(f"http://127.0.0.1:{port}")), cores=LOAD_CORE, port=port) as upstream:
        _compile(plan.folder, upstream)
        for number in range(plan.rounds):
            with overlay(plan.folder / f"store-{number}", upstream.url) as ours:
                seconds["cold"].append(_compile(plan.folder, ours))
                seconds["warm"].append(_compile(plan.folder, ours))
                seconds["direct"].append(_compile(plan.folder, upstream))
    direct_s = median(seconds["direct"])
    note = f"direct {direct_s * 1000:.0f} ms; upstream is on loopback too, so nothing hides the overlay's own time"
    yield Row("uv pip compile, warm, vs upstream", median(seconds["warm"]) / direct_s, "x", 1.05, 1.15, True, note)
    yield Row("uv pip compile, cold, vs upstream", median(seconds["cold"]) / direct_s, "x", 1.5, 2.5, True)


def start(plan: Plan) -> Iterator[Row]:
    """From the command to the first answer, with a hundred files staged; and the memory of a server nobody asks."""
    seconds, memory_mib = [], []
    seed(plan.folder / "store", "demo", _STAGED)
    for _ in range(plan.rounds):
        started = time.perf_counter()
        with ExitStack() as stack:
            ours = stack.enter_context(overlay(plan.folder / "store", "http://127.0.0.1:9"))
            stack.enter_context(Client(ours)).get("/-/health", {})
            seconds.append(time.perf_counter() - started)
            memory_mib.append(ours.memory_mib)
    yield Row("start to first answer", median(seconds), "s", 0.5, 1.0, lower=True)
    yield Row("idle memory", median(memory_mib), "MiB", 60, 90, lower=True)


def _compile(folder: Path, server: Server) -> float:
    wanted = folder / "wanted.in"
    wanted.write_text("bench-0\n")
    command = [str(CLIENTS_BIN / "uv"), "pip", "compile", "--no-cache", "--no-config", "--quiet", str(wanted)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "UV_INDEX_URL": f"{server.url}/simple/"}
    started = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def _tree(root: str) -> Iterator[Served]:
    """Yield projects that each need the next two, and their core metadata."""
    for number in range(_PROJECTS):
        name = f"bench{number}" if number else "bench-0"
        files: list[dict[str, object]] = []
        for minor in range(_VERSIONS):
            after = [f"bench{other}" for other in (number + 1, number + 2) if other < _PROJECTS]
            core = metadata(name, f"1.{minor}", requires=after)
            filename = f"{name.replace('-', '_')}-1.{minor}-py3-none-any.whl"
            url = f"{root}/files/{filename}"
            files.append(
                {
                    "filename": filename,
                    "url": url,
                    "hashes": {"sha256": hashlib.sha256(core).hexdigest()},
                    "core-metadata": {"sha256": hashlib.sha256(core).hexdigest()},
                    "requires-python": ">=3.8",
                    "size": 1000,
                    "upload-time": "2024-01-02T03:04:05.678901Z",
                    "yanked": False,
                }
            )
            yield Served(f"/files/{filename}.metadata", {"Content-Type": "text/plain"}, core)
        versions = [f"1.{minor}" for minor in range(_VERSIONS)]
        page = {"meta": {"api-version": "1.4"}, "name": name, "files": files, "versions": versions}
        headers = {"Content-Type": Format.JSON.value, "Content-Encoding": "gzip", "Cache-Control": "max-age=600"}
        yield Served(f"/simple/{name}/", headers, packed(json.dumps(page).encode()))
