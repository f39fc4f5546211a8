"""`overlay promote` of a large file: constant memory, and its lease is kept all the while."""

from pathlib import Path
from typing import Final

import pytest

from tests.e2e.promoting import scripted
from tests.large import FILENAME, MIB, Memory, large_wheel, upload
from tests.pypi.faults import Fault, Hang, Point, Slow
from tests.pypi.orders import TOKEN, OpenGate, Rules

RISE_LIMIT_BYTES: Final = 64 * MIB


@pytest.mark.parametrize("size_mib", [48, pytest.param(512, marks=pytest.mark.slow)])
async def test_a_large_file_is_fetched_and_pushed_at_constant_memory(tmp_path: Path, size_mib: int) -> None:
    """Its memory is looked at when nothing is fetched yet but all is loaded, and at the end of the push."""
    path = tmp_path / FILENAME
    sha256 = large_wheel(path, size_mib)
    async with scripted(tmp_path, (), Rules(file_limit_bytes=1024 * MIB)) as (pypi, stage):
        await upload(stage.session, stage.served.url, path, sha256)
        await pypi.do(
            Fault(at=Point.BODY, action=Hang("begun"), subject=FILENAME),
            Fault(at=Point.RECEIVED, action=Hang("sent"), subject=FILENAME),
        )
        job = stage.job(TWINE_PASSWORD=TOKEN)
        (job.folder / "dist" / FILENAME).symlink_to(path)
        process = await job.start("--json", *job.dist)
        await pypi.reached("begun")
        memory = Memory(process.pid)
        fetched = memory.peak()
        await pypi.do(OpenGate("begun"))
        await pypi.reached("sent")
        pushed = memory.peak()
        await pypi.do(OpenGate("sent"))
        ran = await job.ended()
        assert ran.code == 0, ran.report.problem
    print(f"{size_mib} MiB: {fetched / MIB:.0f} MiB when fetched and proven, {pushed / MIB:.0f} MiB when pushed")
    assert fetched < 2.5 * RISE_LIMIT_BYTES
    assert pushed - fetched < RISE_LIMIT_BYTES


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
