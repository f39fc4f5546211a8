"""Every StageLedger tells what is staged in all, however much that is, and whatever happens meanwhile."""

import asyncio
from dataclasses import replace

import pytest

from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import MAIN, NormalizedName, Serial, StageId
from overlay.domain.stage import LatestProject, Reason, StagedFile
from tests.ledgers import NOW_US, stage
from tests.staged import DEMO, digest, staged_file, upload_of

OTHER_STAGE = StageId("flag-day")
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
    going = [of_project(number, at_us=2 * (number - 1000) + 1) for number in range(1001, 1100)]
    await ledger.load([*kept, *going], ())
    done = asyncio.Event()

    async def churn() -> None:
        for file in going:
            new = of_project(file.serial + 1000, at_us=5000, project=file.project)
            await stage(ledger, replace(new, filename=file.filename, sha256=digest("new")))
            if file.serial % 2:
                await ledger.forget(file.project, [new.upload_id], WITHDRAWN)
            await asyncio.sleep(0)
        done.set()

    async def read() -> None:
        while not done.is_set():
            files = (await ledger.index()).files
            assert set(kept) <= set(files)
            assert len({file.filename for file in files}) == len(files)
            await asyncio.sleep(0)

    await asyncio.gather(churn(), read())


async def test_the_index_has_what_replaces_a_file_meanwhile(ledger: StageLedger) -> None:
    """Serials decide, not times: what comes may be older than what was read already, and replace what was not yet."""
    files = [of_project(number, at_us=number) for number in range(1, 300)]
    await ledger.load(files, ())

    async def replace_some() -> None:
        for file in files[:199:-1]:
            new = replace(file, upload_id=upload_of(file.serial + 1000), serial=Serial(file.serial + 1000))
            await stage(ledger, replace(new, sha256=digest("new"), staged_at_us=NOW_US))
            await asyncio.sleep(0)

    replacing = asyncio.ensure_future(replace_some())
    while not replacing.done():
        assert sorted(file.serial % 1000 for file in (await ledger.index()).files) == list(range(1, 300))
        await asyncio.sleep(0)
    await replacing


async def names(ledger: StageLedger, most: int = 10, within: StageId = MAIN) -> list[NormalizedName]:
    return [one.project for one in (await ledger.latest(within, most_projects=most, most_files=1)).projects]


async def test_the_projects_staged_last_come_first(ledger: StageLedger) -> None:
    """Of those asked for no more than there may be; one of which nothing is left is none."""
    first, second, third = (of_project(number, at_us=number) for number in (1, 2, 3))
    await ledger.load([first, second, third], ())
    assert await names(ledger) == [third.project, second.project, first.project]
    assert await names(ledger, 2) == [third.project, second.project]
    await stage(ledger, of_project(4, at_us=4, project=first.project))
    assert await names(ledger, 2) == [first.project, third.project]
    await ledger.forget(second.project, [second.upload_id], WITHDRAWN)
    assert await names(ledger) == [first.project, third.project]
    assert (await ledger.latest(MAIN, most_projects=1, most_files=1)).count == 2


async def test_what_is_staged_with_an_older_time_makes_no_project_older(ledger: StageLedger) -> None:
    """A reconcile stages records with their own times."""
    await ledger.load([of_project(1, at_us=1), of_project(2, at_us=2)], ())
    await stage(ledger, of_project(3, at_us=0, project="p2"))
    (latest, *_) = (await ledger.latest(MAIN, most_projects=2, most_files=2)).projects
    assert (latest.project, latest.staged_at_us) == ("p2", NOW_US + 2)


async def test_the_latest_projects_are_those_of_the_stage(ledger: StageLedger) -> None:
    """With its files alone."""
    here, there = of_project(1, at_us=1), replace(of_project(2, at_us=2), stage=OTHER_STAGE)
    both = replace(of_project(3, at_us=3, project="p1"), stage=OTHER_STAGE)
    await ledger.load([here, there, both], ())
    assert await names(ledger) == ["p1"]
    assert await names(ledger, within=OTHER_STAGE) == ["p1", "p2"]
    (latest,) = (await ledger.latest(MAIN, most_projects=10, most_files=10)).projects
    assert latest == LatestProject(project=here.project, staged_at_us=NOW_US + 1, file_count=1, files=(here,))
    assert await names(ledger, within=StageId("nowhere")) == []


async def test_of_the_latest_projects_all_files_are_read_or_they_are_counted(ledger: StageLedger) -> None:
    """One with more than are asked for does not hide the others, however many those are."""
    giant = [of_project(number, at_us=number, project=DEMO) for number in range(1000, 1650)]
    full = [of_project(number, at_us=number // 70, project=f"q{number // 70}") for number in range(70, 490)]
    await ledger.load([*full, *giant], ())
    latest = await ledger.latest(MAIN, most_projects=10, most_files=70)
    assert latest.count == len(latest.projects) == 7
    assert (latest.projects[0].project, latest.projects[0].file_count, latest.projects[0].files) == (DEMO, 650, ())
    for number, one in zip(range(6, 0, -1), latest.projects[1:], strict=True):
        assert (one.project, one.file_count, len(one.files)) == (f"q{number}", 70, 70)
        assert set(one.files) <= set(full)
        assert list(one.files) == sorted(one.files, key=lambda file: file.filename)
