"""What the target takes from whoever uploads, from where twine's users keep it, in twine's order.

    TWINE_USERNAME, TWINE_PASSWORD      the environment
    ~/.pypirc                           the sections whose repository is the target: the first that fits
    keyring                             its service is the upload URL
    Trusted Publishing                  the job's own identity (`trusted_publishing`)
    a client certificate alone          TWINE_CLIENT_CERT or .pypirc (`tls`), for indexes that are none of PyPI's

A job that stages with twine and promotes later has the overlay's token in the same places: a password that begins
`ovl_` is never sent upstream but passed over, and the next source is asked. Credentials are never taken from the
command line, which every user of the machine can read, and never shown.

The overlay says where the files go, and it alone must not say who gets a credential. What .pypirc and the keyring hold
belongs to a URL. What the environment or the CI platform gives belongs to none: it goes to pypi.org and test.pypi.org,
whose tokens and audiences are bound, and elsewhere only where TWINE_REPOSITORY_URL names the very upload URL. A
TWINE_REPOSITORY_URL that names the overlay itself (OVERLAY_URL), as a job has it that stages with twine, says nothing.
Where the files go to pypi.org or test.pypi.org one that names the other of the two stops the run, and any other URL is
passed over with a warning: an overlay has more addresses than OVERLAY_URL. Elsewhere one that names anything else than
where the files go stops the run.
"""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from overlay.caching.threads import in_thread
from overlay.domain.public_indexes import INDEXES
from overlay.domain.rights import FOREIGN_PREFIX, PREFIX
from overlay.domain.wire_promotions import PlanView
from overlay.promote import macaroon, pypirc, tls
from overlay.promote.errors import Refused
from overlay.promote.hosts import Target, is_below, is_web_address, without_user
from overlay.promote.identity import Identity
from overlay.promote.tools import Credential

_API_USER: Final = "__token__"
_HOW_TO_NAME: Final = "Set TWINE_REPOSITORY_URL to"


class Keyring(Protocol):
    """A store of passwords on this machine."""

    def __call__(self, service: str, username: str) -> tuple[str, str] | None:
        """Return user name and password; None when there is none, or no store. `username` "": any user's. Blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user name and password, or a token; implements `Credential`."""

    username: str
    password: str = field(repr=False)
    words: str
    identity: Identity | None = None

    async def authorization(self) -> str:
        """Return the header's value (RFC 7617)."""
        return basic(self.username, self.password)

    def has_ended(self, _: str) -> bool:
        """Say no: there is no other one."""
        return False


@dataclass(frozen=True, slots=True)
class ByCertificate:
    """The client certificate of the connection, and nothing else; implements `Credential`."""

    words: str
    identity: Identity | None = None

    async def authorization(self) -> str:
        """Return nothing: no header is sent."""
        return ""

    def has_ended(self, _: str) -> bool:
        """Say no: there is no other one."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where credentials are looked for."""

    environment: Mapping[str, str] = field(repr=False)
    pypirc: Path
    keyring: Keyring
    trusted: Callable[[Target], Awaitable[Credential]]
    """Asks for Trusted Publishing. Raises Refused, saying why the target or this job has none."""
    warn: Callable[[str], None]
    now_s: Callable[[], float]


def basic(username: str, password: str) -> str:
    """Form the value of the header Authorization (RFC 7617)."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"


async def find(sources: Sources, target: Target, plan: PlanView) -> Credential:
    """Return the first credential for the target. Raises Refused when there is none, or it cannot fit."""
    meant = _meant(sources, target)
    named = meant is not _Meant.UNSAID
    connected = await in_thread(tls.read, sources.environment, sources.pypirc, target)
    login = await _login(sources, target, plan, meant)
    if login is not None:
        _explain_new(login, plan, sources.warn)
        return login
    try:
        credential = await _trusted(sources, target, named=named)
    except Refused as err:
        unbound = not named and sources.environment.get("TWINE_CLIENT_CERT", "").strip()
        if not connected.shown or target.index is not None or unbound:
            raise
        sources.warn(f"{err}\nThe client certificate ({connected.shown}) is all that is shown to {target.host}.")
        return ByCertificate(f"the client certificate ({connected.shown})")
    if plan.new_projects:
        sources.warn(
            f"{_names(plan)} is new upstream: a pending publisher must be registered there for exactly this name and "
            f"for this job's identity ({credential.identity}). Minting the first token creates the project."
        )
    return credential


class _Meant(Enum):
    """Whether the job itself means this target."""

    UNSAID = "nothing says so"
    THIS = "it does"
    ELSEWHERE = "it names something else, which was passed over"


def _meant(sources: Sources, target: Target) -> _Meant:
    """Find out what TWINE_REPOSITORY_URL says of this target. Raises Refused where the job means another index."""
    raw = sources.environment.get("TWINE_REPOSITORY_URL", "").strip()
    if not raw or is_below(raw, sources.environment.get("OVERLAY_URL", "").strip()):
        return _Meant.UNSAID if target.index is None else _Meant.THIS
    if target.is_meant_by(raw):
        return _Meant.THIS
    if target.index is not None and is_web_address(raw) and not target.is_the_other_of(raw):
        sources.warn(
            f"TWINE_REPOSITORY_URL of this job names {without_user(raw)}; it was passed over, for the overlay's files "
            f"go to {target}."
        )
        return _Meant.ELSEWHERE
    raise Refused(
        f"The overlay's files go to {target}, but TWINE_REPOSITORY_URL of this job names {without_user(raw)}; no "
        f"credential was sent. {_HOW_TO_NAME} {target} if that is where they are to go; else use the overlay that "
        "stands in front of the other one."
    )


async def _trusted(sources: Sources, target: Target, *, named: bool) -> Credential:
    if not named:
        raise Refused(
            f"There is no credential for {target}: neither .pypirc nor the keyring has one, and the job's own identity "
            f"goes only where the job says so. {_HOW_TO_NAME} {target} to use it."
        )
    return await sources.trusted(target)


async def _login(sources: Sources, target: Target, plan: PlanView, meant: _Meant) -> Login | None:
    """Ask environment, .pypirc and keyring; what they give fits. Raises Refused."""
    username = sources.environment.get("TWINE_USERNAME", "").strip()
    held = sources.environment.get("TWINE_PASSWORD", "").strip()
    if password := _own(held, "TWINE_PASSWORD", sources):
        # A token that can be read says itself where it belongs.
        if meant is _Meant.UNSAID or (meant is _Meant.ELSEWHERE and macaroon.read(password) is None):
            raise Refused(
                f"The overlay's files go to {target}, and nothing in this job says that TWINE_PASSWORD belongs there; "
                f"it was not sent. {_HOW_TO_NAME} {target} if it does."
            )
        return _fitting(_made(username, password, "TWINE_PASSWORD", target), sources, target, plan)
    if held:  # the overlay's: then so is the user name
        username = ""
    entries = await in_thread(pypirc.read, sources.pypirc, target)
    if login := _of_sections(entries, username, sources, target, plan):
        return login
    if not username:
        username = next(filter(None, (_user(entry, target) for entry in entries)), "")
    if not username and target.index is not None:
        username = _API_USER
    found = await in_thread(sources.keyring, str(target), username)
    if found is not None and (password := _own(found[1], "the keyring", sources)):
        return _fitting(_made(found[0], password, "the keyring", target), sources, target, plan)
    return None


def _of_sections(
    entries: Sequence[pypirc.Entry], username: str, sources: Sources, target: Target, plan: PlanView
) -> Login | None:
    """Return what the first section that fits holds, and say which were passed over. Raises Refused when none fits."""
    unfit: list[str] = []
    for entry in entries:
        words = f"[{entry.section}] in {sources.pypirc}"
        if password := _own(entry.password, words, sources):
            try:
                made = _made(username or _user(entry, target), password, words, target)
                login = _fitting(made, sources, target, plan)
            except Refused as err:
                unfit.append(str(err))
                continue
            for sentence in unfit:
                sources.warn(f"{sentence} It was passed over; {words} is used.")
            return login
    if unfit:
        raise Refused("\n".join(dict.fromkeys(unfit)))
    return None


def _user(entry: pypirc.Entry, target: Target) -> str:
    """Return whose password a section holds; as with twine its user name does not matter to PyPI: it takes tokens."""
    return "" if target.index is not None else entry.username


def _fitting(login: Login, sources: Sources, target: Target, plan: PlanView) -> Login:
    _require_fit(login, target, plan, sources.now_s())
    return login


def _own(password: str, words: str, sources: Sources) -> str:
    """Return the password; "" for one of an overlay, after a warning."""
    if not password.startswith(PREFIX):
        return password
    sources.warn(f"{words} holds a token of an overlay ({PREFIX}…); it is not sent upstream, and was passed over.")
    return ""


def _made(username: str, password: str, words: str, target: Target) -> Login:
    if not username and (target.index is not None or password.startswith(FOREIGN_PREFIX)):
        username = _API_USER
    if not username:
        raise Refused(f"{words} holds a password for {target.host}, but no user name; set TWINE_USERNAME.")
    if target.index is not None and username != _API_USER:
        # legacy-upload §3 step 6: a password of an account is refused since 2024.
        raise Refused(
            f"{target.index} takes API tokens only: TWINE_USERNAME must be {_API_USER} or not set, not {username!r}."
        )
    return Login(username=username, password=password, words=words)


def _require_fit(login: Login, target: Target, plan: PlanView, now_s: float) -> None:
    """Refuse what the target would refuse after the first file went out, as far as a token says so itself."""
    facts = macaroon.read(login.password)
    if facts is None:
        if target.index is not None and not login.password.startswith(FOREIGN_PREFIX):
            raise Refused(f"{login.words} holds no API token of {target.index}: those begin {FOREIGN_PREFIX}.")
        return
    is_public = target.index is not None or facts.location in INDEXES
    if is_public and facts.location != target.index:
        raise Refused(
            f"{login.words} holds a token of {facts.location}, but the files go to {target.host}; it was not sent."
        )
    if facts.expires_s is not None and facts.expires_s <= now_s:
        raise Refused(f"The token in {login.words} has expired; make a new one at {facts.location}.")
    planned = {file.project for file in plan.promotion.files} if plan.promotion is not None else set[str]()
    if facts.projects is not None and (foreign := sorted(planned - facts.projects)):
        raise Refused(
            f"The token in {login.words} is for {', '.join(sorted(facts.projects)) or 'no project'} only, not for "
            f"{', '.join(foreign)}."
        )
    if facts.is_for_existing and plan.new_projects:
        raise Refused(
            f"{_names(plan)} is new upstream, and the token in {login.words} is bound to projects that exist: it can "
            "create none. The first release of a new project needs a token for the whole account, or a pending "
            "publisher."
        )


def _explain_new(login: Login, plan: PlanView, warn: Callable[[str], None]) -> None:
    if plan.new_projects:
        warn(
            f"{_names(plan)} is new upstream: {login.words} must belong to an account that may create it, and the name "
            "becomes that account's with the first file."
        )


def _names(plan: PlanView) -> str:
    return ", ".join(plan.new_projects)
