"""What a test tells the scripted PyPI: how its world is, and what happens to it. The same orders travel to a process.

Users need no order: whoever is named exists. `TOKEN` belongs to ada and may do all that she may.
"""

import hashlib
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from tests.builders import Built
from tests.pypi.faults import Fault

Kind = Literal["github", "gitlab"]

MIB: Final = 2**20
DAY_S: Final = 86_400

ADA: Final = "ada"
# Their location is `pypi.test`, an index of its own: a token of pypi.org is for no other one, not even for this model.
TOKENS_BEGIN: Final = "pypi-AgEJcHlwaS50ZXN0"


def pypi_token(label: str) -> str:
    """Form a token in the shape of pypi.org's (trusted-publishing §5); nobody knows it until it is ordered."""
    return TOKENS_BEGIN + _noise(label)


def _noise(label: str) -> str:
    return hashlib.sha512(label.encode()).hexdigest()[:100]


TOKEN: Final = pypi_token(ADA)


class Token(Struct, frozen=True, kw_only=True, tag="token"):
    """An API token of a user."""

    text: str
    user: str = ADA
    projects: tuple[str, ...] | None = None
    """The projects that it is good for; such a token cannot create one. None: all that the user may."""
    expires_at_s: float | None = None


class Revoke(Struct, frozen=True, tag="revoke"):
    """Forget a token."""

    text: str


class Project(Struct, frozen=True, kw_only=True, tag="project"):
    """A project that exists, without files."""

    name: str
    owners: tuple[str, ...] = (ADA,)


class Live(Struct, frozen=True, kw_only=True, tag="live"):
    """A file that is there already, unchecked; its project is made when it is not there."""

    filename: str
    body: bytes
    uploaded_at_s: float | None = None
    """None: now. The first one of a release is also when the release was made."""


def live(built: Built, *, uploaded_at_s: float | None = None) -> Live:
    """Order a built file to be there."""
    return Live(filename=built.filename, body=built.body, uploaded_at_s=uploaded_at_s)


class Delete(Struct, frozen=True, tag="delete"):
    """Delete a file; its name cannot be used again."""

    filename: str


class Yank(Struct, frozen=True, tag="yank"):
    """Yank a release (PEP 592)."""

    project: str
    version: str
    reason: str = ""


class Status(Struct, frozen=True, tag="status"):
    """Change a project's status (PEP 792): active, archived, quarantined or deprecated."""

    project: str
    status: str
    reason: str = ""


class Lag(Struct, frozen=True, tag="lag"):
    """Let files that are stored from now on be missing from their page, as a stale edge does.

    A project that appeared with such a file is not there at all until then.
    """

    page_requests: int | None
    """Missing for so many requests of the page; None: until `Show`; 0: no lag."""


class Show(Struct, frozen=True, tag="show"):
    """Let all files of a project be on its page."""

    project: str


class WrongDigest(Struct, frozen=True, tag="wrong-digest"):
    """Let the page say another sha256 of a file from now on, or from when it is stored."""

    filename: str
    sha256: str


class Advance(Struct, frozen=True, tag="advance"):
    """Set the clock of the index, its issuers included, forward."""

    seconds: float


class Rules(Struct, frozen=True, kw_only=True, tag="rules"):
    """What administrators have set; an order replaces all of it."""

    read_only: bool = False
    uploads_disabled: bool = False
    registration_disabled: bool = False
    new_projects_left: int | None = None
    """How many projects may still be created; None: any number."""
    unverified: tuple[str, ...] = ()
    """Users without a verified address."""
    inactive: tuple[str, ...] = ()
    """Projects of inactive organisations."""
    prohibited: tuple[str, ...] = ()
    """Names that nobody may have."""
    contested: tuple[str, ...] = ()
    """Names that somebody else creates at the same instant."""
    file_limit_bytes: int = 100 * MIB
    project_limit_bytes: int = 10 * 1024 * MIB
    trusted_publishing: bool = True
    issuers_off: tuple[Kind, ...] = ()
    mint_life_s: int = 900


class Publisher(Struct, frozen=True, kw_only=True, tag="publisher"):
    """A trusted publisher; `pending` ones have one project, which they create at their first mint."""

    projects: tuple[str, ...]
    kind: Kind = "github"
    repository: str = "octo/demo"
    owner_id: str = "101"
    workflow: str = "release.yml"
    """GitHub: a file in .github/workflows; GitLab: the path of the configuration."""
    environment: str = ""
    """"": any."""
    pending: bool = False
    user: str = ADA
    """Who owns what a pending one creates."""


class Job(Struct, frozen=True, kw_only=True):
    """A CI job that asks for an identity; it is answered with the environment variables of such a job."""

    kind: Kind = "github"
    repository: str = "octo/demo"
    owner_id: str = "101"
    workflow: str = "release.yml"
    environment: str = ""
    ref: str = "refs/heads/main"
    event: str = "push"
    permitted: bool = True
    """False: the job lacks `id-token: write`, or declares no id_tokens."""
    life_s: int = 300
    """How long its identity tokens live."""
    issuer: str = ""
    """Another issuer than the kind's."""
    forged: bool = False
    """Sign with a key that the index does not know."""
    algorithm: str = "RS256"
    """What the header of its identity tokens names."""


class OpenGate(Struct, frozen=True, tag="open-gate"):
    """Let all that hangs at a gate go on."""

    gate: str


class NoFaults(Struct, frozen=True, tag="no-faults"):
    """Forget all faults that were ordered."""


Order: TypeAlias = (
    Token
    | Revoke
    | Project
    | Live
    | Delete
    | Yank
    | Status
    | Lag
    | Show
    | WrongDigest
    | Advance
    | Rules
    | Publisher
    | OpenGate
    | NoFaults
    | Fault
)
