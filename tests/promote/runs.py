"""Runs of `overlay promote` over the overlay and the upstream in memory, for tests to watch."""

import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from overlay.domain.wire_promotions import PlanView, Pledge, PromotedFileView, PromotionOrder
from overlay.promote.course import Options
from overlay.promote.credentials import Login
from overlay.promote.hosts import Target
from overlay.promote.identity import Identity
from overlay.promote.push import Push
from overlay.promote.result import Result
from overlay.promote.run import promote
from overlay.promote.server import PromotionServer
from overlay.promote.tools import Attestations, Credential, Tools
from tests.builders import Built, sdist, wheel
from tests.fakes.promotions import FakePromotions
from tests.fakes.pushed_index import FakeUpstream
from tests.fakes.virtual_time import VirtualTime

DEMO = (
    wheel("demo", "1.1"),
    wheel("demo", "1.1", tag="py3-none-win32"),
    wheel("demo", "1.1", tag="py3-none-win_amd64"),
    sdist("demo", "1.1"),
)


@dataclass
class Heard:
    """What a run told; implements `Progress`."""

    events: list[tuple[str, ...]] = field(default_factory=list)
    plans: list[PlanView] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)

    def planned(self, plan: PlanView) -> None:
        self.plans.append(plan)
        self.events.append(("planned",))

    def warned(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def fetched(self, filename: str, done_bytes: int) -> None:
        self.events.append(("fetched", filename, str(done_bytes)))

    def pushing(self, filename: str, done_bytes: int) -> None:
        self.events.append(("pushing", filename, str(done_bytes)))

    def pushed(self, filename: str) -> None:
        self.events.append(("pushed", filename))

    def waiting(self, filenames: Sequence[str], why: str) -> None:
        self.events.append(("waiting", why, *filenames))

    def live(self, filename: str, url: str | None) -> None:
        self.events.append(("live", filename, url or ""))

    def mask(self, secret: str) -> None:
        self.secrets.append(secret)

    def names(self, what: str) -> list[str]:
        """The files of all events of this kind."""
        return [event[1] for event in self.events if event[0] == what]


async def no_attestations(
    file: PromotedFileView,  # noqa: ARG001 - as `Attest` calls it
    path: Path,  # noqa: ARG001 - as above
    identity: Identity | None,  # noqa: ARG001 - as above
    *,
    dry_run: bool,  # noqa: ARG001 - as above
) -> Attestations:
    """Send none."""
    return Attestations(None)


async def a_login(_: Target, __: PlanView) -> Credential:
    """Find a credential at once."""
    return Login(username="ada", password="secret", words="a test")


def order_of(staged: Sequence[Built], *, number: int = 1) -> PromotionOrder:
    """Order the promotion of these files, as the run of this number."""
    pledges = tuple(Pledge(filename=built.filename, sha256=built.sha256) for built in staged)
    return PromotionOrder(releases=("demo==1.1",), pledges=pledges, holder=f"{number:032x}")


class Scene:
    """One overlay with staged files in front of one upstream; `run` promotes all that is staged."""

    def __init__(self, folder: Path, staged: Sequence[Built] = DEMO) -> None:
        self.staged = staged
        self.time = VirtualTime()
        self.upstream = FakeUpstream()
        self.server = FakePromotions(staged, self.upstream, self.time)
        self.heard = Heard()
        self._folder = folder
        self._runs = itertools.count(1)

    def order(self) -> PromotionOrder:
        """Form the order of a run of its own."""
        return order_of(self.staged, number=next(self._runs))

    def tools(self, *, server: PromotionServer | None = None, push: Push | None = None) -> Tools:
        """Form the tools of a run, with a folder of its own."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        to = push or self.upstream

        @contextlib.asynccontextmanager
        async def pushing(_: Target) -> AsyncIterator[Push]:
            yield to

        return Tools(
            server=server or self.server,
            find_credential=a_login,
            pushing=pushing,
            attest=no_attestations,
            progress=self.heard,
            clock=self.time.clock,
            folder=folder,
        )

    async def run(self, options: Options | None = None, **changes: object) -> Result:
        """Promote with tools of its own; `changes` replace some of them."""
        tools = replace(self.tools(), **changes)  # type: ignore[arg-type]
        return await promote(self.order(), options or Options(), tools)
