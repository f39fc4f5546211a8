"""One run under way: its plan, its lease, what it knows of each file, and how it speaks to the overlay."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from overlay.domain.names import UploadId
from overlay.domain.promotion import FileState
from overlay.domain.wire_promotions import JournalOrder, LookedAtView, PlanView, PromotedFileView, PromotionView
from overlay.promote.errors import Failed
from overlay.promote.lease import Lease, patiently
from overlay.promote.plan_check import release_of
from overlay.promote.result import Standings
from overlay.promote.tools import Tools

_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 10.0
_PAUSE_GROWTH: Final = 1.5
# The overlay may be silent for so long before a look is given up.
_PATIENCE_S: Final = 60.0

Journalled = Literal[FileState.PLANNED, FileState.PUSHING, FileState.PUSHED]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the caller wants a run to go."""

    dry_run: bool = False
    """Stop before the first push, and before any token is minted."""
    wait: bool = True
    """Wait until all is live; else it is enough that upstream accepted everything."""
    timeout_s: float = 600.0
    """How long upstream may take to show what it accepted."""
    at_once: int = 4
    """How many files of one wave are pushed at the same time, at least one."""
    most_attempts: int = 5
    """How often one file is pushed; twine's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One run under way."""

    plan: PlanView
    promotion: PromotionView
    lease: Lease
    standings: Standings
    tools: Tools
    options: Options

    def files(self, *states: FileState) -> list[PromotedFileView]:
        """Return the files in one of these states, in the order of pushing."""
        return [file for file in self.promotion.files if self.standings.state(UploadId(file.upload_id)) in states]

    @property
    def releases(self) -> str:
        """Its releases as the command line takes them."""
        return " ".join(map(str, dict.fromkeys(map(release_of, self.promotion.files))))

    async def journal(
        self, file: PromotedFileView, state: Journalled, *, attempt: int, status: int | None = None, said: str = ""
    ) -> None:
        """Write down how far an attempt to push a file came, with what upstream answered. Raises RunLost.

        PLANNED: upstream certainly has nothing of it.
        """
        upload, word = UploadId(file.upload_id), _word(state)
        self.standings.note(upload, state, status=status, said=said)
        order = JournalOrder(fence=self.lease.fence, state=word, attempt=attempt, status=status, said=said)
        sent_s = self.tools.clock.passed_s()
        # The lease bounds the patience: `while_leased` ends the run with it.
        await patiently(lambda: self.tools.server.journal(self.promotion.id, upload, order), self.tools.clock)
        self.lease.renewed(sent_s)

    async def look(self, *, patience_s: float = _PATIENCE_S) -> frozenset[UploadId]:
        """Let the overlay look at upstream; return the uploads that are not shown. Raises Failed: other bytes."""
        seen = await patiently(
            lambda: self.tools.server.look(self.promotion.id, self.lease.fence),
            self.tools.clock,
            within_s=patience_s,
        )
        self.standings.ended = seen.ended
        others = [file for file in seen.files if file.seen == "other"]
        absent = frozenset(UploadId(file.upload_id) for file in seen.files if not self._note(file))
        if others:
            raise self._other(others[0])
        return absent

    async def shown_within(self, uploads: Collection[UploadId], within_s: float, why: str) -> bool:
        """Look until upstream shows all of these, at most for so long; the last look begins after that."""
        clock, pause_s = self.tools.clock, _FIRST_PAUSE_S
        until_s = clock.passed_s() + within_s
        while True:
            began_s = clock.passed_s()
            absent = await self.look(patience_s=max(until_s - began_s, _PATIENCE_S)) & frozenset(uploads)
            if not absent or began_s >= until_s:
                return not absent
            self.tools.progress.waiting(self._names(absent), why)
            await clock.sleep(min(pause_s, max(until_s - clock.passed_s(), 0.0)))
            pause_s = min(pause_s * _PAUSE_GROWTH, _LONGEST_PAUSE_S)

    def _note(self, seen: LookedAtView) -> bool:
        """Remember what was seen of a file; say whether it is live."""
        upload = UploadId(seen.upload_id)
        if seen.seen != "live":
            return False
        if self.standings.state(upload) is not FileState.LIVE:
            self.standings.note(upload, FileState.LIVE, url=seen.url)
            self.tools.progress.live(seen.filename, seen.url)
        return True

    def _other(self, seen: LookedAtView) -> Failed:
        planned = next(file for file in self.promotion.files if file.upload_id == seen.upload_id)
        shown = f"with sha256 {seen.sha256}" if seen.sha256 else "without a sha256 to compare"
        return Failed(
            f"Upstream's page shows {seen.filename} {shown}; {planned.sha256} was to be promoted. Whoever installs it "
            "gets other bytes than were tested.",
        )

    def _names(self, uploads: Collection[UploadId]) -> list[str]:
        return [file.filename for file in self.promotion.files if file.upload_id in uploads]


def _word(state: Journalled) -> Literal["planned", "pushing", "pushed"]:
    match state:
        case FileState.PLANNED:
            return "planned"
        case FileState.PUSHING:
            return "pushing"
        case FileState.PUSHED:
            return "pushed"
        case _:
            assert_never(state)
