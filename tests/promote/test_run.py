"""A run as a whole, over an overlay and an upstream in memory; nothing waits, for the clock jumps."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from overlay.domain.promotion import FileState
from overlay.domain.wire_promotions import PlanView
from overlay.promote.course import Options
from overlay.promote.errors import Ending, PlanRefused, Refused, RunElsewhere
from overlay.promote.hosts import Target
from overlay.promote.tools import Credential
from tests.builders import wheel
from tests.fakes.promotions import ABSENT_S, LEASE_S
from tests.fakes.pushed_index import Happens
from tests.promote.runs import DEMO, Heard, Scene

NAMES = [built.filename for built in DEMO]
FIRST, SECOND, THIRD, SDIST = sorted(NAMES, key=lambda name: (not name.endswith(".whl"), name))


@pytest.fixture
async def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_everything_becomes_live(scene: Scene) -> None:
    """A promotion pushes the wheels, then the sdist, waits until upstream shows all, and leaves nothing behind."""
    result = await scene.run()
    assert result.ending is Ending.DONE
    assert [file.state for file in result.files] == [FileState.LIVE] * 4
    assert [file.url for file in result.files] == [
        f"https://files.test/{name}" for name in (FIRST, SECOND, THIRD, SDIST)
    ]
    assert scene.upstream.posts[0] == FIRST
    assert scene.upstream.posts[-1] == SDIST
    assert scene.server.ended == ["live"]
    assert not scene.server.frozen


async def test_each_push_is_journalled_before_and_after(scene: Scene) -> None:
    """The journal says `pushing` before a file goes out and `pushed` after it was accepted, first file first."""
    await scene.run()
    calls = [call for call in scene.server.calls if call.startswith("push")]
    assert calls[:2] == [f"pushing {FIRST}", f"pushed {FIRST}"]
    assert calls[-2:] == [f"pushing {SDIST}", f"pushed {SDIST}"]
    assert set(calls[2:6]) == {f"{word} {name}" for word in ("pushing", "pushed") for name in (SECOND, THIRD)}


async def test_everything_is_fetched_before_anything_is_pushed(scene: Scene) -> None:
    """The bytes of all files are proven before the first one goes out."""
    await scene.run()
    kinds = [event[0] for event in scene.heard.events]
    assert max(index for index, kind in enumerate(kinds) if kind == "fetched") < kinds.index("pushing")


async def test_progress_ends_with_the_whole_file(scene: Scene) -> None:
    """Fetching is told in bytes, from none to all."""
    await scene.run()
    sizes = [int(event[2]) for event in scene.heard.events if event[:2] == ("fetched", SDIST)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (0, len(scene.server.staged[SDIST]))
    assert sorted(scene.heard.names("live")) == sorted(NAMES)


async def test_waves_go_several_at_once_but_no_more_than_wished(tmp_path: Path) -> None:
    """The files of one wave are pushed at the same time, up to the wished number."""
    many = [wheel("demo", "1.1", tag=f"py3-none-manylinux_2_{minor}_x86_64") for minor in range(10, 20)]
    wide, narrow = Scene(tmp_path, many), Scene(tmp_path, many)
    await wide.run(Options(at_once=3))
    await narrow.run(Options(at_once=1))
    assert wide.upstream.most_under_way == 3
    assert narrow.upstream.most_under_way == 1


async def test_what_is_live_already_needs_nothing(scene: Scene) -> None:
    """When every pledged file is live the run is done without a plan."""
    await scene.run()
    again = await scene.run()
    assert again.ending is Ending.DONE
    assert again.promotion is None
    assert [file.state for file in again.files] == [FileState.LIVE] * 4
    assert len(scene.upstream.posts) == 4


async def test_a_dry_run_pushes_nothing_and_leaves_nothing(scene: Scene) -> None:
    """A dry run plans and proves, asks nobody for an Authorization, and gives the release free."""
    result = await scene.run(Options(dry_run=True))
    assert result.ending is Ending.DONE
    assert result.dry_run
    assert scene.heard.names("fetched")
    assert scene.upstream.posts == []
    assert not scene.server.frozen


async def test_without_waiting_acceptance_is_enough(scene: Scene) -> None:
    """`wait=False` ends once upstream accepted everything, though its page lags."""
    scene.upstream.hidden_looks = 10**6
    result = await scene.run(Options(wait=False))
    assert result.ending is Ending.DONE
    assert [file.state for file in result.files] == [FileState.PUSHED] * 4
    assert result.may_be_out
    assert scene.server.frozen


async def test_a_page_that_lags_is_waited_for(scene: Scene) -> None:
    """A run looks again until upstream's page has caught up."""
    scene.upstream.hidden_looks = 5
    result = await scene.run()
    assert result.ending is Ending.DONE
    assert scene.heard.names("waiting")


async def test_a_page_that_lags_too_long_ends_the_wait(scene: Scene) -> None:
    """After the timeout the run fails, names what is missing, and says how to go on."""
    scene.upstream.hidden_looks = 10**6
    began_s = scene.time.now_s
    result = await scene.run(Options(timeout_s=300))
    assert result.ending is Ending.FAILED
    assert SDIST in result.problem
    assert "same command" in result.problem
    assert 300 <= scene.time.now_s - began_s < 400


async def test_other_bytes_upstream_are_reported(scene: Scene) -> None:
    """A page that shows another digest after the push fails the run with both digests."""
    scene.upstream.other_bytes = {SECOND}
    result = await scene.run()
    assert result.ending is Ending.FAILED
    assert "0" * 64 in result.problem
    assert next(file.sha256 for file in result.files if file.filename == SECOND) in result.problem


@pytest.mark.parametrize("happens", [Happens.LOST, Happens.STORED_ERROR])
async def test_a_stored_file_is_not_sent_again(scene: Scene, happens: Happens) -> None:
    """When the answer to a stored file is lost, a look finds it and it is not repeated."""
    scene.upstream.script[FIRST] = [happens]
    result = await scene.run()
    assert result.ending is Ending.DONE
    assert scene.upstream.posts.count(FIRST) == 1


@pytest.mark.parametrize("happens", [Happens.CUT, Happens.ERROR])
async def test_a_file_that_did_not_arrive_is_sent_again_after_absent_s(scene: Scene, happens: Happens) -> None:
    """What upstream does not show is believed absent only after `absent_s`; then it is repeated."""
    scene.upstream.script[FIRST] = [happens, happens]
    began_s = scene.time.now_s
    result = await scene.run()
    assert result.ending is Ending.DONE
    assert scene.upstream.posts.count(FIRST) == 3
    assert scene.time.now_s - began_s >= 2 * ABSENT_S


async def test_retry_after_is_respected(scene: Scene) -> None:
    """A 429 that asks for more patience than `absent_s` gets it."""
    scene.upstream.script[FIRST] = [Happens.BUSY]
    began_s = scene.time.now_s
    assert (await scene.run()).ending is Ending.DONE
    assert scene.time.now_s - began_s >= 200


async def test_a_page_behind_a_lost_answer_may_lag(scene: Scene) -> None:
    """A stored file whose answer was lost and whose page lags within `absent_s` is not repeated."""
    scene.upstream.script[FIRST] = [Happens.LOST]
    scene.upstream.hidden_looks = 6
    assert (await scene.run()).ending is Ending.DONE
    assert scene.upstream.posts.count(FIRST) == 1


async def test_a_name_that_is_taken_by_our_own_bytes_is_fine(scene: Scene) -> None:
    """An index that answers 409 to a repetition is looked at, and has the file."""
    scene.upstream.script[FIRST] = [Happens.LOST]
    scene.upstream.hidden_looks = 18
    scene.upstream.conflicts = True
    result = await scene.run()
    assert result.ending is Ending.DONE
    assert scene.upstream.posts.count(FIRST) == 2


async def test_attempts_are_bounded(scene: Scene) -> None:
    """A file that never gets through is given up after the wished number of attempts; no later wave is begun."""
    scene.upstream.script[FIRST] = [Happens.UNREACHABLE] * 10
    result = await scene.run(Options(most_attempts=3))
    assert result.ending is Ending.FAILED
    assert scene.upstream.posts == [FIRST] * 3
    assert "no route" in result.problem


async def test_a_refusal_stops_the_run_and_quotes_upstream(scene: Scene) -> None:
    """Upstream's words reach the result and the journal; nothing after the refused file is begun."""
    scene.upstream.script[FIRST] = [Happens.FORBIDDEN]
    result = await scene.run()
    assert result.ending is Ending.FAILED
    assert "not yours" in result.problem
    refused = result.files[0]
    assert (refused.filename, refused.status, refused.said) == (FIRST, 403, "not yours")
    assert [file.state for file in result.files[1:]] == [FileState.PLANNED] * 3
    assert scene.upstream.posts == [FIRST]


async def test_a_refusal_within_a_wave_lets_the_others_finish(scene: Scene) -> None:
    """What is on its way when another file is refused is let finish; the next wave is not begun."""
    scene.upstream.script[SECOND] = [Happens.FORBIDDEN]
    result = await scene.run()
    states = {file.filename: file.state for file in result.files}
    assert states == {
        FIRST: FileState.PUSHED,
        SECOND: FileState.PLANNED,
        THIRD: FileState.PUSHED,
        SDIST: FileState.PLANNED,
    }


async def test_the_same_command_goes_on_after_a_failure(scene: Scene) -> None:
    """A rerun after a refusal sends only what is not out yet."""
    scene.upstream.script[SECOND] = [Happens.FORBIDDEN]
    await scene.run()
    result = await scene.run()
    assert result.ending is Ending.DONE
    assert sorted(scene.upstream.posts) == sorted([*NAMES, SECOND])


async def test_refusals_of_the_plan_are_raised(scene: Scene) -> None:
    """What the overlay refuses comes with all its sentences, and nothing is frozen."""
    scene.server.staged[FIRST] = b"other bytes"
    with pytest.raises(PlanRefused) as caught:
        await scene.run()
    assert caught.value.ending is Ending.REFUSED
    assert [refusal.filename for refusal in caught.value.refusals] == [FIRST]
    assert not scene.server.frozen


async def test_a_refused_credential_frees_the_release(scene: Scene) -> None:
    """Without a credential that fits nothing is fetched or pushed, and the freeze ends."""

    async def none(_: Target, __: PlanView) -> Credential:
        raise Refused("no credential")

    result = await scene.run(find_credential=none)
    assert result.ending is Ending.REFUSED
    assert result.problem == "no credential"
    assert not scene.server.frozen
    assert not scene.heard.names("fetched")


async def test_an_upload_url_without_tls_gets_nothing(scene: Scene) -> None:
    """A target that is not https is refused before a credential is looked for."""
    scene.server.target = "http://index.test/legacy/"
    result = await scene.run()
    assert result.ending is Ending.REFUSED
    assert scene.upstream.posts == []


async def test_a_changed_file_in_the_store_is_refused(scene: Scene) -> None:
    """Staged bytes that are not what was planned end the run before any push, naming the file."""
    scene.server.served[SDIST] = scene.server.staged[SDIST][:-1] + b"!"
    result = await scene.run()
    assert result.ending is Ending.REFUSED
    assert SDIST in result.problem
    assert scene.upstream.posts == []
    assert not scene.server.frozen


async def test_a_longer_file_in_the_store_is_refused(scene: Scene) -> None:
    """A stream that goes on beyond the planned size is cut and refused."""
    scene.server.served[FIRST] = scene.server.staged[FIRST] + bytes(10**6)
    result = await scene.run()
    assert result.ending is Ending.REFUSED
    sizes = [int(event[2]) for event in scene.heard.events if event[:2] == ("fetched", FIRST)]
    assert max(sizes) < 10**5


async def test_a_live_run_keeps_another_out(scene: Scene) -> None:
    """A run waits for another one's lease; once that was renewed it is refused, for the other lives."""
    view = await scene.server.plan(scene.order())
    assert view.promotion is not None
    promotion = view.promotion.id

    async def renewing() -> None:
        await scene.time.sleep(LEASE_S / 3)
        await scene.server.renew(promotion, 1)

    other = asyncio.ensure_future(renewing())
    with pytest.raises(RunElsewhere):
        await scene.run()
    await other


async def test_a_dead_run_is_waited_for_and_taken_over(scene: Scene) -> None:
    """The lease of a run that died is waited out; then the promotion goes on."""
    await scene.server.plan(scene.order())
    began_s = scene.time.now_s
    result = await scene.run()
    assert result.ending is Ending.DONE
    assert scene.time.now_s - began_s >= LEASE_S


async def test_a_run_that_is_overtaken_stops(scene: Scene) -> None:
    """Once another run has the promotion, nothing further is pushed."""

    async def overtaking(target: Target, plan: PlanView) -> Credential:
        scene.server.overtake()
        return await scene.tools().find_credential(target, plan)

    result = await scene.run(find_credential=overtaking)
    assert result.ending is Ending.FAILED
    assert scene.upstream.posts == []
    assert scene.server.frozen


async def test_nothing_is_begun_after_a_refusal(scene: Scene) -> None:
    """A file of the same wave that has not been begun when another is refused stays unsent."""
    scene.upstream.script[SECOND] = [Happens.FORBIDDEN]
    result = await scene.run(Options(at_once=1))
    assert result.ending is Ending.FAILED
    assert scene.upstream.posts == [FIRST, SECOND]


async def test_a_promotion_that_was_closed_meanwhile_is_done(scene: Scene) -> None:
    """When the overlay saw the last file live and closed the promotion, a refused renewal lost nothing."""
    scene.upstream.hidden_looks = 30

    class Hurried(Heard):
        """Looks, as the overlay's background does, between a look of the run and its next renewal."""

        looking: asyncio.Future[None] | None = None

        def waiting(self, filenames: Sequence[str], why: str) -> None:
            super().waiting(filenames, why)
            self.looking = self.looking or asyncio.ensure_future(self._look())

        async def _look(self) -> None:
            promotion = self.plans[0].promotion
            assert promotion is not None
            await scene.time.sleep(0.9 * LEASE_S / 3)
            while not (await scene.server.look(promotion.id, 1)).ended:
                pass

    result = await scene.run(progress=Hurried())
    assert scene.server.ended == ["live"]
    assert result.ending is Ending.DONE
    assert all(file.state is FileState.LIVE for file in result.files)
