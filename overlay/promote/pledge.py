"""What the caller named: the releases to promote, and the pledges, which say what bytes are expected.

Everything that names a file adds up; two digests for one name are an error, for nobody could say which one was tested.
A wheel or sdist on the command line is both the order to promote it and its pledge. What is neither is skipped and
said: `dist/*` has also `.gitignore`, attestations and folders.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

from overlay.domain.errors import BadUpload, InvalidName
from overlay.domain.filenames import DistributionName, parse
from overlay.domain.names import ReleaseName, project_name
from overlay.domain.wire_promotions import Pledge
from overlay.promote.errors import Misused, PledgeMissing
from overlay.promote.sums import read_pair, read_sums

_RELEASE: Final = re.compile(r"([A-Za-z0-9._-]+)==([^=\s/]+)")
_PATTERN: Final = re.compile(r"[*?\[]")
# A list of digests has a hundred bytes a line, and a release at most some thousand files.
_LONGEST_SUMS_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something named that is no distribution file, or none of the releases."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pledged:
    """What is to be promoted, and what is expected of it."""

    releases: tuple[str, ...]
    """PROJECT==VERSION, both normalized, sorted; of versions that are equal (1.0 and 1.0.0) one."""
    pledges: tuple[Pledge, ...]
    """By filename."""
    skipped: tuple[Skipped, ...]


def collect(named: Sequence[str], expected: Sequence[str]) -> Pledged:
    """Read what was named (files, PROJECT==VERSION) and `--expect`. Reads files: for a thread.

    Without a name the pledges alone say which releases. Raises Misused, of which PledgeMissing.
    """
    releases = [release(name) for name in named if _is_release(name)]
    files = [Path(name) for name in named if not _is_release(name)]
    found = _Found()
    for file in files:
        found.add_file(file)
    ordered = {_release_of(name) for name, _ in found.pledges.values()} | set(releases)
    for raw in expected:
        found.expect(raw)
    kept = {
        filename: digest
        for filename, (name, digest) in sorted(found.pledges.items())
        if not named or _release_of(name) in ordered
    }
    strays = [Skipped(filename, "is of none of the releases") for filename in found.pledges if filename not in kept]
    pledged = {_release_of(found.pledges[filename][0]) for filename in kept}
    if missing := sorted(ordered - pledged):
        raise PledgeMissing([str(name) for name in missing])
    if not kept:
        raise Misused(_nothing(named or expected))
    return Pledged(
        releases=tuple(str(name) for name in sorted(pledged)),
        pledges=tuple(Pledge(filename=filename, sha256=digest) for filename, digest in kept.items()),
        skipped=tuple(found.skipped + strays),
    )


class _Found:
    """Pledges as they add up."""

    def __init__(self) -> None:
        self.pledges: dict[str, tuple[DistributionName, str]] = {}
        self.skipped: list[Skipped] = []

    def add_file(self, path: Path) -> None:
        """Hash a file if it is a wheel or an sdist. Raises Misused where there is no such file."""
        if os.path.isdir(path):  # noqa: PTH112 - False, no error, for what no name can be
            self.skipped.append(Skipped(str(path), "is a folder; name the files in it"))
            return
        if not os.path.exists(path):  # noqa: PTH110 - as above
            pattern = " (the shell found nothing that matches)" if _PATTERN.search(path.name) else ""
            raise Misused(f"There is no file {path}{pattern}. A release is written PROJECT==VERSION.")
        name = self._parsed(path.name)
        if name is not None:
            self._add(name, _digest(path))

    def expect(self, raw: str) -> None:
        """Add what one `--expect` says. Raises Misused."""
        path = Path(raw)
        # As above; FILENAME=sha256:HEX can be longer than a name.
        pair = None if os.path.exists(path) else read_pair(raw)  # noqa: PTH110
        if pair is not None:
            self._add_named([pair])
        elif os.path.isdir(path):  # noqa: PTH112
            for file in _listed(path):
                self.add_file(file)
        else:
            self._add_named(read_sums(_text(path), raw))

    def _add_named(self, pairs: Iterable[tuple[str, str]]) -> None:
        for filename, digest in pairs:
            name = self._parsed(filename)
            if name is not None:
                self._add(name, digest)

    def _parsed(self, filename: str) -> DistributionName | None:
        try:
            return parse(filename)
        except BadUpload as err:
            self.skipped.append(Skipped(filename, str(err)))
            return None

    def _add(self, name: DistributionName, digest: str) -> None:
        _, before = self.pledges.setdefault(name.filename, (name, digest))
        if before != digest:
            raise Misused(
                f"{name.filename} is named with two digests, {before} and {digest}. Which bytes were tested? If it "
                "was built twice, use the files of the build job."
            )


def _is_release(raw: str) -> bool:
    return _RELEASE.fullmatch(raw) is not None and not os.path.lexists(raw)


def release(raw: str) -> ReleaseName:
    """Read PROJECT==VERSION. Raises Misused."""
    found = _RELEASE.fullmatch(raw)
    if found is None:
        raise Misused(f"{raw!r} is no release; it looks like demo==1.1.")
    try:
        return ReleaseName(project_name(found[1]), str(Version(found[2])))
    except (InvalidName, InvalidVersion) as err:
        raise Misused(f"{raw!r} is no release: {err}") from err


def _release_of(name: DistributionName) -> ReleaseName:
    return ReleaseName(name.project, name.version)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as err:
        raise Misused(f"{path} cannot be read: {err.strerror}.") from err


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as err:
        raise Misused(f"--expect {folder} cannot be read: {err.strerror}.") from err


def _text(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            body = handle.read(_LONGEST_SUMS_BYTES + 1)
    except FileNotFoundError as err:
        raise Misused(
            f"--expect {path}: there is no such file or directory, and it is not FILENAME=sha256:HEX."
        ) from err
    except OSError as err:
        raise Misused(f"--expect {path} cannot be read: {err.strerror}.") from err
    if len(body) > _LONGEST_SUMS_BYTES:
        raise Misused(f"--expect {path} is too long for a list of digests.")
    return body.decode("utf-8", "replace")


def _nothing(named: Sequence[str]) -> str:
    if not named:
        return "What is to be promoted? Name files (dist/*), or PROJECT==VERSION with --expect."
    return f"There is no wheel or sdist among what was named: {', '.join(named)}."
