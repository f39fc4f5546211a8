"""Where a promotion goes: which upload URLs are taken, and how they are reached."""

from dataclasses import dataclass
from typing import Final

from yarl import URL

from overlay.domain.public_indexes import Index, index_at
from overlay.promote.answers import one_line
from overlay.promote.errors import Refused
from overlay.promote.proxies import is_loopback

_NONE: Final = "The overlay's upload URL names no host; its operator mends upload_url under [upstream]."


@dataclass(frozen=True, slots=True)
class Target:
    """An upload URL that credentials may be sent to; `target` makes one."""

    url: URL

    @property
    def host(self) -> str:
        """The host's name, lower case."""
        return (self.url.host or "").lower()

    @property
    def index(self) -> Index | None:
        """Which of the two public indexes it is; None for every other one."""
        return _index(self.url)

    def is_at(self, raw: str) -> bool:
        """Say whether this is the target's URL, however it is written."""
        named = _read(raw)
        return named is not None and _place(named) == _place(self.url)

    def is_meant_by(self, raw: str) -> bool:
        """Say whether a URL names this index; each of the public ones is known by its host."""
        named = _read(raw)
        return self.is_at(raw) or (self.index is not None and named is not None and _index(named) == self.index)

    def is_the_other_of(self, raw: str) -> bool:
        """Say whether a URL names one of the two public indexes, and this is the other one."""
        named = _read(raw)
        index = None if named is None else _index(named)
        return self.index is not None and index is not None and index != self.index

    def __str__(self) -> str:
        return str(self.url)


def is_below(raw: str, root: str) -> bool:
    """Say whether a URL lies at or below another one, however they are written."""
    there, above = _read(raw), _read(root)
    if there is None or above is None or not above.host:
        return False
    *origin, path = _place(there)
    *origin_above, path_above = _place(above)
    return origin == origin_above and f"{path}/".startswith(f"{path_above}/")


def is_web_address(raw: str) -> bool:
    """Say whether a URL names a host and how to speak to it."""
    url = _read(raw)
    return url is not None and url.scheme in {"http", "https"} and bool(url.host)


def without_user(raw: str) -> str:
    """Show a URL without a credential in it."""
    url = _read(raw)
    return one_line(str(url.with_user(None))) if url is not None and url.host else "no URL"


def _read(raw: str) -> URL | None:
    try:
        return URL(raw)
    except ValueError:
        return None


def _place(url: URL) -> tuple[str, str, int | None, str]:
    return url.scheme, (url.host or "").lower(), url.port, url.path.rstrip("/")


def _index(url: URL) -> Index | None:
    return index_at(url.host or "")


def target(raw: str) -> Target:
    """Check an upload URL. Raises Refused: https only, except on this machine, and without a credential in it."""
    try:
        url = URL(raw)
    except ValueError as err:
        raise Refused(_NONE) from err
    if not url.host:
        raise Refused(_NONE)
    shown = url.with_user(None)
    if url.user is not None or url.password is not None:
        raise Refused(
            f"The upload URL {shown} of the overlay holds a credential, which is not used: it belongs to the job "
            "that promotes. Its operator writes upload_url under [upstream] without one."
        )
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.host)):
        raise Refused(f"The upload URL {shown} does not begin with https://; no credential is sent there.")
    return Target(url)
