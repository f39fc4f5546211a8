"""`python -m tests.soak [--seed S] [--seconds N]`: a soak of any length; 1 where a promise was broken.

`--names 2 --writers 8` is harder on races.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.run import NAMES, WRITERS, soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--names", type=int, default=NAMES, help="projects that are written to at a time")
    parser.add_argument("--writers", type=int, default=WRITERS)
    parser.add_argument("--folder", type=Path, help="for servers, logs and the history; none: a temporary one")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="overlay-soak-"))
    seed, seconds, names, writers = arguments.seed, arguments.seconds, arguments.names, arguments.writers
    verdict = asyncio.run(soak(folder, seed=seed, seconds=seconds, names=names, writers=writers))
    print(verdict)
    print(f"logs and history: {folder}")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
