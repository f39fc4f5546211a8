"""The errors of the overlay: the branch says what the caller can do, the leaf carries the facts.

    OverlayError
    ├── NotFound            nothing is there; asking again changes nothing
    │   ├── UnknownProject, UnknownRelease, UnknownFile, UnknownToken, UnknownPage
    │   ├── UnknownPromotion                        (overlay.domain.promotion_errors)
    │   └── BlobNotFound, DocumentNotFound          (adapters; a service turns them into one of the above)
    ├── Rejected            the request itself is wrong; mend it and send it again
    │   ├── BadRequest, BadUpload, InvalidName, NotAcceptable, RetiredAction
    │   └── TooLarge
    ├── Denied              the caller may not
    │   ├── NotAuthenticated, ForeignToken
    │   └── NotGranted, ProjectQuarantined
    ├── Conflict            the request is fine but meets something that is there
    │   ├── FileExists, StaysLive, StoreInUse
    │   └── ReleaseFrozen, StagedChanged, PromotionRunning, PromotionLost, PromotionRefused  (promotion_errors, too)
    ├── Unavailable         ask again later
    │   ├── UpstreamUnavailable, StoreUnavailable, Draining
    │   ├── LedgerUnavailable, of which LedgerBusy, LeadLost, LedgerRebuilt
    │   └── StoreFull, SlowBody, RateExceeded
    ├── Corrupt             stored or received data breaks its own promise
    │   └── UpstreamCorrupt, RecordCorrupt
    └── InvalidConfig       the operator's settings

No status code stands here: `overlay.web.errors` has the one table from (class, door) to status.
Every leaf forms its own sentence; `str(error)` is fit to be shown to a stranger and never holds a secret.
"""

import math

from overlay.domain.quantities import count_words


class OverlayError(Exception):
    """Root of all errors that the overlay raises on purpose."""


class NotFound(OverlayError):
    """Nothing is there."""


class UnknownPage(NotFound):
    """No page has this URL."""

    def __init__(self, sentence: str = "There is no such page here.") -> None:
        super().__init__(sentence)


class UnknownProject(NotFound):
    """Neither upstream nor a stage of the view has the project."""

    def __init__(self, project: str) -> None:
        super().__init__(f"No project named {project!r} is live or staged here.")
        self.project = project


class UnknownRelease(NotFound):
    """Nothing is staged for this version of the project; `more` is a sentence on what was."""

    def __init__(self, project: str, version: str, more: str = "") -> None:
        super().__init__(f"Nothing is staged for {project}=={version}. {more}".rstrip())
        self.project = project
        self.version = version


class UnknownFile(NotFound):
    """No file is served at this URL."""

    def __init__(self, filename: str) -> None:
        super().__init__(f"No file {filename!r} is served here.")
        self.filename = filename


class UnknownToken(NotFound):
    """No token has this id."""

    def __init__(self, token_id: str) -> None:
        super().__init__(f"No token has the id {token_id!r}; `overlay token list` shows them.")
        self.token_id = token_id


class BlobNotFound(NotFound):
    """The blob store has nothing under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"No blob is stored under {key!r}.")
        self.key = key


class DocumentNotFound(NotFound):
    """No document has this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"No document is stored under {key!r}.")
        self.key = key


class Rejected(OverlayError):
    """The request itself is wrong."""


class BadRequest(Rejected):
    """A request that is no upload is malformed."""


class BadUpload(Rejected):
    """The upload is certainly broken; the sentence says where."""


class InvalidName(Rejected):
    """A name is not one: of a project, a stage, an upload id."""

    def __init__(self, kind: str, value: str) -> None:
        super().__init__(f"{value[:100]!r} is not a valid {kind}.")
        self.kind = kind
        self.value = value


class NotAcceptable(Rejected):
    """The Accept header excludes every format there is."""

    def __init__(self) -> None:
        super().__init__(
            "Accept excludes every format of this page: application/vnd.pypi.simple.v1+json, "
            "application/vnd.pypi.simple.v1+html, text/html."
        )


class RetiredAction(Rejected):
    """The form's :action ended long ago (submit, doc_upload)."""


class TooLarge(Rejected):
    """The upload exceeds a limit that the operator set; `remedy` is a sentence."""

    def __init__(self, what: str, limit_bytes: int, remedy: str = "") -> None:
        super().__init__(f"{what} is larger than this index allows ({limit_bytes:,} bytes). {remedy}".rstrip())
        self.limit_bytes = limit_bytes


class Denied(OverlayError):
    """The caller may not do this."""


class NotAuthenticated(Denied):
    """No token, or one that this index does not know."""


class ForeignToken(Denied):
    """A credential of another index was sent here."""

    def __init__(self) -> None:
        super().__init__(
            "The password looks like a pypi.org token. It was not needed here: revoke it on PyPI if you do not "
            "trust this server, and use a token of this overlay (it begins ovl_)."
        )


class NotGranted(Denied):
    """The token is known but does not carry the right."""


class ProjectQuarantined(Denied):
    """Upstream quarantined the project; nothing of it is shown, staged or promoted."""

    def __init__(self, project: str) -> None:
        super().__init__(f"Project {project!r} is quarantined upstream; nothing can be staged for it.")
        self.project = project


class Conflict(OverlayError):
    """The request meets something that is already there."""


class FileExists(Conflict):
    """The filename is taken by other bytes, live or staged.

    The words "File already exists" are what twine, poetry and pdm look for (standards: legacy-upload §7).
    """

    def __init__(self, filename: str, *, held_sha256: str, where: str) -> None:
        super().__init__(f"File already exists ({filename!r}, with sha256 hash {held_sha256!r}, is {where}).")
        self.filename = filename
        self.held_sha256 = held_sha256


class StaysLive(Conflict):
    """What was to be withdrawn is live by now; `since` is that moment in words, "" where it is not known."""

    def __init__(self, what: str, *, since: str) -> None:
        self.what = what
        super().__init__(
            f"{what} is live upstream{since and f' since {since}'}: yank or delete it there. It leaves the overlay by "
            "itself."
        )


class StoreInUse(Conflict):
    """Another server holds the store's directory."""

    def __init__(self, root: str, holder: str) -> None:
        super().__init__(
            f"The store {root} is in use by another overlay server (process {holder or 'unknown'}). Stop that one, or "
            "give this one another [store] path."
        )
        self.holder = holder


class Unavailable(OverlayError):
    """Something we need does not answer; the same request may succeed later."""


class UpstreamUnavailable(Unavailable):
    """Upstream did not answer usefully and no cached page may stand in."""


class LedgerUnavailable(Unavailable):
    """What is staged is unknown right now; `why` is for the operator's eyes only, and "" where the sentence says it."""

    def __init__(self, sentence: str, *, why: str = "") -> None:
        super().__init__(sentence)
        self.why = why


class LedgerBusy(LedgerUnavailable):
    """Another worker rebuilds or reconciles the ledger."""

    def __init__(self) -> None:
        super().__init__("Another worker is rebuilding or reconciling the ledger; try again in a moment.")


class LeadLost(LedgerUnavailable):
    """Another worker leads the rebuild by now, or the ledger lost it."""

    def __init__(self) -> None:
        super().__init__("The lead was lost while the ledger was being rebuilt; the worker that has it goes on.")


class LedgerRebuilt(LedgerUnavailable):
    """The ledger began a new life while a file was about to be staged."""

    def __init__(self) -> None:
        super().__init__(
            "The ledger was rebuilt while this was under way. It may become visible later; repeating is safe."
        )


class StoreUnavailable(Unavailable):
    """The store of bytes and documents failed."""


class StoreFull(Unavailable):
    """The disk or the bucket takes no more bytes."""


class SlowBody(Unavailable):
    """The body of the request stopped arriving."""


class RateExceeded(Unavailable):
    """The token sent all the uploads that it may send a minute; `wait_s` from now it may send one again."""

    def __init__(self, label: str, *, per_minute: int, wait_s: float) -> None:
        self.wait_s = math.ceil(wait_s)
        super().__init__(
            f"The token {label!r} may send {count_words(per_minute, 'upload')} a minute. Send this one again in "
            f"{count_words(self.wait_s, 'second')}."
        )


class Draining(Unavailable):
    """The server is about to stop and takes no new uploads."""

    def __init__(self) -> None:
        super().__init__("This server is stopping and takes no new uploads; try again in a moment.")


class Corrupt(OverlayError):
    """Stored or received data breaks its own promise."""


class UpstreamCorrupt(Corrupt):
    """Upstream's answer is not a page of the simple API."""


class RecordCorrupt(Corrupt):
    """A stored document cannot be read, or was written by a newer version."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"The document {key} cannot be read: {why}.")
        self.key = key


class InvalidConfig(OverlayError):
    """The configuration is wrong; the sentence lists every problem."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
