"""`.tar.gz` sdists (theory in `archive`)."""

from pathlib import Path

from overlay.domain import tar_format, zip_format
from overlay.domain.archive_members import (
    LARGEST_METADATA_BYTES,
    MOST_MEMBERS,
    MOST_NAME_BYTES,
    PIECE_BYTES,
    Opened,
    check_link,
    check_name,
    check_passage,
    choose_pkg_info,
    quoted,
    refuse,
    shown_names,
)
from overlay.domain.gzip_stream import GzipStream
from overlay.domain.stage import ArchiveFacts

_PKG_INFO = "/PKG-INFO"


def inspect(path: Path, filename: str) -> Opened:
    """Read a tar.gz archive to its last byte. Raises BadUpload."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        stream = GzipStream(file, size_bytes, filename)
        contents = _Contents(filename)
        for member, data in tar_format.members(stream, filename):
            contents.take(member, data)
        if _drain(stream):
            contents.oddities["data after the end of the tar archive"] = None
        if stream.trailing:
            contents.oddities["bytes after the end of the gzip stream"] = None
            file.seek(-min(size_bytes, 2**17), 2)
            if zip_format.has_end(file.read()):
                raise refuse(filename, "is both a tar.gz and a zip archive")
    contents.check_passages()
    folder = choose_pkg_info(contents.pkg_infos, filename)
    return Opened(
        facts=ArchiveFacts(
            unpacked_bytes=stream.unpacked_bytes,
            top_level=shown_names({name.split("/", 1)[0] for name in contents.paths if name}),
            odd_framing="; ".join(contents.oddities) or None,
        ),
        metadata=contents.pkg_infos[folder],
        license_folder=f"{folder}/",
        paths=contents.paths,
    )


def _drain(stream: GzipStream) -> bool:
    """Unpack the rest, so that its checksum is verified; say whether it is anything but zeros."""
    found = False
    while piece := stream.read(PIECE_BYTES):
        found = found or piece.count(0) != len(piece)
    return found


class _Contents:
    """What the members seen so far amount to."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._links: set[str] = set()
        self._name_bytes = 0
        self._members = 0
        self.paths: set[str] = set()
        self.pkg_infos: dict[str, bytes] = {}
        """By top folder."""
        self.oddities: dict[str, None] = {}

    def take(self, member: tar_format.Member, data: tar_format.Data) -> None:
        """Check a member and keep what is needed of it. Raises BadUpload."""
        path = check_name(member.name, self._filename)
        for alias in member.aliases:
            check_name(alias, self._filename)
        self._count(member)
        if member.is_device:
            raise refuse(self._filename, f"has a device or pipe ({quoted(member.name)})")
        if member.is_symbolic or member.is_hard_link:
            check_link(path, member.target, self._filename, symbolic=member.is_symbolic)
        if member.is_symbolic:
            self._links.add(path)
        if member.sparse:
            # warehouse refuses them: "Sparse members are not allowed"
            self.oddities["sparse members"] = None
        folder = path.removesuffix(_PKG_INFO)
        if path.endswith(_PKG_INFO) and "/" not in folder:
            self._keep(folder, member, data)
        self.paths.add(path)

    def check_passages(self) -> None:
        """Check that no member lies below a symbolic link. Raises BadUpload."""
        for path in self.paths:
            check_passage(path, self._links, self._filename)

    def _count(self, member: tar_format.Member) -> None:
        self._members += 1
        self._name_bytes += len(member.name) + len(member.target)
        if self._members > MOST_MEMBERS or self._name_bytes > MOST_NAME_BYTES:
            raise refuse(self._filename, f"has too many members (more than {MOST_MEMBERS:,}, or 64 MiB of names)")

    def _keep(self, folder: str, member: tar_format.Member, data: tar_format.Data) -> None:
        shown = quoted(member.name)
        if folder in self.pkg_infos:
            raise refuse(self._filename, f"has two members named {shown}")
        if not member.is_regular or member.sparse:
            raise refuse(self._filename, f"has a {shown} that is not a regular file")
        if member.data_bytes > LARGEST_METADATA_BYTES:
            raise refuse(self._filename, f"has a {shown} of more than {LARGEST_METADATA_BYTES:,} bytes")
        # Bounds the memory: an honest sdist has one.
        if len(self.pkg_infos) > 1:
            raise refuse(self._filename, "has a PKG-INFO in more than two top folders")
        self.pkg_infos[folder] = data.read()
