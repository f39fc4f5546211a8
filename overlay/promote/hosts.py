"""Where a promotion goes: which upload URLs are taken, and how they are reached."""

from dataclasses import dataclass
from typing import Final, Literal

from yarl import URL

from overlay.promote.errors import Refused
from overlay.promote.proxies import is_loopback

_NONE: Final = "The overlay's upload URL names no host; its operator mends upload_url under [upstream]."

Index = Literal["pypi.org", "test.pypi.org"]

INDEXES: Final[frozenset[str]] = frozenset({"pypi.org", "test.pypi.org"})
"""Where the two public indexes' tokens say that they come from."""

_BY_HOST: Final[dict[str, Index]] = {
    "pypi.org": "pypi.org",
    "upload.pypi.org": "pypi.org",
    "test.pypi.org": "test.pypi.org",
}


@dataclass(frozen=True, slots=True)
class Target:
    """An upload URL that credentials may be sent to; `target` makes one."""

    url: URL

    @property
    def host(self) -> str:
        """The host's name, lower case."""
        return (self.url.host or "").lower()

    @property
    def is_loopback(self) -> bool:
        """Say whether the target is this machine."""
        return is_loopback(self.host)

    @property
    def index(self) -> Index | None:
        """Which of the two public indexes it is; None for every other one."""
        return _BY_HOST.get(self.host)

    def __str__(self) -> str:
        return str(self.url)


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
