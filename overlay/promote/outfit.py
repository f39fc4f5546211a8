"""What a real run works with: this job's environment, files and network."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import assert_never

from overlay.caching.threads import in_thread
from overlay.promote import ambient, credentials, keyrings, signing, tls
from overlay.promote.attestations import Attester, Attesting, leave_out
from overlay.promote.clock import Clock
from overlay.promote.credentials import Sources
from overlay.promote.errors import Refused
from overlay.promote.hosts import Target
from overlay.promote.http import session_to
from overlay.promote.progress import Progress
from overlay.promote.push import HttpPush, Push, reach
from overlay.promote.server import PromotionServer
from overlay.promote.tls import Tls
from overlay.promote.tools import Attest, Credential, Tools
from overlay.promote.trusted_publishing import RENEW_BELOW_S, Surroundings, TrustedPublisher


@asynccontextmanager
async def outfit(
    server: PromotionServer,
    progress: Progress,
    *,
    environment: Mapping[str, str],
    home: Path,
    attesting: Attesting = Attesting.STAGED,
    renew_below_s: float = RENEW_BELOW_S,
) -> AsyncIterator[Tools]:
    """Make the tools of one run; the fetched files are removed at the end.

    Raises Misused where attestations are to be SIGNED and what that needs is not installed. Whatever `environment`
    says, the CI platform's identity is found in the process's own.
    """
    attest = _attest(attesting)
    clock = Clock(passed_s=time.monotonic, now_s=time.time, sleep=asyncio.sleep)
    around = Surroundings(identify=ambient.identify, progress=progress, clock=clock, renew_below_s=renew_below_s)

    connect = partial(tls.read, environment, home / ".pypirc")

    async def trusted(target: Target) -> Credential:
        to_target = replace(around, tls=(await in_thread(connect, target)).context)
        return await TrustedPublisher.begin(target, to_target)

    sources = Sources(
        environment=environment,
        pypirc=home / ".pypirc",
        keyring=partial(keyrings.ask, _from_thread(progress.warned)),
        trusted=trusted,
        warn=progress.warned,
        now_s=time.time,
    )
    folder = await in_thread(_folder)
    try:
        yield Tools(
            server=server,
            find_credential=partial(credentials.find, sources),
            pushing=partial(_pushing, connect),
            attest=attest,
            progress=progress,
            clock=clock,
            folder=Path(folder.name),
        )
    finally:
        await in_thread(folder.cleanup)


def _folder() -> "tempfile.TemporaryDirectory[str]":
    """Make the folder for the fetched files. Raises Refused."""
    try:
        return tempfile.TemporaryDirectory(prefix=f"overlay-promote-{os.getpid()}-")
    except OSError as err:
        raise Refused(f"There is no room for the files to be fetched: {err}. TMPDIR names a folder for them.") from err


def _from_thread(hear: Callable[[str], None]) -> Callable[[str], None]:
    """Return what a thread may call in its stead."""
    loop = asyncio.get_running_loop()

    def tell(words: str) -> None:
        loop.call_soon_threadsafe(hear, words)

    return tell


def _attest(attesting: Attesting) -> Attest:
    match attesting:
        case Attesting.STAGED:
            return Attester()
        case Attesting.SIGNED:
            signing.require_signing()
            return Attester(signing.Signer(ambient.identify))
        case Attesting.NONE:
            return leave_out
        case _:
            assert_never(attesting)


@asynccontextmanager
async def _pushing(connect: Callable[[Target], Tls], target: Target) -> AsyncIterator[Push]:
    connected = await in_thread(connect, target)
    async with session_to(target, connected.context) as session:
        await reach(session, target)
        yield HttpPush(session, target)
