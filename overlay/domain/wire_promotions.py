"""The API's nouns of promotions, as `overlay.domain.wire` has the others: shared by the server and `overlay promote`.

A run plans (the answer has its fence), writes the journal before and after each push, looks at upstream through the
server, and ends. `state` of a file is planned, pushing, pushed or live; of a promotion running, waiting (for the same
command to take it up again), live or abandoned. Words may grow.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from overlay.domain.wire import MAIN_STAGE, Problem

_LONGEST_NAME: Final = 300
_LONGEST_WORDS: Final = 2000
_MOST_FILES: Final = 1000

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Meta(min_length=1, max_length=_LONGEST_NAME)]
Fence = Annotated[int, Meta(ge=1)]


class Pledge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the caller expects of one file: these bytes under this name, staged or already live."""

    filename: Name
    sha256: Sha256


class PromotionOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Plan a promotion, or take up the one that these releases are in.

    `releases` are written PROJECT==VERSION. What is staged of them and not pledged is a refusal unless `partial`.
    """

    releases: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=_MOST_FILES)]
    pledges: Annotated[tuple[Pledge, ...], Meta(min_length=1, max_length=_MOST_FILES)]
    holder: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")]
    """Names the run: random, the same when the order is repeated after a lost answer."""
    stage: Name = MAIN_STAGE
    partial: bool = False
    ignore_rules: Annotated[tuple[Name, ...], Meta(max_length=_MOST_FILES)] = ()


class RunOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Speak for the run with this fence."""

    fence: Fence


class JournalOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Write down how far a file came: `pushing` before its first byte goes out, `pushed` once upstream accepted it.

    `planned` takes an attempt back of which upstream certainly has nothing: refused, or no byte was sent. Where that is
    not certain `pushing` is written again with what upstream answered; status null: its answer was lost.
    """

    fence: Fence
    state: Literal["planned", "pushing", "pushed"]
    attempt: Annotated[int, Meta(ge=1)] = 1
    """Which of the run's attempts to push this file it is about: what is said of an earlier one changes nothing."""
    status: Annotated[int, Meta(ge=100, le=999)] | None = None
    said: Annotated[str, Meta(max_length=_LONGEST_WORDS)] = ""


class PromotedFileView(Struct, frozen=True, kw_only=True):
    """One file of a promotion; `wave` orders the pushes, `url` has the staged bytes."""

    project: str
    version: str
    filename: str
    kind: str
    upload_id: str
    sha256: str
    size_bytes: int
    wave: int
    url: str
    state: str
    status: int | None = None
    """What upstream answered last; null: nothing yet, or the answer was lost."""
    said: str = ""
    attestations: str | None = None
    """The JSON text that was staged with the file (PEP 740), as it came; only in the answer to a plan."""


class LiveFileView(Struct, frozen=True, kw_only=True):
    """A pledged file that is live already, with the pledged digest."""

    filename: str
    sha256: str
    url: str


class IgnoredView(Struct, frozen=True, kw_only=True):
    """A refusal that was ignored by wish."""

    rule: str
    filename: str
    sentence: str


class PromotionView(Struct, frozen=True, kw_only=True):
    """A promotion: under way, or ended (then it is its receipt)."""

    id: str
    stage: str
    target: str
    """The upload URL of the index that gets the files."""
    who: str
    planned_at: str
    state: str
    files: tuple[PromotedFileView, ...]
    already_live: tuple[LiveFileView, ...] = ()
    """What was pledged with the files and was live before it was planned: nothing of it was pushed."""
    ignored: tuple[IgnoredView, ...] = ()
    leased_until: str | None = None
    ended_at: str | None = None
    ended_by: str | None = None


class PromotionList(Struct, frozen=True, kw_only=True):
    """Promotions: those under way, then those that ended; of each the latest first."""

    promotions: tuple[PromotionView, ...]


class PlanView(Struct, frozen=True, kw_only=True):
    """What a run has to do; `promotion` is null when every pledged file is live already."""

    promotion: PromotionView | None
    already_live: tuple[LiveFileView, ...]
    warnings: tuple[str, ...]
    new_projects: tuple[str, ...]
    """Projects that upstream does not have yet: who may create them depends on the credential."""
    upstream: str
    """The simple API of the index that gets the files, without credentials."""
    fence: int
    lease_s: int
    absent_s: int
    """How long upstream's page may lack a file that it accepted, before it is believed absent."""


class LeaseView(Struct, frozen=True, kw_only=True):
    """The lease of a run, renewed."""

    leased_until: str


class LookedAtView(Struct, frozen=True, kw_only=True):
    """One file on upstream's page as the server just read it: absent, live or other (then with other bytes)."""

    filename: str
    upload_id: str
    seen: str
    sha256: str | None = None
    """The digest that upstream's page shows; null where it shows none."""
    url: str | None = None


class LookView(Struct, frozen=True, kw_only=True):
    """What upstream shows of a promotion's files; `ended` once all of them are live."""

    files: tuple[LookedAtView, ...]
    ended: bool


class RefusalView(Struct, frozen=True, kw_only=True):
    """One reason why nothing was planned; filename "" where it is about a release or all of it."""

    rule: str
    filename: str
    sentence: str


_Refused = Literal["urn:overlay:promotion-refused"]
_Running = Literal["urn:overlay:promotion-running"]
_Lost = Literal["urn:overlay:promotion-lost"]
REFUSED: Final[_Refused] = "urn:overlay:promotion-refused"
RUNNING: Final[_Running] = "urn:overlay:promotion-running"
LOST: Final[_Lost] = "urn:overlay:promotion-lost"
"""The `type` of the problems that a run tells apart."""


class RefusedProblem(Problem, frozen=True, kw_only=True):
    """Why a promotion was refused (REFUSED): every reason that was found, not only the first."""

    type: _Refused = REFUSED
    refusals: tuple[RefusalView, ...] = ()


class RunningProblem(Problem, frozen=True, kw_only=True):
    """Another run has the lease (RUNNING), until then unless it is renewed."""

    type: _Running = RUNNING
    leased_until: str


class LostProblem(Problem, frozen=True, kw_only=True):
    """The run does not lead the promotion any more (LOST), or nothing is left of that: it lapsed before any push."""

    type: _Lost = LOST
