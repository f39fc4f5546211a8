"""What holds for a member of any archive: limits, names and links (theory in `archive`)."""

import posixpath
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from overlay.domain.errors import BadUpload
from overlay.domain.stage import ArchiveFacts

MOST_MEMBERS: Final = 200_000
# Names and links of all members together, as bytes in the archive; they are all in memory while it is read.
MOST_NAME_BYTES: Final = 64 * 2**20
LONGEST_NAME_BYTES: Final = 4096
"""PATH_MAX of Linux."""
MOST_FOLDERS: Final = 100
"""Bounds the cost of looking at every folder of a path."""
LARGEST_METADATA_BYTES: Final = 16 * 2**20
# PyPI calls a zip a bomb above 64 MiB and ratio 50 (legacy-upload §5); honest archives of tables and debug symbols
# reach that and install, so 50 is a finding and four times as much is refused. gzip ends at about 1,030.
BOMB_BYTES: Final = 64 * 2**20
BOMB_RATIO: Final = 200
PIECE_BYTES: Final = 2**18

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_QUOTED: Final = 100
_SHOWN_NAMES: Final = 10


@dataclass(frozen=True, slots=True)
class Opened:
    """What one pass over an archive gave."""

    facts: ArchiveFacts
    metadata: bytes
    license_folder: str
    """Where License-File is relative to, with a slash at the end (PEP 639)."""
    paths: Collection[str]
    """Every member's path."""


def refuse(filename: str, why: str) -> BadUpload:
    """Form the refusal of an archive; `why` continues the sentence "<filename> …"."""
    return BadUpload(f"{filename!a} {why}.")


def quoted(name: str) -> str:
    """Show a name of the archive: ASCII, without control characters, at most about a hundred of them."""
    return ascii(name[:_QUOTED])


def check_name(name: str, filename: str) -> str:
    """Return the member's path without `./`, or "" for the root itself. Raises BadUpload if it leads out."""
    if not name or "\0" in name:
        raise refuse(filename, f"has a member without a usable name ({quoted(name)})")
    if "\\" in name:
        raise refuse(filename, f"has a member with a backslash in its name ({quoted(name)})")
    if name.startswith("/") or _DRIVE.match(name):
        raise refuse(filename, f"has a member with an absolute name ({quoted(name)})")
    if len(name) > LONGEST_NAME_BYTES:
        raise refuse(filename, f"has a member with a name of {len(name):,} characters ({quoted(name)}…)")
    parts = name.split("/")
    if len(parts) > MOST_FOLDERS:
        raise refuse(filename, f"has a member below more than {MOST_FOLDERS} folders ({quoted(name)}…)")
    if ".." in parts:
        raise refuse(filename, f"has a member whose name leads out of it by '..' ({quoted(name)})")
    return "/".join(part for part in parts if part not in {"", "."})


def check_link(path: str, target: str, filename: str, *, symbolic: bool) -> None:
    """Check where a link points. Raises BadUpload if it can lead out of the archive.

    A symbolic target is relative to the link's folder, a hard one to the archive. `..` may only come first: after
    another name, which may be a link itself, the path cannot be judged by its text.
    """
    where = f"{quoted(path)} -> {quoted(target)}"
    if not target or "\0" in target or target.startswith(("/", "\\")) or _DRIVE.match(target):
        raise refuse(filename, f"has a link with an absolute or empty target ({where})")
    parts = [part for part in target.replace("\\", "/").split("/") if part not in {"", "."}]
    ups = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    depth = path.count("/") if symbolic else 0
    if ups > depth or ".." in parts[ups:]:
        raise refuse(filename, f"has a link that leads out of it ({where})")


def check_passage(path: str, links: set[str], filename: str) -> None:
    """Check that no folder of the path is itself a symbolic link of the archive. Raises BadUpload."""
    if links:
        folder = posixpath.dirname(path)
        while folder:
            if folder in links:
                raise refuse(filename, f"has a member below a link ({quoted(path)})")
            folder = posixpath.dirname(folder)


def is_bomb(unpacked_bytes: int, packed_bytes: int) -> bool:
    """Say whether unpacking gives absurdly more than was sent."""
    return unpacked_bytes > BOMB_BYTES and unpacked_bytes > BOMB_RATIO * packed_bytes


def shown_names(names: set[str]) -> tuple[str, ...]:
    """Return the first ten names, sorted, in letters that JSON can carry."""
    return tuple(name.encode("utf-8", "replace").decode() for name in sorted(names)[:_SHOWN_NAMES])


def choose_pkg_info(folders: Iterable[str], filename: str) -> str:
    """Return the one top folder whose PKG-INFO counts: the filename's, else the only one. Raises BadUpload."""
    found = sorted(folders)
    stem = filename.removesuffix(".zip").removesuffix(".tar.gz")
    if stem in found:
        return stem
    if len(found) == 1:
        return found[0]
    if not found:
        raise refuse(filename, "has no PKG-INFO in its top folder")
    raise refuse(filename, f"has a PKG-INFO in several top folders ({', '.join(map(quoted, found[:3]))})")
