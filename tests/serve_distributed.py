"""`make serve-distributed`: the product's form on one machine, to try it out.

Starts Valkey and SeaweedFS out of their wheels and two overlays of two workers each, says how to use them, and ends all
of them at Ctrl-C. What was staged lies in data/distributed and is there again at the next start; Valkey begins empty
each time, so every start shows that it can be lost.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Final

import aiohttp

from overlay.config.tables import UpstreamConfig
from tests.distributed import backing_in
from tests.served import NotStarted, Served

FOLDER: Final = Path("data/distributed").absolute()
DONE, FAILED = 0, 1


def main() -> int:
    """Serve until Ctrl-C."""
    arguments = _arguments()
    FOLDER.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_serve(arguments.port, arguments.workers, arguments.upstream))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make serve-distributed", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="of the first overlay; the second has the next one")
    parser.add_argument("--workers", type=int, default=2, help="of each overlay")
    parser.add_argument("--upstream", default=UpstreamConfig().url, help="the simple index to overlay")
    return parser.parse_args()


async def _serve(port: int, workers: int, upstream_url: str) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    token = _token_file(FOLDER / "admin-token")
    async with contextlib.AsyncExitStack() as stack:
        print("Starting SeaweedFS, Valkey and two overlays", flush=True)
        backing = stack.enter_context(backing_in(FOLDER))
        hosts = []
        for place, name in enumerate(("host-a", "host-b")):
            host = backing.host(name, upstream_url, workers=workers, OVERLAY_ADMIN_TOKEN=token.read_text().strip())
            host.port = port + place
            stack.push_async_callback(_end, host)
            try:
                await host.start()
            except (NotStarted, TimeoutError, aiohttp.ClientError) as err:
                if not stop.is_set():
                    sys.stderr.write(f"{name} did not start: {str(err) or 'it took too long'}\n{host.log}")
                return FAILED
            hosts.append(host)
        _announce(hosts, backing.s3.endpoint_url, backing.redis.url, token)
        ended = [asyncio.ensure_future(host.process.wait()) for host in hosts if host.process is not None]
        told = asyncio.ensure_future(stop.wait())
        await asyncio.wait({told, *ended}, return_when=asyncio.FIRST_COMPLETED)
        print("\nStopping", flush=True)
    return DONE if stop.is_set() else FAILED


async def _end(host: Served) -> None:
    if host.process is not None and host.process.returncode is None:
        await host.stop()


def _token_file(path: Path) -> Path:
    """Return the file with the admin token of all hosts, made at the first start."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"ovl_{secrets.token_hex(20)}\n")
    return path


def _announce(hosts: list[Served], s3_url: str, redis_url: str, token: Path) -> None:
    one, other = (host.url for host in hosts)
    print(
        f"""
Two overlays of one index: {one}/ and {other}/
  bytes and records in S3 ({s3_url}), what is staged in Valkey ({redis_url})
  their logs: {", ".join(str(host.log_path) for host in hosts)}

    export OVERLAY_URL={one} OVERLAY_TOKEN=$(cat {token})
    python -m build                                      # once; these very bytes will be released
    twine upload --repository-url $OVERLAY_URL/legacy/ -u __token__ -p "$OVERLAY_TOKEN" dist/*   # staged on one host
    pip install --index-url {other}/simple/ demo==1.1    # and installed from the other, at once
    overlay show demo==1.1                               # files, digests, and what PyPI would refuse

Ctrl-C ends all of it; what is staged will be there at the next start.
""",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
