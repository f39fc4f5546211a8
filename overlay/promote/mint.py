"""The index's side of Trusted Publishing (trusted-publishing §2): its audience, and the exchange of tokens."""

import re
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec
from yarl import URL

from overlay.promote.answers import decoded, one_line
from overlay.promote.clock import Clock, pause_s
from overlay.promote.errors import Refused
from overlay.promote.hosts import Target
from overlay.promote.http import beginning, broken, session_to, untrusted
from overlay.promote.identity import Identity

ATTEMPTS: Final = 3
_TIMEOUT_S: Final = 30.0
_ANSWER_BYTES: Final = 64 << 10

_AUDIENCES: Final = {"pypi.org": "pypi", "test.pypi.org": "testpypi"}
# Words that others than indexes ask for: with it whoever got the token could sign, or read secrets, as this job.
_FOREIGN: Final = frozenset({*_AUDIENCES.values(), "sigstore", "vault", "conjur", "jfrog-github"})
# The place that an audience names: a URL's authority, or what looks like a host's name.
_PLACE: Final = re.compile(r"//([^/?#]*)|((?:[a-z0-9-]+\.)+[a-z0-9-]+)", re.IGNORECASE)
# Another identity token may help with these; with the others the index's settings have to change.
_ONCE_MORE: Final = frozenset({"invalid-token", "invalid-reuse-token"})
_ADVICE: Final = {
    "invalid-publisher": "No publisher with these claims is registered: compare each of them with the project's "
    "publishing settings (owner, repository, workflow file, environment). The workflow that runs this command must be "
    "the registered one itself, not one that it calls.",
    "invalid-pending-publisher": "The project exists by now, so a pending publisher is of no use: register this "
    "publisher in the project's own publishing settings.",
    "invalid-payload": "The index does not know this CI platform, or may not create the project; publish with an API "
    "token (TWINE_PASSWORD).",
    "not-enabled": "The index has switched this CI platform off for now; try later, or publish with an API token.",
    "invalid-token": "The index did not accept the identity token; look at the clock of the machine that runs the job.",
    "invalid-reuse-token": "Each identity token can be used once, and this one was; start the job again.",
}


@dataclass(frozen=True, slots=True)
class Minted:
    """An upload token; `life_s` is how long it lasts from when it was asked for, None: the index did not say."""

    token: str
    life_s: float | None

    def __repr__(self) -> str:
        return "Minted(…)"


@dataclass(frozen=True, slots=True)
class NotMinted:
    """No upload token this time; `spent` says whether the identity token is of no use any more."""

    sentence: str
    spent: bool


class _Audience(msgspec.Struct, frozen=True):
    audience: str


class _Token(msgspec.Struct, frozen=True):
    token: str
    expires: float | None = None


class _Reason(msgspec.Struct, frozen=True):
    code: str = ""
    description: str = ""


class _Reasons(msgspec.Struct, frozen=True):
    message: str = ""
    errors: tuple[_Reason, ...] = ()


async def ask_audience(target: Target, clock: Clock, tls: ssl.SSLContext | None = None) -> str:
    """Ask the index for whom the identity token is to be. Raises Refused, also where nothing of the kind is offered."""
    asked = _Asked()
    for attempt in range(1, ATTEMPTS + 1):
        asked = await _asked(target, tls)
        answer = decoded(asked.body, _Audience) if asked.status == HTTPStatus.OK else None
        if answer is not None:
            return checked_audience(answer.audience, target)
        if HTTPStatus.OK <= asked.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            break
        if attempt < ATTEMPTS:
            await clock.sleep(pause_s(attempt))
    none = f"There is no credential for {target.host}: neither TWINE_PASSWORD nor .pypirc nor the keyring has one, and"
    if asked.status:
        raise Refused(f"{none} it offers no Trusted Publishing (it answered {asked.status}).")
    raise Refused(f"{none} it could not be asked for Trusted Publishing: {asked.why}")


async def exchange(
    target: Target, identity_token: str, identity: Identity, clock: Clock, tls: ssl.SSLContext | None = None
) -> Minted | NotMinted:
    """Exchange an identity token for an upload token. Raises Refused where another one would not help either."""
    order = msgspec.json.encode({"token": identity_token})
    try:
        answer = await _call(target, "POST", "mint-token", order, tls)
    except aiohttp.ClientConnectorCertificateError as err:
        raise untrusted(target, err) from None
    except (aiohttp.ClientError, TimeoutError) as err:
        return NotMinted(f"{target.host} could not be asked for an upload token: {broken(err)}", spent=False)
    status, body = answer.status, answer.body
    token = decoded(body, _Token) if status == HTTPStatus.OK else None
    if token is not None and _is_token(token.token):
        return Minted(token.token, _life_s(token, answer, clock))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return NotMinted(f"{target.host} gave no upload token: it answered {status}.", spent=False)
    # An index that quotes the identity token would put it into the job's log.
    reasons = decoded(body.replace(identity_token.encode(), "…".encode()), _Reasons) or _Reasons()
    sentence = f"{target.host} gave no upload token (status {status}).\n{_words(reasons, identity)}"
    codes = {reason.code for reason in reasons.errors}
    if codes and codes <= _ONCE_MORE:
        return NotMinted(sentence, spent=True)
    raise Refused(sentence)


@dataclass(frozen=True, slots=True)
class _Asked:
    """An answer; status 0 when there was none, and why."""

    status: int = 0
    body: bytes = b""
    dated_s: float | None = None
    """When it was given, by the index's clock, in seconds since the epoch; None: it does not say."""
    why: str = ""


async def _asked(target: Target, tls: ssl.SSLContext | None) -> _Asked:
    """Ask for the audience. Raises Refused where the target is not trusted."""
    try:
        return await _call(target, "GET", "audience", None, tls)
    except aiohttp.ClientConnectorCertificateError as err:
        raise untrusted(target, err) from None
    except (aiohttp.ClientError, TimeoutError) as err:
        return _Asked(why=broken(err))


def checked_audience(audience: str, target: Target) -> str:
    """Return the audience if this index may ask for it. Raises Refused.

    PEP 807 leaves the words of an audience to the index. So those that are somebody else's are refused: of PyPI and
    other known services, and all that name another place than the index's own host or a domain that this is in
    (`sts.amazonaws.com`, `https://iam.googleapis.com/…`, `api://AzureADTokenExchange`).
    """
    expected = _AUDIENCES.get(target.index or "")
    if expected is not None and audience != expected:
        raise Refused(f"{target.host} asks for an identity token for {one_line(audience)!r} instead of {expected!r}.")
    if expected is None and _is_for_another(audience, target.host):
        raise Refused(
            f"{target.host} asks for an identity token for {one_line(audience)!r}, with which it could act there in "
            "your name; it got none. Publish there with an API token (TWINE_PASSWORD), unless its operator chooses an "
            f"audience of its own, such as {target.host!r}."
        )
    return audience


def _is_for_another(audience: str, host: str) -> bool:
    """Say whether an audience is somebody else's than the index's at this host."""
    place = _PLACE.search(audience)
    if place is None:
        return audience.strip().lower() in _FOREIGN
    name, _, port = (place[1] or place[2] or "").lower().partition(":")
    is_above = "." in name and host.endswith(f".{name}")
    return not ((name == host or is_above) and (not port or port.isdigit()))


async def _call(target: Target, method: str, what: str, body: bytes | None, tls: ssl.SSLContext | None) -> _Asked:
    """Call the index's side of Trusted Publishing; no redirect is followed, for a token would go with it."""
    url: URL = target.url.origin() / "_" / "oidc" / what
    headers = {} if body is None else {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with (
        session_to(target, tls) as session,
        session.request(method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False) as response,
    ):
        body = await beginning(response, _ANSWER_BYTES)
        return _Asked(response.status, body, _dated_s(response.headers.get("Date", "")))


def _dated_s(date: str) -> float | None:
    """Read the header Date (RFC 9110 §6.6.1)."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _life_s(token: _Token, answer: _Asked, clock: Clock) -> float | None:
    """Say how long a token lasts; between two times of the index's clock, for this machine's may be wrong."""
    if token.expires is None:
        return None
    return token.expires - (clock.now_s() if answer.dated_s is None else answer.dated_s)


def _is_token(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token and bool(token)


def _words(reasons: _Reasons, identity: Identity) -> str:
    """Say every reason, what to do about each, and what the index compared."""
    lines = [one_line(reasons.message)] if reasons.message and not reasons.errors else []
    for reason in reasons.errors:
        lines.append(f"{one_line(reason.code)}: {one_line(reason.description)}")
        lines.append(_ADVICE.get(reason.code, "Look at the publishing settings of the project."))
    return "\n".join([*lines, f"This job's identity: {identity}."])
