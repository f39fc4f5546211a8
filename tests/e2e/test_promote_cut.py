"""`overlay promote` whose every connection breaks once: each call to the overlay, each upload, before it or after it.

One overlay and one scripted PyPI, over real connections; each cut is of a run of its own, for a project of its own, and
all runs go on at the same time, in this process.
"""

import asyncio
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from overlay.config.tables import PromoteConfig
from overlay.domain.wire_promotions import Pledge, PromotionOrder
from overlay.promote.errors import Ending
from tests.builders import Built, sdist, wheel
from tests.e2e.gate_proxy import Of, When, gate_proxy
from tests.e2e.promoting import ABSENT_S, Stage, scripted
from tests.pypi.faults import Action, Answer, Close, Fault, Hang, Point
from tests.pypi.orders import OpenGate
from tests.pypi.process import PypiProcess
from tests.pypi.recording import Recording

LIMIT_S: Final = 120.0
# All runs share one process: on a loaded machine a short lease would lapse.
PATIENT: Final = PromoteConfig(lease_s=12, absent_s=ABSENT_S)
VERSION: Final = "1.1"
# plan, then for each file pushing and pushed, then a look; two fetches; the first renewal
CALLS: Final = [*((Of.STEPS, number) for number in range(6)), (Of.FILES, 0), (Of.FILES, 1), (Of.LEASE, 0)]


@dataclass(frozen=True)
class Cut:
    """A call to the overlay, by its kind and its number from 0, that is lost, or whose answer is."""

    of: Of
    number: int
    when: When

    @property
    def project(self) -> str:
        return f"{self.of}-{self.number}-{self.when}"


@dataclass(frozen=True)
class Trouble:
    """What upstream does once with one of two files."""

    point: Point
    action: Action
    is_sdist: bool = False

    @property
    def project(self) -> str:
        how = f"{self.action.status}" if isinstance(self.action, Answer) else "closed"
        return f"{self.point}-{how}-{'sdist' if self.is_sdist else 'wheel'}"

    @property
    def filename(self) -> str:
        return files(self.project)[self.is_sdist].filename


CUTS: Final = [Cut(of, number, when) for (of, number), when in itertools.product(CALLS, When)]
TROUBLES: Final = [
    *(
        Trouble(point, Close(), is_sdist)
        for point in (Point.BODY, Point.RECEIVED, Point.STORED)
        for is_sdist in (False, True)
    ),
    *(
        Trouble(point, Answer(status, "try later"))
        for point in (Point.RECEIVED, Point.STORED)
        for status in (429, 500, 502, 503)
    ),
]


def files(project: str) -> list[Built]:
    return [wheel(project, VERSION), sdist(project, VERSION)]


async def promoted(stage: Stage, project: str, *, url: str = "") -> None:
    """Promote a project's release by one run, which gets to its end."""
    order = PromotionOrder(
        releases=(f"{project}=={VERSION}",),
        pledges=tuple(Pledge(filename=one.filename, sha256=one.sha256) for one in files(project)),
        holder=project.encode().hex()[:32].ljust(32, "0"),
    )
    result = await stage.promote(order, url=url)
    assert (project, result.ending, result.problem) == (project, Ending.DONE, "")


async def check_end(stage: Stage, recording: Recording, project: str) -> None:
    """All of it is out, once, in order; the promotion has its receipt."""
    names = [one.filename for one in files(project)]
    assert [name for name in recording.stored() if name in names] == names
    assert not set(recording.early_sdists()) & set(names)
    assert [one.state for one in await stage.promotions(f"{project}=={VERSION}")] == ["live"]


async def cut_off(pypi: PypiProcess, stage: Stage, cut: Cut) -> None:
    """Promote while one call is cut off; for one about the lease there is time, for upstream takes its own."""
    project = cut.project
    if cut.of is Of.LEASE:
        await pypi.do(Fault(at=Point.RECEIVED, action=Hang(project), subject=files(project)[0].filename))
    async with (
        gate_proxy(stage.served.url, cut.number, cut.when, cut=True, of=cut.of) as gate,
        asyncio.timeout(LIMIT_S),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(promoted(stage, project, url=gate.url))
        await gate.reached.wait()
        await pypi.do(OpenGate(project))


async def test_every_call_to_the_overlay_may_be_cut_off(tmp_path: Path) -> None:
    """It is made again: one run is enough, and upstream is sent each file once."""
    built = [one for cut in CUTS for one in files(cut.project)]
    async with scripted(tmp_path, built, promote=PATIENT) as (pypi, stage):
        async with asyncio.TaskGroup() as tasks:
            for cut in CUTS:
                tasks.create_task(cut_off(pypi, stage, cut))
        recording = await pypi.recording()
        assert len(recording.posts()) == len(built)
        for cut in CUTS:
            await check_end(stage, recording, cut.project)


async def test_upstream_is_looked_at_before_an_upload_is_repeated(tmp_path: Path) -> None:
    """Cut off before, in, or after a file, or answered what may pass: one run is enough, and each is stored once.

    The first two uploads are cut off before anybody knows of which file they are.
    """
    built = [one for trouble in TROUBLES for one in files(trouble.project)]
    faults = [Fault(at=trouble.point, action=trouble.action, subject=trouble.filename) for trouble in TROUBLES]
    unread = Fault(at=Point.ARRIVED, action=Close(), times=2)
    async with scripted(tmp_path, built, *faults, unread, promote=PATIENT) as (pypi, stage):
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
            for trouble in TROUBLES:
                tasks.create_task(promoted(stage, trouble.project))
        recording = await pypi.recording()
        assert len([post for post in recording.posts() if not post.filename]) == unread.times
        for trouble in TROUBLES:
            await check_end(stage, recording, trouble.project)
            check_looked(recording, trouble)


def check_looked(recording: Recording, trouble: Trouble) -> None:
    """What was stored is not sent again; what was not is, after a look."""
    posts = [post.number for post in recording.posts(trouble.filename)]
    if trouble.point is Point.STORED:
        assert len(posts) == 1, trouble
        return
    first, second = posts
    assert [page for page in recording.pages(trouble.project) if first < page.number < second], trouble
