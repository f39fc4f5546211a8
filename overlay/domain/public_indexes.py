"""The two public indexes, and the hosts that are theirs."""

from typing import Final, Literal

Index = Literal["pypi.org", "test.pypi.org"]

INDEXES: Final[frozenset[str]] = frozenset({"pypi.org", "test.pypi.org"})
"""Where the two public indexes' tokens say that they come from."""

_BY_HOST: Final[dict[str, Index]] = {
    "pypi.org": "pypi.org",
    "upload.pypi.org": "pypi.org",
    "test.pypi.org": "test.pypi.org",
}


def index_at(host: str) -> Index | None:
    """Return which of the two public indexes a host is of; None for every other one."""
    return _BY_HOST.get(host.lower().rstrip("."))
