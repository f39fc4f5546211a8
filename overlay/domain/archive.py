"""An uploaded archive, read once: what is certainly broken is refused, what only PyPI refuses becomes a fact.

Theory of operation. The bytes come from a stranger; reading them must cost bounded memory and bounded time, so every
size that the archive *claims* is checked before it is believed.

- zip (`archive_zip` over `zip_format`): the central directory is what installers believe. The standard library reads
  it, as for pip, after its size was checked; every local header is then compared with it, since readers that stream
  believe the local ones. Members are not unpacked, except those that are needed and as many checksums as
  `CHECKSUM_BUDGET_BYTES` pays for.
- tar.gz (`archive_tar` over `tar_format`): the stream is unpacked once, in pieces. The headers are read by our own
  reader, because `tarfile` reads an extended header of any claimed size into memory, searches it with patterns of
  quadratic cost (CVE-2024-6232), walks backwards on negative sizes (CVE-2025-8194) and keeps every member. A property
  test holds the two readers together.

Names and links of both are judged by `archive_members`. What pip and uv accept and PyPI refuses is not refused here
(legacy-upload §5: "someone may be staging only for tests"); `rules` reports it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from overlay.domain import archive_tar, archive_zip
from overlay.domain.archive_members import Opened, refuse
from overlay.domain.metadata import read, sent
from overlay.domain.stage import ArchiveFacts, Kind

_MOST_MISSING: Final = 10


@dataclass(frozen=True, slots=True)
class Inspected:
    """The outcome of reading an archive: its facts and its core metadata, verbatim."""

    facts: ArchiveFacts
    metadata: bytes


def inspect(path: Path, filename: str, kind: Kind) -> Inspected:
    """Read the archive at `path`, which has passed `filenames.parse` as `filename`; blocks, so run it in a thread.

    Raises BadUpload, naming the file, for what no installer could or should use.
    """
    if path.stat().st_size == 0:
        raise refuse(filename, "is empty")
    opened = (
        archive_tar.inspect(path, filename)
        if filename.endswith(".tar.gz")
        else archive_zip.inspect(path, filename, kind)
    )
    missing = _missing_license_files(opened)
    return Inspected(replace(opened.facts, missing_license_files=missing), opened.metadata)


def _missing_license_files(opened: Opened) -> tuple[str, ...]:
    # PEP 639: "… inside the .dist-info/licenses/ directory"; sdist: relative to the top folder.
    named = set(sent(read(opened.metadata)).get("license_files", ()))
    missing = sorted(name for name in named if opened.license_folder + name not in opened.paths)
    return tuple(missing[:_MOST_MISSING])
