"""Wheels and `.zip` sdists (theory in `archive`)."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from packaging.utils import canonicalize_name

from overlay.domain import entry_points, tar_format, zip_format
from overlay.domain.archive_members import (
    LARGEST_METADATA_BYTES,
    LONGEST_NAME_BYTES,
    Opened,
    check_link,
    check_name,
    check_passage,
    choose_pkg_info,
    is_bomb,
    quoted,
    refuse,
    shown_names,
)
from overlay.domain.stage import ArchiveFacts, Kind
from overlay.domain.zip_format import DEFLATED, STORED, Member

# Declared, not read: nothing that an index serves unpacks to more.
LARGEST_UNPACKED_BYTES: Final = 16 * 2**30
# A fraction of a second of inflating; most wheels are checked whole.
CHECKSUM_BUDGET_BYTES: Final = 64 * 2**20

_INFO: Final = ".dist-info"
_COMPRESSED: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")


def inspect(path: Path, filename: str, kind: Kind) -> Opened:
    """Read a zip archive. Raises BadUpload."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        directory = zip_format.read_directory(file, size_bytes, filename)
        file.seek(0)
        start = file.read(tar_format.BLOCK_BYTES)
        if tar_format.is_header(start) or start.startswith(_COMPRESSED):
            # warehouse: "File is both a zip and a tar file"; what it holds depends on who reads it.
            raise refuse(filename, "is both a zip and another archive")
        oddities = list(directory.oddities)
        if any(member.method not in {STORED, DEFLATED} for member in directory.members):
            oddities.append("a compression other than stored and deflate")
        unpacked_bytes = _check_sizes(directory.members, size_bytes, filename)
        archive = _Archive(file, filename, _by_path(directory.members, filename))
        archive.check_links()
        facts = ArchiveFacts(
            unpacked_bytes=unpacked_bytes,
            largest_ratio=round(max((_ratio(member) for member in directory.members), default=0.0), 2),
            odd_framing="; ".join(oddities) or None,
        )
        opened = archive.wheel(facts) if kind == "wheel" else archive.sdist(facts)
        archive.check_sums()
    return opened


def _check_sizes(members: tuple[Member, ...], size_bytes: int, filename: str) -> int:
    """Return the sum of the unpacked sizes. Raises BadUpload for a bomb."""
    total = sum(member.unpacked_bytes for member in members)
    if total > LARGEST_UNPACKED_BYTES or is_bomb(total, size_bytes):
        raise refuse(filename, f"unpacks to {total:,} bytes from {size_bytes:,}; that is a decompression bomb")
    for member in members:
        if member.method == STORED and member.packed_bytes != member.unpacked_bytes:
            raise refuse(filename, f"stores {quoted(member.name)} with two different sizes")
    return total


def _ratio(member: Member) -> float:
    return member.unpacked_bytes / member.packed_bytes if member.packed_bytes else 0.0


def _by_path(members: tuple[Member, ...], filename: str) -> Mapping[str, Member]:
    by_path: dict[str, Member] = {}
    for member in members:
        path = check_name(member.name, filename)
        # Of two members with one name some readers take the first and some the last.
        if path in by_path:
            raise refuse(filename, f"has two members named {quoted(member.name)}")
        by_path[path] = member
    return by_path


@dataclass(frozen=True, slots=True)
class _Archive:
    """The members by path, with the open file they are read from."""

    file: BinaryIO
    filename: str
    members: Mapping[str, Member]

    def check_links(self) -> None:
        """Check members that are no regular files: pip and uv write them as files, other tools do not."""
        links = set()
        for path, member in self.members.items():
            kind = stat.S_IFMT(member.mode)
            if kind == stat.S_IFLNK:
                target = self._read(path, LONGEST_NAME_BYTES).decode("utf-8", "replace")
                check_link(path, target, self.filename, symbolic=True)
                links.add(path)
            elif kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise refuse(self.filename, f"has a device, pipe or socket ({quoted(member.name)})")
        for path in self.members:
            check_passage(path, links, self.filename)

    def wheel(self, facts: ArchiveFacts) -> Opened:
        """Read METADATA and the facts of a wheel. Raises BadUpload."""
        info = self._info_folder()
        metadata = self._read(f"{info}/METADATA", LARGEST_METADATA_BYTES)
        # warehouse looks below exactly "<name>-<version>.dist-info", the filename's first two parts; pip tolerates
        # other spellings of the same name.
        expected = "-".join(self.filename.split("-", 2)[:2]) + _INFO
        return Opened(
            facts=replace(
                facts,
                has_wheel_file=f"{expected}/WHEEL" in self.members,
                has_record=f"{expected}/RECORD" in self.members,
                bad_entry_points=self._entry_points_defect(f"{info}/entry_points.txt"),
            ),
            metadata=metadata,
            license_folder=f"{expected}/licenses/",
            paths=self.members.keys(),
        )

    def sdist(self, facts: ArchiveFacts) -> Opened:
        """Read PKG-INFO and the facts of a `.zip` sdist. Raises BadUpload."""
        split = [path.split("/") for path in self.members if path]
        folder = choose_pkg_info([p[0] for p in split if len(p) == 2 and p[1] == "PKG-INFO"], self.filename)  # noqa: PLR2004 -- folder and file
        return Opened(
            facts=replace(facts, top_level=shown_names({parts[0] for parts in split})),
            metadata=self._read(f"{folder}/PKG-INFO", LARGEST_METADATA_BYTES),
            license_folder=f"{folder}/",
            paths=self.members.keys(),
        )

    def check_sums(self) -> None:
        """Unpack members in their order as long as the budget lasts. Raises BadUpload for a wrong checksum."""
        budget_bytes = CHECKSUM_BUDGET_BYTES
        for member in self.members.values():
            cost_bytes = max(member.packed_bytes, member.unpacked_bytes)
            if member.method in {STORED, DEFLATED} and cost_bytes <= budget_bytes:
                budget_bytes -= cost_bytes
                for _ in zip_format.unpack(self.file, member, self.filename):
                    pass

    def _info_folder(self) -> str:
        # As pip's `wheel_dist_info_dir`: exactly one, whose name begins with the project's.
        folders = {path.split("/", 1)[0] for path in self.members if path.split("/", 1)[0].endswith(_INFO)}
        if not folders:
            raise refuse(self.filename, f"has no {_INFO} folder, so no METADATA")
        if len(folders) > 1:
            raise refuse(self.filename, f"has several {_INFO} folders ({', '.join(map(quoted, sorted(folders)[:3]))})")
        folder = folders.pop()
        if canonicalize_name(folder.split("-", 1)[0]) != canonicalize_name(self.filename.split("-", 1)[0]):
            raise refuse(self.filename, f"has the {_INFO} folder of another project ({quoted(folder)})")
        return folder

    def _entry_points_defect(self, path: str) -> str | None:
        member = self.members.get(path)
        if member is None:
            return None
        if member.unpacked_bytes > entry_points.LARGEST_BYTES:
            return f"it is larger than {entry_points.LARGEST_BYTES:,} bytes"
        return entry_points.defect(self._read(path, entry_points.LARGEST_BYTES))

    def _read(self, path: str, limit_bytes: int) -> bytes:
        member = self.members.get(path)
        if member is None:
            raise refuse(self.filename, f"has no {path.rpartition('/')[2]} where it must be ({quoted(path)})")
        if member.unpacked_bytes > limit_bytes:
            raise refuse(self.filename, f"has a {quoted(path)} of more than {limit_bytes:,} bytes")
        if member.method not in {STORED, DEFLATED}:
            raise refuse(self.filename, f"packs {quoted(path)} by method {member.method}; use stored or deflate")
        return b"".join(zip_format.unpack(self.file, member, self.filename))
