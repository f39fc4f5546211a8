"""What the scripted PyPI received, in order, for tests to judge. Contents and secrets are not kept."""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

CredentialKind = Literal["none", "token", "password", "bearer", "other"]
"""`token`: Basic with the user __token__; `password`: Basic with another user."""
Outcome = Literal["", "stored", "identical", "refused", "scripted", "dropped", "incomplete"]
"""`identical`: answered 200, nothing new was stored; `scripted`, `dropped`: a fault ended it; `incomplete`: the client
did not send all of it."""


class Received(Struct, kw_only=True):
    """One request."""

    number: int
    """From 1."""
    method: str
    path: str
    user_agent: str
    credential: CredentialKind = "none"
    account: str = ""
    """What the credential is known as: a user's name, or the publisher's; "" if it is unknown."""
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The form without the file and without attestations."""
    attested: bool = False
    filename: str = ""
    sha256: str = ""
    """Of the file as it was received; "" until all of it was."""
    file_bytes: int = 0
    body_bytes: int = 0
    content_length: int | None = None
    """What the request announced; None: it came in chunks."""
    complete: bool = False
    """All of the body was read."""
    outcome: Outcome = ""
    stored_before: int = 0
    """How many files uploads had stored when it arrived."""
    stored_as: int | None = None
    """The place among the files that were stored, from 1."""
    status: int | None = None
    """None: there was no answer, or not yet."""

    @property
    def is_sdist(self) -> bool:
        return not self.filename.endswith(".whl")

    @property
    def release(self) -> tuple[str, str]:
        """The file's project and version, as its name spells them."""
        project, _, rest = self.filename.removesuffix(".tar.gz").partition("-")
        return project, rest.partition("-")[0]


class Recording(Struct, frozen=True):
    """All requests up to now."""

    requests: tuple[Received, ...]

    def posts(self, filename: str = "") -> list[Received]:
        """Return the uploads, or those of one file as far as its name arrived."""
        return [
            request
            for request in self.requests
            if request.method == "POST" and request.path.startswith("/legacy") and filename in {"", request.filename}
        ]

    def pages(self, project: str) -> list[Received]:
        """Return the requests for a project's page."""
        return [request for request in self.requests if request.path == f"/simple/{project}/"]

    def minted(self) -> list[Received]:
        """Return the requests for an upload token."""
        return [request for request in self.requests if request.path.endswith("/mint-token")]

    def stored(self) -> list[str]:
        """Return the names of the files in the order in which they were stored, by uploads alone."""
        placed = [(post.stored_as, post.filename) for post in self.posts() if post.stored_as is not None]
        return [filename for _, filename in sorted(placed)]

    def early_sdists(self) -> list[str]:
        """Return the sdists that were on their way before the last wheel of their release was stored."""
        wheels = [post for post in self.posts() if post.stored_as is not None and not post.is_sdist]
        return [
            sdist.filename
            for sdist in self.posts()
            if sdist.filename and sdist.is_sdist
            if any(wheel.release == sdist.release and _after(wheel, sdist) for wheel in wheels)
        ]


def _after(wheel: Received, sdist: Received) -> bool:
    return wheel.stored_as is not None and wheel.stored_as > sdist.stored_before
