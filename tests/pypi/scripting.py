"""What tests hold of a scripted PyPI, whether it runs in their loop (`server`) or as a process (`process`)."""

from typing import Final, Protocol

from tests.pypi.orders import Job, Order
from tests.pypi.recording import Recording

PATIENCE_S: Final = 60.0
"""How long tests wait for a request to hang at a gate, or to end: a loaded machine."""


class Pypi(Protocol):
    """A scripted PyPI."""

    @property
    def url(self) -> str:
        """Without a slash at its end."""

    @property
    def upload_url(self) -> str: ...

    @property
    def simple_url(self) -> str: ...

    async def do(self, *orders: Order) -> None:
        """Carry out orders, one after the other. Raises LookupError for what is not there (a process: 404)."""

    async def job(self, job: Job) -> dict[str, str]:
        """Begin a CI job; return the environment variables that its steps find."""

    async def recording(self) -> Recording:
        """Return what was received up to now; later requests do not change it."""

    async def settled(self) -> None:
        """Wait until every request that arrived has ended. Raises TimeoutError, for one that hangs too."""

    async def reached(self, gate: str) -> None:
        """Wait until a request hangs at a gate. Raises TimeoutError."""
