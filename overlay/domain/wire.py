"""The API's nouns as they travel: shared by the server and the command line.

Reading is lenient (unknown keys of an answer are ignored, so an older command line understands a newer server), orders
are strict (an unknown key is an error: a misspelled limit must not be taken for none). `overlay.domain.to_wire` forms
them from the domain's nouns; this module imports nothing of it, so that the command line starts fast.

Times are RFC 3339 in UTC with a literal Z. `standing`, `severity`, `reason` and `kind` are words that may grow.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

API: Final = "/api/v1"
MAIN_STAGE: Final = "main"

# A hundred years: beyond it a clock cannot be printed, and nobody means it.
_LONGEST_S: Final = 3_155_760_000
_LONGEST_LABEL: Final = 200


class FindingView(Struct, frozen=True, kw_only=True):
    """One thing that the target of a promotion would refuse, or that people should know."""

    rule: str
    severity: str
    """error, warning or note."""
    sentence: str


class StagedFileView(Struct, frozen=True, kw_only=True):
    """One staged file and how it stands towards upstream."""

    stage: str
    project: str
    version: str
    filename: str
    kind: str
    sha256: str
    blake2_256: str
    size_bytes: int
    url: str
    staged_at: str
    who: str
    grant: str
    standing: str
    requires_python: str | None = None
    findings: tuple[FindingView, ...] | None = None
    """None in lists, which do not derive the report."""


class StagedList(Struct, frozen=True, kw_only=True):
    """What is staged, by project, version and filename."""

    files: tuple[StagedFileView, ...]


class PromotingFileView(Struct, frozen=True, kw_only=True):
    """How far one file of a promotion came: planned, pushing, pushed or live."""

    filename: str
    state: str


class ReleasePromotionView(Struct, frozen=True, kw_only=True):
    """The promotion that a release is in, or else the last one that it was in.

    `state` is running, waiting (for the same command to take it up again), live or abandoned; the latter two ended.
    """

    id: str
    state: str
    who: str
    since: str
    files: tuple[PromotingFileView, ...]
    """Those of this release."""
    others: tuple[str, ...] = ()
    """The other releases that are promoted together with it."""
    target: str = ""
    """The upload URL of the index that gets the files."""
    leased_until: str | None = None
    ended_at: str | None = None
    ended_by: str | None = None
    url: str = ""
    """Where all of it is read; once it ended, its receipt."""


class ReleaseView(Struct, frozen=True, kw_only=True):
    """The staged files of one version, with the report; upstream_known is false when upstream could not be asked."""

    project: str
    version: str
    upstream_known: bool
    files: tuple[StagedFileView, ...]
    promotion: ReleasePromotionView | None = None
    """The one under way; null where there is none."""


class HistoryEntryView(Struct, frozen=True, kw_only=True):
    """A staged file that ended: why (replaced, withdrawn, expired, refused, live), when, and by whom."""

    reason: str
    at: str
    who: str
    stage: str
    project: str
    version: str
    filename: str
    upload_id: str
    sha256: str
    size_bytes: int
    staged_at: str
    staged_by: str


class HistoryView(Struct, frozen=True, kw_only=True):
    """The uploads of one project that ended, the latest first."""

    project: str
    entries: tuple[HistoryEntryView, ...]


class WithdrawnView(Struct, frozen=True, kw_only=True):
    """What a withdrawal ended; `live` names the files that stay, because upstream has them by now."""

    project: str
    version: str
    files: tuple[HistoryEntryView, ...]
    live: tuple[str, ...] = ()


class EventView(Struct, frozen=True, kw_only=True):
    """One change; `number` counts from 1 within one epoch.

    It is about a file, or about a release that a promotion has (promoting, resumed, promoted, abandoned): then filename
    and sha256 are "", and promotion is its id.
    """

    number: int
    at: str
    kind: str
    stage: str
    project: str
    version: str
    filename: str
    sha256: str
    who: str
    promotion: str | None = None


class EventFeedView(Struct, frozen=True, kw_only=True):
    """Recent events, oldest first; numbers below cut_before are no longer held, another epoch counts anew."""

    epoch: str
    cut_before: int
    events: tuple[EventView, ...]


class TokenView(Struct, frozen=True, kw_only=True):
    """A token without its text; expires_at null: it never ends."""

    id: str
    label: str
    rights: tuple[str, ...]
    projects: tuple[str, ...]
    stages: tuple[str, ...]
    created_at: str
    expires_at: str | None = None


class TokenList(Struct, frozen=True, kw_only=True):
    """The stored tokens, oldest first; the operator's own is not among them."""

    tokens: tuple[TokenView, ...]


class TokenCreated(Struct, frozen=True, kw_only=True):
    """A new token with its text, which is shown here and never again."""

    token: TokenView
    text: str


class TokenOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a new token is to carry."""

    label: Annotated[str, Meta(max_length=_LONGEST_LABEL)]
    rights: tuple[str, ...]
    projects: tuple[str, ...] = ()
    stages: tuple[str, ...] = (MAIN_STAGE,)
    expires_in_s: Annotated[int, Meta(gt=0, le=_LONGEST_S)] | None = None


class SweepOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to sweep: bytes that nothing names for at least older_than_s seconds (null: the operator's grace_s)."""

    older_than_s: Annotated[int, Meta(ge=0, le=_LONGEST_S)] | None = None
    dry_run: bool = False


class SweptView(Struct, frozen=True, kw_only=True):
    """What a sweep deleted, or with dry_run would have; abandoned are unfinished uploads it ended, 0 with dry_run."""

    blobs: int
    size_bytes: int
    dry_run: bool
    abandoned: int = 0


class ReconciledView(Struct, frozen=True, kw_only=True):
    """What a reconcile looked at again, because ledger and documents disagreed: projects and tokens."""

    projects: int
    tokens: int


class ServerInfo(Struct, frozen=True, kw_only=True):
    """What this server is and what it stands in front of."""

    version: str
    upstream: str
    public_url: str
    read_open: bool
    ephemeral: bool


NO_PAGE: Final = "urn:overlay:no-page"
"""The type of a problem where nothing has the URL: no noun of the API, so the server, or its path, is another one."""


class Problem(Struct, frozen=True, kw_only=True):
    """Why a request failed (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
