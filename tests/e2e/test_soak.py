"""Promises 1 to 3 under faults drawn by a seed: `python -m tests.soak` is the same at any length, with any seed."""

from pathlib import Path

import pytest

from tests.soak.run import soak

pytestmark = pytest.mark.hosts

SEED = 2
SHORT_S = 30.0
LONG_S = 300.0


async def test_nothing_is_lost_or_comes_back_whatever_fails(tmp_path: Path, full: bool) -> None:  # noqa: FBT001
    """Workers and hosts killed, Redis and S3 stopped, frozen and emptied, both at once; the history is left there."""
    verdict = await soak(tmp_path, seed=SEED, seconds=LONG_S if full else SHORT_S)
    print(verdict)
    assert verdict.problems == [], str(verdict)
