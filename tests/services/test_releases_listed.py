"""What is staged in all, as the home page and the API list it."""

from overlay.domain.listing import Standing
from overlay.domain.names import NormalizedName, StageId
from overlay.domain.stage import StageIndex
from overlay.services.facts import facts_reader
from overlay.services.releases import MOST_PROJECTS, Releases
from overlay.services.reports import Reports
from overlay.storage.ledger_memory import MemoryLedger
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
from tests.fakes.upstream import MemoryUpstream
from tests.staged import DEMO, digest, staged_file


def releases(ledger: MemoryLedger, upstream: MemoryUpstream) -> Releases:
    return Releases(
        documents=MemoryDocuments(),
        ledger=ledger,
        upstream=upstream,
        facts_of=facts_reader(),
        reports=Reports(MemoryBlobs()),
        now_us=lambda: 2,
        fresh_s=60,
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
    """With all their files; of the others only the number is asked for."""
    ledger = Unindexed(lambda: 1)
    count = MOST_PROJECTS + 3
    files = [staged_file(number, project=f"p{number}", filename=f"p{number}-1.0.tar.gz") for number in range(count)]
    await ledger.load([*files, staged_file(count, project="p0", filename="p0-2.0.tar.gz")], ())
    latest = await releases(ledger, MemoryUpstream()).latest()
    shown = [entry.file.project for entry in latest.entries]
    assert latest.projects == count
    assert shown == ["p0", "p0", *[NormalizedName(f"p{number}") for number in range(count - 1, 3, -1)]]
