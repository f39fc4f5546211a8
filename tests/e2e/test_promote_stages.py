"""One release staged in two stages, with other bytes: one stage's is promoted, and the other's steps back as it must.

Named stages have no URLs yet, so what is staged there goes in through the services of the same overlay.
"""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from overlay.domain.errors import FileExists
from overlay.domain.listing import Standing
from overlay.domain.names import MAIN, StageId, project_name
from overlay.domain.page import Format, View
from overlay.domain.promotion_errors import ReleaseFrozen
from overlay.domain.wire_promotions import Pledge, PromotionOrder
from overlay.promote.errors import Ending, PlanRefused, ServerAnswered
from overlay.promote.result import Result
from overlay.services.access import local_operator
from overlay.services.local_files import parts_of
from overlay.services.uploads import Receipt
from tests.builders import Built, sdist, wheel
from tests.e2e.promoting import Here, Stage, at, in_front_of
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, OpenGate, Token
from tests.pypi.scripting import Pypi
from tests.pypi.server import pypi
from tests.running import Running, running

FLAG_DAY: Final = StageId("flag-day")
DEMO: Final = project_name("demo")
WHEEL: Final = wheel("demo", "1.1")
SDIST: Final = sdist("demo", "1.1")
OTHER_WHEEL: Final = wheel("demo", "1.1", payload=b"of the flag day")
MORE: Final = wheel("demo", "1.1", tag="py3-none-win32", payload=b"of the flag day")
NEW: Final = wheel("demo", "1.1", tag="py3-none-win_amd64", payload=b"of the flag day")
THERE: Final = (OTHER_WHEEL, MORE, SDIST)
"""In the other stage: other bytes under a name, a name of its own, the same bytes."""


@dataclass(frozen=True)
class Both:
    """An overlay with the release in two stages, in front of a scripted PyPI."""

    index: Pypi
    overlay: Running
    stage: Stage
    folder: Path

    async def put(self, built: Built) -> Receipt:
        """Stage a file in the other stage."""
        path = self.folder / built.filename
        path.write_bytes(built.body)
        return await self.overlay.wired.services.uploads.receive(local_operator(), FLAG_DAY, parts_of(path))

    async def listed(self, stage: StageId) -> dict[str, str]:
        """Return what a reader of a stage's view sees: digests by filename."""
        pages, view = self.overlay.wired.services.pages, View((stage,))
        rendition = await pages.rendition(view, await pages.current(view, DEMO, Format.JSON, None))
        return digests_of(rendition.body)

    async def standings(self, stage: StageId) -> dict[str, Standing]:
        """Return how what is staged in a stage stands, for people."""
        entries = await self.overlay.wired.services.releases.staged(DEMO, stage)
        return {entry.file.filename: entry.standing for entry in entries}

    async def status(self, receipt: Receipt) -> int:
        """Ask for a staged file by its URL."""
        assert receipt.file is not None
        path = f"/files/demo/{receipt.file.upload_id}/{receipt.filename}"
        async with self.overlay.get(path) as answer:
            await answer.read()
            return answer.status

    async def promote_there(self, *built: Built, partial: bool = False) -> Result:
        """Promote from the other stage, as the command will once it can name one."""
        order = PromotionOrder(
            releases=("demo==1.1",),
            pledges=tuple(Pledge(filename=one.filename, sha256=one.sha256) for one in built),
            holder="b" * 32,
            stage=FLAG_DAY,
            partial=partial,
        )
        return await self.stage.promote(order)


def digests_of(body: bytes) -> dict[str, str]:
    return {file["filename"]: file["hashes"]["sha256"] for file in json.loads(body)["files"]}


def digests(*built: Built) -> dict[str, str]:
    return {one.filename: one.sha256 for one in built}


@contextlib.asynccontextmanager
async def both_staged(folder: Path) -> AsyncIterator[tuple[Both, dict[str, Receipt]]]:
    """Stage the release in both stages; return the receipts of the other one's."""
    async with pypi() as index:
        await index.do(Token(text=TOKEN))
        config = in_front_of(index.simple_url, index.upload_url, folder / "overlay")
        async with (
            running(config) as overlay,
            at(Here(overlay.url, folder / "overlay"), index.upload_url, folder) as stage,
        ):
            both = Both(index, overlay, stage, folder)
            await stage.put(WHEEL, SDIST)
            yield both, {built.filename: await both.put(built) for built in THERE}


async def test_while_one_stage_s_release_is_promoted_the_other_s_is_frozen_too(tmp_path: Path) -> None:
    """It takes no file and cannot be promoted; both views show their own bytes; what goes out is the one stage's."""
    async with both_staged(tmp_path) as (both, receipts):
        await both.index.do(Fault(at=Point.RECEIVED, action=Hang("here"), subject=WHEEL.filename))
        job = both.stage.job(WHEEL, SDIST, TWINE_PASSWORD=TOKEN)
        await job.start("--json", *job.dist)
        await both.index.reached("here")
        with pytest.raises(ReleaseFrozen, match=r"Release demo==1\.1 is being promoted by"):
            await both.put(NEW)
        with pytest.raises(FileExists):
            await both.put(WHEEL)
        with pytest.raises(ServerAnswered, match=r"demo==1\.1 is being promoted by"):
            await both.promote_there(*THERE)
        assert await both.listed(MAIN) == digests(WHEEL, SDIST)
        assert await both.listed(FLAG_DAY) == digests(*THERE)
        await both.index.do(OpenGate("here"))
        ran = await job.ended()
        assert ran.code == 0, ran.report.problem
        posts = (await both.index.recording()).posts()
        assert {post.filename: post.sha256 for post in posts} == digests(WHEEL, SDIST)
        (promotion,) = await both.stage.promotions("demo==1.1")
        assert (promotion.state, promotion.stage) == ("live", MAIN)
        assert set(receipts) == set(digests(*THERE))


async def test_what_is_live_hides_the_other_stage_s_bytes_and_they_are_kept(tmp_path: Path) -> None:
    """A live file wins over a staged one of its name; other bytes are a conflict, which nobody can promote any more.

    The same bytes have become live with it; a name that is not live is staged on, now for a live release.
    """
    async with both_staged(tmp_path) as (both, receipts):
        job = both.stage.job(WHEEL, SDIST, TWINE_PASSWORD=TOKEN)
        assert (await job.run(*job.dist)).code == 0
        assert await both.listed(FLAG_DAY) == digests(WHEEL, SDIST, MORE)
        assert await both.standings(FLAG_DAY) == {
            OTHER_WHEEL.filename: Standing.CONFLICT,
            MORE.filename: Standing.STAGED,
            SDIST.filename: Standing.LIVE,
        }
        statuses = {name: await both.status(receipt) for name, receipt in receipts.items()}
        assert statuses == {OTHER_WHEEL.filename: 404, MORE.filename: 200, SDIST.filename: 200}
        with pytest.raises(FileExists, match="live upstream"):
            await both.put(OTHER_WHEEL)
        with pytest.raises(PlanRefused, match=WHEEL.sha256):
            await both.promote_there(*THERE)
        assert len((await both.index.recording()).posts()) == 2
        await both.put(NEW)
        added = await both.promote_there(MORE, NEW, partial=True)
        assert (added.ending, {file.filename for file in added.files}) == (Ending.DONE, {MORE.filename, NEW.filename})
        assert await both.listed(MAIN) == digests(WHEEL, SDIST, MORE, NEW)


async def test_a_named_stage_s_release_is_promoted_with_its_own_bytes(tmp_path: Path) -> None:
    """And then it is the main one's that differ."""
    async with both_staged(tmp_path) as (both, _):
        result = await both.promote_there(*THERE)
        assert result.ending is Ending.DONE, result.problem
        recording = await both.index.recording()
        assert {post.filename: post.sha256 for post in recording.posts()} == digests(*THERE)
        assert recording.stored()[-1] == SDIST.filename
        (promotion,) = await both.stage.promotions("demo==1.1")
        assert (promotion.state, promotion.stage) == ("live", FLAG_DAY)
        assert await both.stage.page("demo") == digests(*THERE)
        assert await both.standings(MAIN) == {WHEEL.filename: Standing.CONFLICT, SDIST.filename: Standing.LIVE}
        job = both.stage.job(WHEEL, SDIST, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 3, ran.out
        assert OTHER_WHEEL.sha256 in ran.report.problem
