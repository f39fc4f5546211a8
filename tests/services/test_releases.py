"""What a release's report says, and withdrawing: who may end what, and which question decides it."""

from dataclasses import replace

import pytest

from overlay.domain.errors import NotGranted, UpstreamUnavailable
from overlay.domain.findings import Severity
from overlay.domain.layout import sidecar_key
from overlay.domain.names import ABSENT, MAIN, NormalizedName, StageId
from overlay.domain.page import UpstreamPage
from overlay.domain.ports import Upstream as AnyUpstream
from overlay.domain.rights import Right, Token
from overlay.domain.stage import StagedFile
from overlay.services.facts import facts_reader
from overlay.services.releases import Releases
from overlay.services.reports import Reports
from overlay.storage.ledger_memory import MemoryLedger
from tests.builders import metadata
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
from tests.fakes.upstream import MemoryUpstream
from tests.staged import DEMO, digest, staged_file, token

FLAG_DAY = StageId("flag-day")
EVERYTHING = token(Right.STAGE, projects=("*",), label="everything")
OWNER = token(Right.STAGE, label="owner")


class Upstream:
    """Nothing is known yet; asked, it says whether the project is there, or fails (None)."""

    def __init__(self, *, has_project: bool | None) -> None:
        self.has_project = has_project
        self.asked: list[float | None] = []

    trouble = ""

    async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:
        self.asked.append(no_older_than_s)
        if self.has_project is None:
            raise UpstreamUnavailable("The test's upstream is down.")
        body = b'{"files":[]}' if self.has_project else None
        return UpstreamPage(project=project, body=body, validator=ABSENT, fetched_at_s=0)

    def in_hand(self, project: NormalizedName) -> UpstreamPage | None:  # noqa: ARG002
        return None

    async def known(self, project: NormalizedName) -> UpstreamPage | None:  # noqa: ARG002
        return None


async def releases_of(upstream: AnyUpstream, *files: StagedFile) -> Releases:
    """The service over staged files whose core metadata nobody refuses."""
    ledger, blobs = MemoryLedger(lambda: 1), MemoryBlobs()
    await ledger.load(files, ())
    for file in files:
        blobs.held[sidecar_key(file.upload_id, file.filename)] = metadata(file.project, file.version)
    return Releases(
        documents=MemoryDocuments(),
        ledger=ledger,
        upstream=upstream,
        facts_of=facts_reader(),
        reports=Reports(blobs),
        now_us=lambda: 2,
        fresh_s=60,
    )


async def withdraw(caller: Token, upstream: AnyUpstream, *files: StagedFile, stage: StageId = MAIN) -> int:
    """Withdraw the release of the staged files; return how many files ended."""
    releases = await releases_of(upstream, *files)
    return len((await releases.withdraw(caller, DEMO, "1.0", stage=stage)).ended)


async def rules_of(upstream: AnyUpstream, *files: StagedFile, version: str = "1.0") -> dict[str, list[str]]:
    """Report on a release: filename to the rules that refuse it."""
    release = await (await releases_of(upstream, *files)).release(DEMO, version)
    return {
        entry.file.filename: [found.rule for found in entry.findings if found.severity is Severity.ERROR]
        for entry in release.entries
    }


def sdist(number: int, filename: str, version: str) -> StagedFile:
    file = staged_file(number, filename=filename, version=version, content=filename)
    return replace(file, facts=replace(file.facts, top_level=("demo",)))


async def test_a_report_compares_equal_versions_as_one_release() -> None:
    """What is staged and what is live under another spelling, as the preflight does."""
    short, long = sdist(1, "demo-1.0.tar.gz", "1.0"), sdist(2, "demo-1.0.0.tar.gz", "1.0.0")
    assert await rules_of(MemoryUpstream(), short) == {short.filename: []}
    both = {short.filename: ["second-sdist"], long.filename: ["second-sdist"]}
    for version in ("1.0", "1.0.0"):
        assert await rules_of(MemoryUpstream(), short, long, version=version) == both
    upstream = MemoryUpstream()
    upstream.listed[DEMO] = {short.filename: digest("another source")}
    assert await rules_of(upstream, long, version="1.0.0") == {long.filename: ["second-sdist"]}


async def test_a_report_says_which_name_upstream_has_the_bytes_under() -> None:
    """PyPI takes no content twice."""
    file, upstream = staged_file(), MemoryUpstream()
    upstream.listed[DEMO] = {"demo-0.9-py3-none-any.whl": file.sha256}
    assert await rules_of(upstream, file) == {file.filename: ["same-content"]}


@pytest.mark.parametrize("whose", ["another's", "own"])
async def test_a_token_withdraws_only_in_its_stages(whose: str) -> None:
    """Whoever staged the file."""
    file = staged_file(stage=FLAG_DAY, token_id=OWNER.id if whose == "own" else "another")
    with pytest.raises(NotGranted, match="covers the stages main"):
        await withdraw(OWNER, Upstream(has_project=False), file, stage=FLAG_DAY)


async def test_another_project_needs_a_grant_one_s_own_file_none() -> None:
    """What one staged one may withdraw, though the token's projects have changed."""
    stranger = token(Right.STAGE, projects=("other",), label="stranger")
    with pytest.raises(NotGranted, match="may not stage 'demo'"):
        await withdraw(stranger, Upstream(has_project=False), staged_file())
    assert await withdraw(stranger, Upstream(has_project=None), staged_file(token_id=stranger.id)) == 1


@pytest.mark.parametrize(
    "caller", [OWNER, token(Right.ADMIN, label="admin"), token(Right.STAGE, projects=("demo-*", "demo"))]
)
async def test_a_named_grant_does_not_need_upstream(caller: Token) -> None:
    """It withdraws while upstream is down, and without asking."""
    upstream = Upstream(has_project=None)
    assert await withdraw(caller, upstream, staged_file()) == 1
    assert upstream.asked == []


async def test_a_grant_of_every_project_needs_upstream_s_fresh_answer() -> None:
    """`*` covers only what upstream lacks: unknown is no absence (promise 2)."""
    unknown, absent, present = Upstream(has_project=None), Upstream(has_project=False), Upstream(has_project=True)
    with pytest.raises(UpstreamUnavailable):
        await withdraw(EVERYTHING, unknown, staged_file())
    with pytest.raises(NotGranted, match="covers only names that upstream does not have"):
        await withdraw(EVERYTHING, present, staged_file())
    assert await withdraw(EVERYTHING, absent, staged_file()) == 1
    assert unknown.asked == present.asked == absent.asked == [60]


async def test_a_grant_of_every_project_ends_what_came_from_here() -> None:
    """Half promoted, too; nothing beside files that were never staged here."""
    wheel, source = staged_file(1), staged_file(2, filename="demo-1.0.tar.gz", content="source")
    upstream = MemoryUpstream()
    upstream.add(wheel)
    assert await withdraw(EVERYTHING, upstream, wheel, source) == 2
    upstream.listed[DEMO]["demo-0.9.tar.gz"] = digest("somebody's")
    with pytest.raises(NotGranted, match="covers only names that upstream does not have"):
        await withdraw(EVERYTHING, upstream, wheel, source)
