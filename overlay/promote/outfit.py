"""What a real run works with: this job's environment, files and network."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from overlay.caching.threads import in_thread
from overlay.promote import ambient, credentials, keyrings, signing
from overlay.promote.attestations import Attester
from overlay.promote.clock import Clock
from overlay.promote.credentials import Sources
from overlay.promote.hosts import Target
from overlay.promote.http import session_to
from overlay.promote.progress import Progress
from overlay.promote.push import HttpPush, Push
from overlay.promote.server import PromotionServer
from overlay.promote.tools import Credential, Tools
from overlay.promote.trusted_publishing import RENEW_BELOW_S, Surroundings, TrustedPublisher


@asynccontextmanager
async def outfit(
    server: PromotionServer,
    progress: Progress,
    *,
    environment: Mapping[str, str],
    home: Path,
    attest: bool,
    renew_below_s: float = RENEW_BELOW_S,
) -> AsyncIterator[Tools]:
    """Make the tools of one run; the fetched files are removed at the end.

    `attest` makes publish attestations; raises Misused where what that needs is not installed. Whatever `environment`
    says, the CI platform's identity is found in the process's own.
    """
    if attest:
        signing.require_signing()
    clock = Clock(passed_s=time.monotonic, now_s=time.time, sleep=asyncio.sleep)
    around = Surroundings(identify=ambient.identify, progress=progress, clock=clock, renew_below_s=renew_below_s)

    async def trusted(target: Target) -> Credential:
        return await TrustedPublisher.begin(target, around)

    sources = Sources(
        environment=environment,
        pypirc=home / ".pypirc",
        keyring=keyrings.ask,
        trusted=trusted,
        warn=progress.warned,
        now_s=time.time,
    )
    folder = await in_thread(tempfile.TemporaryDirectory, prefix=f"overlay-promote-{os.getpid()}-")
    try:
        yield Tools(
            server=server,
            find_credential=partial(credentials.find, sources),
            pushing=_pushing,
            attest=Attester(signing.Signer(ambient.identify) if attest else None),
            progress=progress,
            clock=clock,
            folder=Path(folder.name),
        )
    finally:
        await in_thread(folder.cleanup)


@asynccontextmanager
async def _pushing(target: Target) -> AsyncIterator[Push]:
    async with session_to(target) as session:
        yield HttpPush(session, target)
