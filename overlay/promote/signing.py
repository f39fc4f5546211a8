"""Publish attestations made in this job, by the package `pypi-attestations`, which signs with Sigstore.

Its command line is used, in a process of its own, not its modules: those are private or of Sigstore's client, change
with every major version, and raise what they like; and the command knows what indexes take at the moment (which of
Sigstore's logs, for one). It is an extra (`overlay-index[attest]`): fifteen packages and some thirty megabytes come
with it, among them what not every platform has wheels of, for something that the happy path does without.
"""

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from overlay.caching.threads import in_thread
from overlay.promote.answers import one_line
from overlay.promote.errors import Misused, Refused

_MODULE: Final = "pypi_attestations"
# What sigstore asks the CI platform for.
_AUDIENCE: Final = "sigstore"
_TIMEOUT_S: Final = 300.0
_LONGEST_BYTES: Final = 1 << 20


def require_signing(module: str = _MODULE) -> None:
    """Raise Misused, saying what to install, where no attestations can be made."""
    if importlib.util.find_spec(module) is None:
        raise Misused("--attest needs the package pypi-attestations: pip install 'overlay-index[attest]'.")


class Signer:
    """Signs files with the job's identity; implements `attestations.Sign`. What is signed is public at once."""

    def __init__(
        self,
        identify: Callable[[str], str | None],
        *,
        program: Sequence[str] = (sys.executable, "-m", _MODULE),
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._identify = identify
        self._program = program
        self._timeout_s = timeout_s

    async def __call__(self, path: Path) -> str:
        """Sign one file; see `attestations.Sign`."""
        # Without an identity of the job the program would open a browser and wait.
        if await in_thread(self._identify, _AUDIENCE) is None:
            raise Refused("--attest needs a CI job with an identity of its own; this is none. Leave out --attest.")
        signed = path.with_name(f"{path.name}.publish.attestation")
        await in_thread(signed.unlink, missing_ok=True)
        code, said = await self._run(path)
        try:
            body = await in_thread(_text, signed)
        except OSError:
            body = ""
        if code != 0 or not body:
            raise Refused(f"Sigstore made no attestation of {path.name}: {said or f'exit code {code}'}")
        return body

    async def _run(self, path: Path) -> tuple[int | None, str]:
        """Return the exit code, None after a timeout, and the last line that was printed."""
        process = await asyncio.create_subprocess_exec(
            *self._program,
            "sign",
            str(path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                _, printed = await process.communicate()
        except TimeoutError:
            return None, f"it took longer than {self._timeout_s:.0f} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        lines = printed.decode("utf-8", "replace").split("\n")
        return process.returncode, one_line(next((line for line in reversed(lines) if line.strip()), ""))


def _text(path: Path) -> str:
    with path.open("rb") as handle:
        return handle.read(_LONGEST_BYTES).decode("utf-8", "replace").strip()
