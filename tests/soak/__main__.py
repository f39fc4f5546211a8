"""`python -m tests.soak [--seed S] [--seconds N]`: a soak of any length; 1 where a promise was broken."""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.run import soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, help="for servers, logs and the history; none: a temporary one")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="overlay-soak-"))
    verdict = asyncio.run(soak(folder, seed=arguments.seed, seconds=arguments.seconds))
    print(verdict)
    print(f"logs and history: {folder}")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
