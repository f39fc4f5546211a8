"""What is staged in all, as the home page and the API list it."""

import asyncio

import pytest

from overlay.domain.errors import LedgerUnavailable
from overlay.domain.listing import Standing
from overlay.domain.names import NormalizedName, StageId
from overlay.domain.stage import LatestProjects, StageIndex
from overlay.services.facts import facts_reader
from overlay.services.releases import MOST_FILES, MOST_PROJECTS, Releases
from overlay.services.reports import Reports
from overlay.storage.ledger_memory import MemoryLedger
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
from tests.fakes.upstream import MemoryUpstream
from tests.staged import DEMO, digest, staged_file


def releases(ledger: MemoryLedger, upstream: MemoryUpstream, *, patience_s: float = 60) -> Releases:
    return Releases(
        documents=MemoryDocuments(),
        ledger=ledger,
        upstream=upstream,
        facts_of=facts_reader(),
        reports=Reports(MemoryBlobs()),
        now_us=lambda: 2,
        fresh_s=60,
        patience_s=patience_s,
    )


async def test_every_file_is_listed_as_it_stands() -> None:
    """By project, version and filename; what `*` staged is judged by its own stage."""
    live, other = staged_file(1), staged_file(2, filename="demo-1.0.tar.gz", grant="*")
    apart = staged_file(3, filename="demo-0.9.tar.gz", version="0.9", stage=StageId("flag-day"), grant="*")
    last = staged_file(4, project="zoo", filename="zoo-1.0.tar.gz")
    ledger, upstream = MemoryLedger(lambda: 1), MemoryUpstream()
    await ledger.load((last, other, live, apart), ())
    upstream.listed[DEMO] = {live.filename: live.sha256}
    listed = [(entry.file, entry.standing) for entry in await releases(ledger, upstream).staged()]
    assert listed == [
        (apart, Standing.FOREIGN),
        (live, Standing.LIVE),
        (other, Standing.STAGED),
        (last, Standing.STAGED),
    ]
    upstream.listed[DEMO] = {"demo-0.1.tar.gz": digest("never staged here")}
    assert (await releases(ledger, upstream).staged())[2].standing is Standing.FOREIGN


class Unindexed(MemoryLedger):
    """Never reads everything that is staged."""

    async def index(self) -> StageIndex:
        raise AssertionError


async def test_the_latest_are_at_most_so_many_projects_of_all() -> None:
    """Each with its files as they stand; of the others only the number is asked for."""
    ledger, upstream = Unindexed(lambda: 1), MemoryUpstream()
    count = MOST_PROJECTS + 3
    files = [staged_file(number, project=f"p{number}", filename=f"p{number}-1.0.tar.gz") for number in range(count)]
    await ledger.load([*files, staged_file(count, project="p0", filename="p0-2.0.tar.gz")], ())
    upstream.listed[NormalizedName("p0")] = {files[0].filename: files[0].sha256}
    latest = await releases(ledger, upstream).latest()
    assert latest.count == count
    assert [entry.standing for entry in latest.projects[0].entries] == [Standing.LIVE, Standing.STAGED]
    assert [listed.staged.project for listed in latest.projects] == [
        "p0",
        *[f"p{number}" for number in range(count - 1, 3, -1)],
    ]


async def test_of_a_project_with_many_files_the_latest_have_only_their_number() -> None:
    """The others are listed beside it."""
    ledger = Unindexed(lambda: 1)
    many = [staged_file(number, filename=f"demo-{number}.tar.gz") for number in range(2, MOST_FILES + 3)]
    await ledger.load([staged_file(1, project="other"), *many], ())
    giant, other = (await releases(ledger, MemoryUpstream()).latest()).projects
    assert (giant.staged.file_count, giant.entries, len(other.entries)) == (MOST_FILES + 1, (), 1)


class Silent(MemoryLedger):
    """Never says what is the latest."""

    async def latest(self, stage: StageId, *, most_projects: int, most_files: int) -> LatestProjects:
        await asyncio.Event().wait()
        return await super().latest(stage, most_projects=most_projects, most_files=most_files)


async def test_the_latest_are_unavailable_where_reading_them_takes_too_long() -> None:
    """The next who asks has a turn of its own."""
    asked = releases(Silent(lambda: 1), MemoryUpstream(), patience_s=0.01)
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match="in time"):
            await asked.latest()
