"""`python -m tests.bench [--quick] [NAME …]`: measure, and print each ratio beside its target (performance.md).

Every value comes from one run on one machine: the overlay's own command and a counterpart with the same bytes take
turns, five rounds (two with --quick), medians. The servers share one core, the load has the other. Absolute figures
are only for feeling.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import clients, cold, distributed, transfers, warm
from tests.bench.processes import LOAD_CORE
from tests.bench.rows import Row, lines
from tests.bench.warm import Plan

MEASURES: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "warm": warm.warm,
    "merged": warm.merged,
    "cold": cold.cold,
    "fresh": cold.fresh,
    "list": cold.listed,
    "downloads": transfers.downloads,
    "uploads": transfers.uploads,
    "small-uploads": transfers.small_uploads,
    "resolve": clients.resolve,
    "start": clients.start,
    "redis": distributed.warm,
    "many": distributed.many,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds: for feeling, not for judging")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}; none: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    os.sched_setaffinity(0, LOAD_CORE)
    for line in lines(_rows(arguments.names or list(MEASURES), quick=arguments.quick)):
        print(line, flush=True)


def _rows(names: list[str], *, quick: bool) -> Iterator[Row]:
    for name in names:
        with tempfile.TemporaryDirectory(prefix=f"overlay-bench-{name}-") as folder:
            yield from MEASURES[name](Plan(Path(folder), *((2, 1.0) if quick else (5, 2.0))))


if __name__ == "__main__":
    main()
