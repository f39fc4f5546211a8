"""Withdrawing: who may end what, and which question decides it."""

import pytest

from overlay.domain.errors import NotGranted, UpstreamUnavailable
from overlay.domain.names import ABSENT, MAIN, NormalizedName, StageId
from overlay.domain.page import UpstreamPage
from overlay.domain.rights import Right, Token
from overlay.domain.stage import StagedFile
from overlay.services.facts import facts_reader
from overlay.services.releases import Releases
from overlay.services.reports import Reports
from overlay.storage.ledger_memory import MemoryLedger
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.documents import MemoryDocuments
from tests.staged import DEMO, staged_file, token

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

    async def known(self, project: NormalizedName) -> UpstreamPage | None:  # noqa: ARG002
        return None


async def withdraw(caller: Token, upstream: Upstream, file: StagedFile, stage: StageId = MAIN) -> int:
    """Withdraw the release of the one staged file; return how many files ended."""
    ledger = MemoryLedger(lambda: 1)
    await ledger.load((file,), ())
    releases = Releases(
        documents=MemoryDocuments(),
        ledger=ledger,
        upstream=upstream,
        facts_of=facts_reader(),
        reports=Reports(MemoryBlobs()),
        now_us=lambda: 2,
        fresh_s=60,
    )
    return len(await releases.withdraw(caller, DEMO, "1.0", stage=stage))


@pytest.mark.parametrize("whose", ["another's", "own"])
async def test_a_token_withdraws_only_in_its_stages(whose: str) -> None:
    """Whoever staged the file."""
    file = staged_file(stage=FLAG_DAY, token_id=OWNER.id if whose == "own" else "another")
    with pytest.raises(NotGranted, match="covers the stages main"):
        await withdraw(OWNER, Upstream(has_project=False), file, FLAG_DAY)


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
