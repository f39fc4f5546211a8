"""Fetch the staged bytes and prove them: what is pushed later are these files on this disk."""

import hashlib
from pathlib import Path
from typing import Final, Protocol

from overlay.caching.threads import in_thread
from overlay.domain.errors import BadUpload
from overlay.domain.filenames import parse
from overlay.domain.wire_promotions import PromotedFileView
from overlay.promote.clock import Clock
from overlay.promote.errors import Refused
from overlay.promote.lease import patiently
from overlay.promote.progress import Progress
from overlay.promote.server import PromotionServer

# A broken download is begun again for so long.
_PATIENCE_S: Final = 30.0


class _Writer(Protocol):
    def write(self, data: bytes, /) -> int: ...


async def fetch(
    file: PromotedFileView, server: PromotionServer, folder: Path, *, progress: Progress, clock: Clock
) -> Path:
    """Download one staged file into the folder and return its path. Raises Refused unless it has the pledged digest."""
    path = folder / _safe(file.filename)
    sha256, size_bytes = await patiently(lambda: _download(file, server, path, progress), clock, within_s=_PATIENCE_S)
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


async def _download(file: PromotedFileView, server: PromotionServer, path: Path, progress: Progress) -> tuple[str, int]:
    """Write the bytes down; return their sha256 and number. One byte more than planned ends it."""
    digest, size_bytes = hashlib.sha256(), 0
    progress.fetched(file.filename, 0)
    handle = await in_thread(path.open, "wb")
    try:
        async with server.open(file.url) as pieces:
            async for piece in pieces:
                await in_thread(_take, handle, digest, piece)
                size_bytes += len(piece)
                progress.fetched(file.filename, size_bytes)
                if size_bytes > file.size_bytes:
                    break
    finally:
        await in_thread(handle.close)
    return digest.hexdigest(), size_bytes


def _take(handle: _Writer, digest: "hashlib._Hash", piece: bytes) -> None:
    handle.write(piece)
    digest.update(piece)
