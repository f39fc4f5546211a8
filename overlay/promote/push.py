"""Push one file to upstream: one POST, streamed from the disk, to the configured host only.

Content-Length is known beforehand (no index of PyPI's kind takes chunks); redirects are not followed, because the
credential and the file would go with them. Nothing is repeated here: after a byte went out only a look at upstream's
page says whether that is right.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import aiohttp
from yarl import URL

from overlay.caching.threads import in_thread
from overlay.domain.wire_promotions import PromotedFileView
from overlay.promote import multipart
from overlay.promote.answers import Answer, NotSent, Reply, Unknown, classify
from overlay.promote.errors import Refused
from overlay.promote.hosts import Target
from overlay.promote.http import beginning, broken, untrusted

_PIECE_BYTES: Final = 256 << 10
_ANSWER_BYTES: Final = 64 << 10
# The upload may stall for so long, and the answer take so long after the last byte: PyPI checks large files meanwhile.
_SILENT_S: Final = 300.0
_REACHED: Final = aiohttp.ClientTimeout(total=60.0, sock_connect=30.0, sock_read=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One file that is ready to be pushed."""

    file: PromotedFileView
    path: Path
    fields: tuple[tuple[str, str], ...]
    """The upload form without the file itself."""


class Push(Protocol):
    """Sends one file to upstream, once."""

    async def __call__(self, package: Package, authorization: str, sent: Callable[[int], None]) -> Answer:
        """POST it and say what the answer means. `sent` hears how many bytes of the file went out.

        Without a header Authorization where that is "". Raises Refused, before a byte went out, where upstream's
        certificate is not trusted, and where the file cannot be read.
        """


async def reach(session: aiohttp.ClientSession, to: Target) -> None:
    """Connect to the target over a session of `session_to`, without a credential. Raises Refused where that fails.

    Whatever it answers, also nothing, is fine: what is looked for is a name, a port or a certificate that is wrong.
    """
    try:
        async with session.head(to.url, allow_redirects=False, timeout=_REACHED):
            return
    except aiohttp.ClientConnectorCertificateError as err:
        raise untrusted(to, err) from None
    except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ConnectionTimeoutError) as err:
        raise Refused(f"{to.host} cannot be reached, so nothing was pushed: {broken(err)}") from err
    except (aiohttp.ClientError, TimeoutError):
        return


class HttpPush:
    """Pushes to one target over a session of `session_to`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        to: Target,
        *,
        silent_s: float = _SILENT_S,
        boundary: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._session = session
        self._to = to
        self._silent_s = silent_s
        self._boundary = boundary

    async def __call__(self, package: Package, authorization: str, sent: Callable[[int], None]) -> Answer:
        """Push; see `Push`."""
        form = multipart.around(package.fields, package.file.filename, boundary=self._boundary())
        headers = {
            "Content-Type": form.content_type,
            "Content-Length": str(form.length(package.file.size_bytes)),
        }
        if authorization:
            headers["Authorization"] = authorization
        try:
            async with _opened(package.path) as file, asyncio.timeout(self._silent_s) as watch:
                body = _body(form, file, _Pulse(watch, self._silent_s, sent))
                return classify(await self._post(self._to.url, headers, body))
        except aiohttp.ClientConnectorCertificateError as err:
            raise untrusted(self._to, err) from None
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError) as err:  # first: a slow connect is both
            return NotSent(broken(err))
        except aiohttp.ConnectionTimeoutError:
            return NotSent("The connection could not be made in time.")
        except TimeoutError:
            return Unknown(None, f"Nothing happened for {self._silent_s:.0f} s.")
        except aiohttp.ClientError as err:
            return Unknown(None, broken(err))

    async def _post(self, url: URL, headers: dict[str, str], body: AsyncIterator[bytes]) -> Reply:
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return Reply(
                status=response.status,
                reason=response.reason or "",
                content_type=response.headers.get("Content-Type", ""),
                body=await beginning(response, _ANSWER_BYTES),
                location=response.headers.get("Location", ""),
                retry_after=response.headers.get("Retry-After", ""),
            )


@dataclass(slots=True)
class _Pulse:
    """Puts off the end of a POST with every piece that went out, and tells of it."""

    watch: asyncio.Timeout
    silent_s: float
    sent: Callable[[int], None]
    done_bytes: int = 0

    def beat(self, length: int) -> None:
        self.watch.reschedule(asyncio.get_running_loop().time() + self.silent_s)
        self.done_bytes += length
        self.sent(self.done_bytes)


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[BinaryIO]:
    """Open a file for the time of a POST; what still reads it then, because the answer came early, fails.

    Raises Refused where that cannot be done: something clears the folder, or too many files are open.
    """
    try:
        file = await in_thread(path.open, "rb")
    except OSError as err:
        raise Refused(
            f"{path.name} was fetched to {path.parent} and cannot be read there any more: {err.strerror or err}. "
            "TMPDIR names another folder."
        ) from err
    try:
        yield file
    finally:
        await in_thread(file.close)


async def _body(form: multipart.Form, file: BinaryIO, pulse: _Pulse) -> AsyncIterator[bytes]:
    """Stream the form; a piece counts as sent when the next one is asked for."""
    pulse.beat(0)
    yield form.head
    while piece := await in_thread(file.read, _PIECE_BYTES):
        yield piece
        pulse.beat(len(piece))
    yield form.tail
    pulse.beat(0)
