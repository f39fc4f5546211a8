"""`overlay promote` of a large file: constant memory, and its lease is kept all the while."""

from pathlib import Path
from typing import Final

import pytest

from tests.e2e.promoting import scripted
from tests.large import FILENAME, MIB, Memory, large_wheel, upload
from tests.pypi.faults import Fault, Hang, Point, Slow
from tests.pypi.orders import TOKEN, OpenGate, Rules

RISE_LIMIT_BYTES: Final = 24 * MIB


@pytest.mark.parametrize("size_mib", [48, pytest.param(512, marks=pytest.mark.slow)])
async def test_a_large_file_is_fetched_and_pushed_at_constant_memory(tmp_path: Path, size_mib: int) -> None:
    """From its start to the last byte that it sends, a run takes little more of it than one of a small file."""
    small = await peak_of_run(tmp_path / "small", 1)
    large = await peak_of_run(tmp_path / "large", size_mib)
    print(f"1 MiB: {small / MIB:.0f} MiB, {size_mib} MiB: {large / MIB:.0f} MiB")
    assert large - small < RISE_LIMIT_BYTES


async def peak_of_run(folder: Path, size_mib: int) -> int:
    """Promote a wheel of this size; return the most memory that the process had before it heard upstream's answer."""
    folder.mkdir()
    path = folder / FILENAME
    sha256 = large_wheel(path, size_mib)
    async with scripted(folder, (), Rules(file_limit_bytes=1024 * MIB)) as (pypi, stage):
        await upload(stage.session, stage.served.url, path, sha256)
        await pypi.do(Fault(at=Point.RECEIVED, action=Hang("sent"), subject=FILENAME))
        job = stage.job(TWINE_PASSWORD=TOKEN)
        (job.folder / "dist" / FILENAME).symlink_to(path)
        process = await job.start("--json", *job.dist)
        await pypi.reached("sent")
        peak = Memory(process.pid).peak()
        await pypi.do(OpenGate("sent"))
        ran = await job.ended()
        assert ran.code == 0, ran.report.problem
    return peak


async def test_a_slow_push_keeps_its_lease(tmp_path: Path) -> None:
    """A file that takes two leases is pushed by one run."""
    path = tmp_path / FILENAME
    sha256 = large_wheel(path, 3)
    async with scripted(tmp_path, ()) as (pypi, stage):
        await upload(stage.session, stage.served.url, path, sha256)
        await pypi.do(Fault(at=Point.BODY, action=Slow(512 * 1024), subject=FILENAME))
        job = stage.job(TWINE_PASSWORD=TOKEN)
        (job.folder / "dist" / FILENAME).symlink_to(path)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 0, ran.report.problem
        assert len((await pypi.recording()).posts()) == 1
