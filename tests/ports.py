"""Ports for servers that tests start."""

import os
import random
import re
import socket
from collections.abc import Iterator
from itertools import cycle
from typing import Final

HOST: Final = "127.0.0.1"
# Below the kernel's range for outgoing connections, so that a port is free again after a restart.
_FIRST: Final = 10_000
_SHARES: Final = 8
_SHARE: Final = 2_750


def free_port() -> int:
    """Find a port that nobody listens on, and that this process does not find again for long.

    So it may be bound later, and again after a restart: each process of a test run has a share of the ports.
    """
    return next(_free)


def _find() -> Iterator[int]:
    worker = re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", ""))
    first = _FIRST + _SHARE * (int(worker[1]) % (_SHARES - 1) if worker else _SHARES - 1)
    begin = random.SystemRandom().randrange(_SHARE)
    for place in cycle([*range(begin, _SHARE), *range(begin)]):
        with socket.socket() as listener:
            try:
                listener.bind((HOST, first + place))
            except OSError:
                continue
        yield first + place


_free: Final = _find()
