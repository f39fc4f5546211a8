"""Fetch the staged bytes and prove them: what is pushed later are these files on this disk."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, Protocol, TypeVar

from overlay.caching.threads import in_thread
from overlay.domain.errors import BadUpload
from overlay.domain.filenames import parse
from overlay.domain.wire_promotions import PromotedFileView
from overlay.promote.clock import Clock
from overlay.promote.errors import Refused
from overlay.promote.lease import patiently
from overlay.promote.progress import Progress
from overlay.promote.server import PromotionServer

# A broken download is begun again for so long after it last came further than before.
_PATIENCE_S: Final = 30.0

Parameters = ParamSpec("Parameters")
Done = TypeVar("Done")


class _Writer(Protocol):
    def write(self, data: bytes, /) -> int: ...


async def fetch(
    file: PromotedFileView, server: PromotionServer, folder: Path, *, progress: Progress, clock: Clock
) -> Path:
    """Download one staged file into the folder and return its path.

    Raises Refused unless it has the digest of the plan, which is the pledged one (`plan_check`).
    """
    path = folder / _safe(file.filename)
    download = _Download(file, server, path, progress, clock)
    sha256, size_bytes = await patiently(download, clock, within_s=_PATIENCE_S, since_s=lambda: download.further_s)
    if sha256 != file.sha256:
        raise Refused(
            f"The bytes that the overlay holds as {file.filename} are not the staged ones: their sha256 is {sha256} "
            f"({size_bytes:,} bytes), not {file.sha256} ({file.size_bytes:,} bytes). Nothing of it was pushed; stage "
            "the file again, and let the overlay's operator look at its store."
        )
    return path


def _safe(filename: str) -> str:
    """Return the name if it is a distribution file's, which is safe as a path. Raises Refused."""
    try:
        return parse(filename).filename
    except BadUpload as err:
        raise Refused(f"The overlay's plan names a file that is none: {err}") from err


@dataclass(slots=True)
class _Download:
    file: PromotedFileView
    server: PromotionServer
    path: Path
    progress: Progress
    clock: Clock
    furthest_bytes: int = 0
    further_s: float = float("-inf")
    """When it last came further than ever before, on the run's clock."""

    async def __call__(self) -> tuple[str, int]:
        """Write the bytes down; return their sha256 and number. One byte more than planned ends it."""
        filename, digest, size_bytes = self.file.filename, hashlib.sha256(), 0
        self.progress.fetched(filename, 0)
        handle = await self._written(self.path.open, "wb")
        try:
            async with self.server.open(self.file.url) as pieces:
                async for piece in pieces:
                    await self._written(_take, handle, digest, piece)
                    size_bytes += len(piece)
                    self._note(size_bytes)
                    self.progress.fetched(filename, size_bytes)
                    if size_bytes > self.file.size_bytes:
                        break
        finally:
            await self._written(handle.close)
        return digest.hexdigest(), size_bytes

    async def _written(
        self, work: Callable[Parameters, Done], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Done:
        """Write in a thread. Raises Refused where the disk does not take it."""
        try:
            return await in_thread(work, *args, **kwargs)
        except OSError as err:
            raise Refused(
                f"{self.file.filename} cannot be written to {self.path.parent}: {err.strerror or err}. TMPDIR names "
                "another folder."
            ) from err

    def _note(self, size_bytes: int) -> None:
        if size_bytes > self.furthest_bytes:
            self.furthest_bytes, self.further_s = size_bytes, self.clock.passed_s()


def _take(handle: _Writer, digest: "hashlib._Hash", piece: bytes) -> None:
    handle.write(piece)
    digest.update(piece)
