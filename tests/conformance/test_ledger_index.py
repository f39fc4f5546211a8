"""Every StageLedger tells what is staged in all, however much that is, and whatever happens meanwhile."""

import asyncio
from dataclasses import replace

import pytest

from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import NormalizedName
from overlay.domain.stage import Reason, StagedFile
from tests.ledgers import NOW_US, stage
from tests.staged import DEMO, staged_file, upload_of

WITHDRAWN = Ending(Reason.WITHDRAWN, NOW_US + 5, "bob")


def of_project(number: int, *, at_us: int, project: str = "") -> StagedFile:
    project = project or f"p{number}"
    file = staged_file(number, project=project, filename=f"{project}-{number}.tar.gz")
    return replace(file, staged_at_us=NOW_US + at_us)


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 600])
@pytest.mark.parametrize("at_once", [1, 7, 1000])
async def test_the_index_has_every_file_once(ledger: StageLedger, count: int, at_once: int) -> None:
    """Also those of one microsecond, and where the upload ids are in another order than the times."""
    files = [of_project(number * 7919 % 1000, at_us=number // at_once) for number in range(count)]
    await ledger.load(files, ())
    index = (await ledger.index()).files
    assert index == tuple(sorted(files, key=lambda file: (file.project, file.version, file.filename)))


async def test_what_is_staged_all_the_while_is_in_the_index(ledger: StageLedger) -> None:
    """However much is staged, replaced and withdrawn meanwhile; and no name is there twice."""
    kept = [of_project(number, at_us=2 * number) for number in range(1, 500)]
    going = [of_project(number, at_us=2 * (number - 1000) + 1) for number in range(1001, 1300)]
    await ledger.load([*kept, *going], ())
    done = asyncio.Event()

    async def churn() -> None:
        for file in going:
            await stage(ledger, replace(of_project(file.serial + 1000, at_us=5000), filename=file.filename))
            await ledger.forget(file.project, [file.upload_id, upload_of(file.serial - 500)], WITHDRAWN)
            await asyncio.sleep(0)
        done.set()

    async def read() -> None:
        while not done.is_set():
            files = (await ledger.index()).files
            assert set(kept) <= set(files)
            assert len({file.filename for file in files}) == len(files)
            await asyncio.sleep(0)

    await asyncio.gather(churn(), read())


async def test_the_projects_staged_last_come_first(ledger: StageLedger) -> None:
    """A project counts by its latest file; of those asked for no more than there may be."""
    first, second, third = (of_project(number, at_us=number) for number in (1, 2, 3))
    await ledger.load([first, second, third], ())
    assert await ledger.latest(10) == (third.project, second.project, first.project)
    assert await ledger.latest(2) == (third.project, second.project)
    await stage(ledger, of_project(4, at_us=4, project=first.project))
    assert await ledger.latest(2) == (first.project, third.project)
    await ledger.forget(first.project, [upload_of(4)], WITHDRAWN)
    await ledger.forget(second.project, [second.upload_id], WITHDRAWN)
    assert await ledger.latest(10) == (third.project, first.project)


@pytest.mark.parametrize("at_once", [1, 1000])
async def test_a_project_behind_many_files_of_another_is_found(ledger: StageLedger, at_once: int) -> None:
    """One project's last release may have more files than are read at once."""
    many = [of_project(number, at_us=number // at_once, project=DEMO) for number in range(1000, 1650)]
    await ledger.load([of_project(1, at_us=0), *many], ())
    assert await ledger.latest(10) == (DEMO, NormalizedName("p1"))
