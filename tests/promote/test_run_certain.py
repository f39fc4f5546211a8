"""What is certain of a file that failed: nothing of it is out, or upstream has taken it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from overlay.domain.promotion import FileState
from overlay.domain.wire_promotions import PlanView, PromotionOrder
from overlay.promote import errors
from overlay.promote.answers import Answer, Refused, Reply, classify
from overlay.promote.course import Options
from overlay.promote.errors import Ending
from overlay.promote.hosts import Target
from overlay.promote.identity import Identity
from overlay.promote.push import Package, Push
from overlay.promote.tools import Credential
from tests.fakes.promotions import ABSENT_S, FakePromotions
from tests.fakes.pushed_index import Happens
from tests.promote.runs import DEMO, Scene

FIRST = DEMO[0].filename


@dataclass
class Answering:
    """Takes all of a file and gives this answer, or raises it; implements `Push`."""

    answer: Answer | errors.Refused
    shown: str = ""

    async def __call__(self, package: Package, authorization: str, sent: Callable[[int], None]) -> Answer:
        self.shown = authorization
        if isinstance(self.answer, errors.Refused):
            raise self.answer
        sent(package.file.size_bytes)
        return self.answer


@pytest.fixture
async def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, DEMO[:1])


@pytest.mark.parametrize("happens", [[Happens.FORBIDDEN], [Happens.UNREACHABLE] * 5], ids=["refused", "not sent"])
async def test_a_file_that_certainly_is_not_out_is_said_to_be_so(scene: Scene, happens: list[Happens]) -> None:
    """With the way out; the same command sends it at once, for there is nothing to wait for."""
    scene.upstream.script[FIRST] = list(happens)
    result = await scene.run()
    assert result.ending is Ending.FAILED
    assert [file.state for file in result.files] == [FileState.PLANNED]
    assert not result.may_be_out
    assert f"Nothing of {FIRST} is out." in result.problem
    assert "overlay promote --abandon demo==1.1" in result.problem
    assert scene.server.frozen  # until somebody decides: a journal that was taken back may be overtaken by a late call
    began_s = scene.time.now_s
    again = await scene.run()
    assert again.ending is Ending.DONE
    assert scene.time.now_s - began_s < ABSENT_S / 2


async def test_each_attempt_takes_back_its_own_entry(scene: Scene) -> None:
    """The journal says `pushing` before each attempt, and takes it back where nothing came of it."""
    scene.upstream.script[FIRST] = [Happens.UNREACHABLE] * 2
    assert (await scene.run()).ending is Ending.DONE
    journalled = [
        call.split()[0] for call in scene.server.calls if call.endswith(FIRST) and not call.startswith("open")
    ]
    assert journalled == ["pushing", "planned", "pushing", "planned", "pushing", "pushed"]


@pytest.mark.parametrize("before", [Happens.CUT, Happens.BUSY])
async def test_a_refusal_after_a_lost_answer_is_not_certain(scene: Scene, before: Happens) -> None:
    """The attempt before may yet arrive: nobody is told that nothing is out, and the next run looks first."""
    scene.upstream.script[FIRST] = [before, Happens.FORBIDDEN]
    result = await scene.run()
    assert [file.state for file in result.files] == [FileState.PUSHING]
    assert result.may_be_out
    assert "Nothing of" not in result.problem
    began_s = scene.time.now_s
    scene.upstream.script[FIRST] = [Happens.FORBIDDEN]
    assert "Nothing of" not in (await scene.run()).problem  # nor by a run that was refused at once
    assert scene.time.now_s - began_s >= ABSENT_S


async def test_a_certificate_that_is_not_trusted_leaves_nothing_in_doubt(scene: Scene) -> None:
    """It is found before a byte goes out, also where that was well a moment ago."""
    result = await scene.run(pushing=scene.tools(push=Answering(errors.Refused("not trusted"))).pushing)
    assert [file.state for file in result.files] == [FileState.PLANNED]
    assert result.problem == "not trusted"


async def test_an_upstream_that_cannot_be_reached_is_found_before_anything_is_frozen(scene: Scene) -> None:
    """Nothing is fetched or pushed, the release is free, and it is a refusal, also by a dry run."""

    @contextlib.asynccontextmanager
    async def unreachable(_: Target) -> AsyncIterator[Push]:
        raise errors.Refused("upload.index.test cannot be reached")
        yield

    for dry_run in (True, False):
        result = await scene.run(Options(dry_run=dry_run), pushing=unreachable)
        assert (result.ending, result.problem) == (Ending.REFUSED, "upload.index.test cannot be reached")
        assert not scene.server.frozen
    assert not scene.heard.names("fetched")


async def test_what_upstream_accepted_is_not_sent_again(scene: Scene) -> None:
    """However long its page lags (202: it is scanned): the same command waits on, and says what else can be done."""
    scene.upstream.hidden_looks = 10**6
    for _ in range(3):
        began_s = scene.time.now_s
        result = await scene.run(Options(timeout_s=300))
        assert result.ending is Ending.FAILED
        assert "pushes none of it again" in result.problem
        assert "--abandon demo==1.1" in result.problem
        assert scene.time.now_s - began_s >= 300
    assert scene.upstream.posts == [FIRST]
    assert (await scene.run(Options(wait=False))).ending is Ending.DONE
    scene.upstream.show()
    assert (await scene.run()).ending is Ending.DONE
    assert scene.upstream.posts == [FIRST]


@pytest.mark.parametrize("status", [204, 301, 303])
async def test_an_answer_that_is_neither_yes_nor_no_is_looked_up(scene: Scene, status: int) -> None:
    """What counts is upstream's page: it has the file, or nobody is told that nothing is out."""
    answer = classify(Reply(status=status, reason="", content_type="", body=b""))
    result = await scene.run(pushing=scene.tools(push=Answering(answer)).pushing)
    assert result.ending is Ending.FAILED
    assert [file.state for file in result.files] == [FileState.PUSHING]
    assert "Nothing of" not in result.problem
    assert "may still come" in result.problem
    assert "overlay promote --abandon demo==1.1" in result.problem

    async def stored(package: Package, authorization: str, sent: Callable[[int], None]) -> Answer:
        await scene.upstream(package, authorization, sent)
        return answer

    assert (await scene.run(pushing=scene.tools(push=stored).pushing)).ending is Ending.DONE
    assert scene.upstream.posts == [FIRST]


class Known(FakePromotions):
    """An overlay whose upstream has the release: all files go at once."""

    async def plan(self, order: PromotionOrder) -> PlanView:
        plan = await super().plan(order)
        assert plan.promotion is not None
        files = tuple(replace(file, wave=0) for file in plan.promotion.files)
        return replace(plan, promotion=replace(plan.promotion, files=files))


class Missing:
    """A credential that turns out to be none; implements `Credential`."""

    words = "a test"
    identity: Identity | None = None

    async def authorization(self) -> str:
        await asyncio.sleep(0)  # while the other files ask, too
        raise errors.Refused("The index mints no token.")

    def has_ended(self, authorization: str) -> bool:
        raise NotImplementedError


async def test_several_files_without_a_credential_are_one_refusal(tmp_path: Path) -> None:
    """Said once; nothing was pushed, and the release is free."""

    async def found(_: Target, __: PlanView) -> Credential:
        return Missing()

    scene = Scene(tmp_path, DEMO[:3])
    server = Known(scene.staged, scene.upstream, scene.time)
    result = await scene.run(server=server, find_credential=found)
    assert (result.ending, result.problem) == (Ending.REFUSED, "The index mints no token.")
    assert scene.upstream.posts == []
    assert not server.frozen


@dataclass
class Lasting:
    """A credential of so many uses; implements `Credential`."""

    uses: int
    number: int = 0
    words: str = "a test"
    identity: Identity | None = None

    async def authorization(self) -> str:
        self.number += 1
        return str(self.number)

    def has_ended(self, authorization: str) -> bool:
        return int(authorization) <= self.uses


@pytest.mark.parametrize("happens", [Happens.FORBIDDEN, Happens.UNAUTHORIZED])
async def test_a_credential_that_ran_out_on_the_way_is_renewed(scene: Scene, happens: Happens) -> None:
    """The file is sent once more with a new one; a second refusal counts."""

    def lasting(uses: int) -> Callable[[Target, PlanView], object]:
        async def found(_: Target, __: PlanView) -> Credential:
            return Lasting(uses)

        return found

    scene.upstream.script[FIRST] = [happens]
    assert (await scene.run(find_credential=lasting(1))).ending is Ending.DONE
    assert scene.upstream.authorizations == ["1", "2"]


@pytest.mark.parametrize(("uses", "sent"), [(0, 1), (5, 2)])
async def test_a_refusal_is_believed_in_the_end(scene: Scene, uses: int, sent: int) -> None:
    """At once where the credential lasts, and after one renewal."""

    async def found(_: Target, __: PlanView) -> Credential:
        return Lasting(uses)

    scene.upstream.script[FIRST] = [Happens.FORBIDDEN] * 3
    result = await scene.run(find_credential=found)
    assert result.ending is Ending.FAILED
    assert "not yours" in result.problem
    assert len(scene.upstream.posts) == sent


@pytest.mark.parametrize(("status", "advised"), [(401, True), (403, True), (400, False), (413, False)])
async def test_a_refusal_that_is_about_the_credential_names_it(scene: Scene, status: int, *, advised: bool) -> None:
    """Other indexes than PyPI answer 401 to a wrong password."""
    result = await scene.run(pushing=scene.tools(push=Answering(Refused(status, ""))).pushing)
    assert f"it answered {status}" in result.problem
    assert ("It was sent with a test" in result.problem) is advised
