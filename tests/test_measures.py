"""What adapters and services report of themselves: each question once, with how it ended."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from overlay.domain.errors import DocumentNotFound, LedgerUnavailable, StoreUnavailable, UpstreamUnavailable
from overlay.domain.measures import UpstreamAnswer
from overlay.domain.names import MAIN, project_name
from overlay.domain.page import MAIN_VIEW, Format
from overlay.services.facts import facts_reader
from overlay.services.pages import Pages
from overlay.services.upkeep import Upkeep
from overlay.storage.documents_s3 import S3Documents
from overlay.storage.ledger_memory import MemoryLedger
from overlay.storage.ledger_redis import redis_ledger
from overlay.storage.redis_url import parse
from overlay.storage.s3_client import open_bucket
from overlay.upstream.cached import CachedUpstream
from overlay.upstream.client import UpstreamClient, UpstreamSettings
from tests.builders import wheel
from tests.fakes.documents import MemoryDocuments
from tests.fakes.index import Answer, ScriptedIndex
from tests.ports import free_port
from tests.redis_servers import RedisServer
from tests.s3_server import S3Server

DEMO = project_name("demo")
NOW_US = 1_700_000_000_000_000
PATIENCE_S = 30.0  # that it is not answered in time is nobody's subject here


class Noted:
    """Measures that are kept as they come, durations aside."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def page(self, *, remembered: bool) -> None:
        self.events.append(("page", remembered))

    def asked_upstream(self, answer: UpstreamAnswer, seconds: float) -> None:
        self._took(seconds, "upstream", answer)

    def asked_ledger(self, seconds: float, *, answered: bool) -> None:
        self._took(seconds, "ledger", answered)

    def asked_store(self, operation: str, seconds: float, *, answered: bool) -> None:
        self._took(seconds, operation, answered)

    def rebuilt(self, seconds: float) -> None:
        self._took(seconds, "rebuilt")

    def reconciled(self, seconds: float) -> None:
        self._took(seconds, "reconciled")

    def _took(self, seconds: float, *event: object) -> None:
        assert seconds >= 0
        self.events.append(event)


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
async def index() -> AsyncIterator[ScriptedIndex]:
    async with ScriptedIndex() as made:
        made.add(wheel("demo", "1.0"))
        yield made


async def test_a_page_is_missed_once_and_then_remembered(index: ScriptedIndex, noted: Noted) -> None:
    """A 304 needs no page and is neither."""
    ledger = MemoryLedger(lambda: NOW_US)
    await ledger.load((), ())
    source = UpstreamClient(UpstreamSettings(url=index.simple_url), now_s=lambda: 0.0)
    upstream = CachedUpstream(source, files=None, limit_bytes=1 << 20, fresh_s=60, stale_s=60, now_s=lambda: 0.0)
    pages = Pages(upstream, ledger, facts_reader(), limit_bytes=1 << 20, measures=noted)
    for _ in range(3):
        current = await pages.current(MAIN_VIEW, DEMO, Format.HTML, None)
        await pages.rendition(MAIN_VIEW, current)
    await pages.close()
    await upstream.close()
    await source.aclose()
    assert noted.events == [("page", False), ("page", True), ("page", True)]


async def test_every_answer_of_upstream_has_its_name(index: ScriptedIndex, noted: Noted) -> None:
    """A page, the same page, no such project; and what fails: refused, cut off in the middle, not reached at all."""
    async with UpstreamClient(
        UpstreamSettings(url=index.simple_url), now_s=lambda: 0.0, measures=noted
    ).open() as asked:
        page = await asked.fetch(DEMO, None)
        await asked.fetch(DEMO, page)
        await asked.fetch(project_name("unknown"), None)
        index.script("demo", Answer(status=500))
        with pytest.raises(UpstreamUnavailable):
            await asked.fetch(DEMO, None)
        index.script("demo", Answer(b"{" * 1000, cut_after=10))
        with pytest.raises(UpstreamUnavailable):
            await asked.fetch(DEMO, None)
    nobody = UpstreamSettings(url=f"http://127.0.0.1:{free_port()}/simple/")
    async with UpstreamClient(nobody, now_s=lambda: 0.0, measures=noted).open() as asked:
        with pytest.raises(UpstreamUnavailable):
            await asked.fetch(DEMO, None)
    failed = [("upstream", UpstreamAnswer.FAILED)] * 3
    answered = [UpstreamAnswer.PAGE, UpstreamAnswer.UNCHANGED, UpstreamAnswer.ABSENT]
    assert noted.events == [*[("upstream", answer) for answer in answered], *failed]


async def test_round_trips_to_redis_are_timed(valkey_server: RedisServer, tmp_path: Path, noted: Noted) -> None:
    """A ledger that is not loaded answers, too; one that is not there does not."""
    opened = partial(
        redis_ledger,
        prefix=tmp_path.name,
        wait_replicas=0,
        now_us=lambda: NOW_US,
        patience_s=PATIENCE_S,
        measures=noted,
    )
    async with opened(parse(valkey_server.url)) as ledger:
        with pytest.raises(LedgerUnavailable):
            await ledger.revisions(DEMO, (MAIN,))
        assert noted.events == [("ledger", True)]
        await ledger.load((), ())
        noted.events.clear()
        await ledger.revisions(DEMO, (MAIN,))
        await ledger.snapshot(DEMO, (MAIN,))
        assert set(noted.events) == {("ledger", True)}
        assert len(noted.events) >= 2
    noted.events.clear()
    async with opened(parse(f"redis://127.0.0.1:{free_port()}")) as ledger:
        with pytest.raises(LedgerUnavailable):
            await ledger.revisions(DEMO, (MAIN,))
    assert noted.events == [("ledger", False)]


async def test_calls_of_s3_are_timed_by_their_verb(s3_server: S3Server, tmp_path: Path, noted: Noted) -> None:
    """Never by key, which holds names; a document that is not there is an answer, a wrong bucket is not."""
    settings = s3_server.settings(tmp_path.name)
    async with open_bucket(settings, s3_server.session, measures=noted) as bucket:
        documents = S3Documents(bucket)
        await documents.put("state/demo.json", b"{}")
        await documents.get("state/demo.json")
        with pytest.raises(DocumentNotFound):
            await documents.get("state/other.json")
        with pytest.raises(StoreUnavailable):
            await bucket.run("asking nobody", partial(bucket.client.head_bucket, Bucket="no-such-bucket"))
    assert noted.events == [("writing", True), ("reading", True), ("reading", True), ("asking", False)]


async def test_upkeep_says_when_it_mended_the_ledger(noted: Noted) -> None:
    """A rebuild, the reconcile that it leaves to be done, and the next one; a look that finds nothing to do is none."""
    ledger, now = MemoryLedger(lambda: NOW_US), NOW_US

    async def never(_seconds: float) -> None:
        raise AssertionError

    upkeep = Upkeep(MemoryDocuments(), ledger, reconcile_s=60, now_us=lambda: now, wait=never, measures=noted)
    for _ in range(3):
        await upkeep.look()
    assert noted.events == [("rebuilt",), ("reconciled",)]
    now += 61_000_000
    for _ in range(2):
        await upkeep.look()
    assert noted.events == [("rebuilt",), ("reconciled",), ("reconciled",)]
