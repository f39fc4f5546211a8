"""`python -m tests.pypi [--port N]`: the scripted PyPI as a process; it prints its URL, and is told under /control/."""

import argparse
import asyncio
import signal

from tests.pypi.process import SAYS
from tests.pypi.server import pypi


async def serve(port: int) -> None:
    async with pypi(port=port, controlled=True) as index:
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        print(f"{SAYS}{index.url}", flush=True)
        await ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.pypi", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    asyncio.run(serve(parser.parse_args().port))
