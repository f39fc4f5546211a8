"""Reports: derived once per file, and over a store that lost something."""

import asyncio
from dataclasses import replace

import pytest

from overlay.domain.errors import Corrupt
from overlay.domain.layout import sidecar_key
from overlay.domain.stage import StagedFile
from overlay.services.reports import Reports
from tests.builders import metadata
from tests.fakes.blobs import MemoryBlobs
from tests.staged import staged_file

METADATA = metadata("demo", "1.0")


def named(number: int, filename: str) -> StagedFile:
    """An sdist that differs from others by its name only."""
    file = staged_file(number, filename=filename, content="the same bytes")
    return replace(file, facts=replace(file.facts, top_level=("demo-1.0",)))


def over(*files: StagedFile) -> Reports:
    blobs = MemoryBlobs()
    for file in files:
        blobs.held[sidecar_key(file.upload_id, file.filename)] = METADATA
    return Reports(blobs)


async def rules_of(reports: Reports, file: StagedFile) -> set[str]:
    return {finding.rule for finding in await reports.of(file)}


@pytest.mark.parametrize("first", [0, 1])
async def test_the_same_bytes_under_another_name_are_judged_anew(first: int) -> None:
    """PyPI refuses Demo-1.0.tar.gz and takes demo-1.0.tar.gz, whichever was staged first."""
    bad, good = named(1, "Demo-1.0.tar.gz"), named(2, "demo-1.0.tar.gz")
    reports = over(bad, good)
    await reports.of((bad, good)[first])
    assert await rules_of(reports, bad) == {"sdist-name"}
    assert await rules_of(reports, good) == set()


async def test_two_names_that_are_judged_at_once_do_not_share_their_findings() -> None:
    """Neither when they are asked for, nor when their core metadata is in hand."""
    bad, good = named(1, "Demo-1.0.tar.gz"), named(2, "demo-1.0.tar.gz")
    reports = over(bad, good)
    of_bad, of_good = await asyncio.gather(rules_of(reports, bad), rules_of(reports, good))
    assert (of_bad, of_good) == ({"sdist-name"}, set())
    reports = over(bad, good)
    found = await asyncio.gather(reports.soon(bad, METADATA), reports.soon(good, METADATA))
    assert [len(findings) for findings in found] == [1, 0]


async def test_findings_are_remembered() -> None:
    """Without the store, once they are derived."""
    bad = named(1, "Demo-1.0.tar.gz")
    blobs = MemoryBlobs()
    blobs.held[sidecar_key(bad.upload_id, bad.filename)] = METADATA
    reports = Reports(blobs)
    findings = await reports.of(bad)
    blobs.held.clear()
    assert await reports.of(bad) is findings


async def test_a_missing_sidecar_is_our_fault_and_named() -> None:
    """Not "not found", which would say that the release is not there."""
    file = staged_file()
    with pytest.raises(Corrupt, match=sidecar_key(file.upload_id, file.filename)):
        await Reports(MemoryBlobs()).of(file)
