"""Rules about a file's name, size and archive (theory in `rules`)."""

import re
from collections.abc import Iterator
from typing import Final

from packaging.version import Version

from overlay.domain import filenames
from overlay.domain.archive_members import BOMB_BYTES
from overlay.domain.filenames import DistributionName
from overlay.domain.findings import Finding, error, shown
from overlay.domain.stage import StagedFile

# Step 27; a project may have been granted more, which cannot be seen from here.
PYPI_FILE_BYTES: Final = 100 * 2**20
# legacy-upload §5, warehouse COMPRESSION_RATIO_THRESHOLD.
PYPI_RATIO: Final = 50

# legacy-upload §5 and warehouse `forklift/legacy.py`: one pattern per family of platform tags.
_LINUX: Final = "x86_64|i686|aarch64|armv7l|ppc64le|s390x|riscv64"
_MACOS: Final = "ppc|ppc64|i386|x86_64|arm64|intel|fat|fat3|fat64|universal|universal2"
_PLATFORMS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"any|win32|win_amd64|win_arm64|win_ia64|linux_armv6l|linux_armv7l",
        r"manylinux(1|2010)_(x86_64|i686)",
        r"manylinux2014_(x86_64|i686|aarch64|armv7l|ppc64|ppc64le|s390x)",
        rf"manylinux_\d+_\d+_({_LINUX}|ppc64)",
        rf"musllinux_\d+_\d+_({_LINUX})",
        rf"macosx_(10_\d+|(11|12|13|14|15|26)_0)_({_MACOS})",
        r"ios_\d+_\d+_(arm64|x86_64)_(iphoneos|iphonesimulator)",
        r"android_\d+_(armeabi_v7a|arm64_v8a|x86|x86_64)",
        r"pyemscripten_\d+_\d+_wasm32",
    )
)


def judge(file: StagedFile) -> tuple[Finding, ...]:
    """Report what PyPI refuses about the name, the size and the archive."""
    name = filenames.parse(file.filename)
    if file.kind == "wheel":
        return (*_size(file), *_version(file), *_wheel_name(name), *_framing(file), *_wheel(file), *_licenses(file))
    return (*_size(file), *_version(file), *_sdist_name(name), *_framing(file), *_sdist(file), *_licenses(file))


def _size(file: StagedFile) -> Iterator[Finding]:
    if file.size_bytes > PYPI_FILE_BYTES:
        yield error(
            "file-size",
            f"{file.filename} has {file.size_bytes / 2**20:.0f} MiB. PyPI: 'File too large', above 100 MB unless the "
            "project was granted more (step 27).",
        )
    # Only zip archives: warehouse has no such check for tar.gz.
    packed_as_zip = not file.filename.endswith(".tar.gz")
    if packed_as_zip and file.facts.unpacked_bytes > max(BOMB_BYTES, PYPI_RATIO * file.size_bytes):
        yield error("archive-ratio", f"{file.filename} 'exceeds compression ratio of {PYPI_RATIO}' (step 35).")


def _version(file: StagedFile) -> Iterator[Finding]:
    if Version(file.version).local:
        yield error(
            "local-version",
            f"PyPI: 'The use of local versions in {shown(file.version)} is not allowed.' Release it without "
            f"+{Version(file.version).local}.",
        )


def _wheel_name(name: DistributionName) -> Iterator[Finding]:
    expected = name.project.replace("-", "_")
    if name.spelled_project != expected:
        yield error(
            "wheel-name",
            f"PyPI: 'Filename {shown(name.filename)} should contain the normalized project name {shown(expected)}, "
            f"not {shown(name.spelled_project)}.' Build it with a current backend (step 38).",
        )
    for platform in sorted({tag.platform for tag in name.tags}):
        if not any(pattern.fullmatch(platform) for pattern in _PLATFORMS):
            yield error(
                "wheel-platform-tag",
                f"PyPI: 'Binary wheel {shown(name.filename)} has an unsupported platform tag {shown(platform)}.' "
                "auditwheel and delocate make supported ones (step 38).",
            )


def _sdist_name(name: DistributionName) -> Iterator[Finding]:
    # PEP 625: "The file name of a source distribution is standardised as {name}-{version}.tar.gz"; step 36.
    if name.filename.endswith(".zip"):
        yield error("sdist-zip", f"{name.filename} is a .zip; PyPI takes sdists as .tar.gz only (PEP 625).")
        return
    expected = f"{name.project.replace('-', '_')}-{name.version}.tar.gz"
    if name.filename != expected:
        yield error("sdist-name", f"PyPI: 'Filename {shown(name.filename)} is invalid, should be {shown(expected)}.'")


def _framing(file: StagedFile) -> Iterator[Finding]:
    if file.facts.odd_framing:
        yield error(
            "archive-framing",
            f"PyPI does not accept {file.facts.odd_framing} in an archive (step 35); see https://docs.pypi.org/archives.",
        )


def _wheel(file: StagedFile) -> Iterator[Finding]:
    folder = "-".join(file.filename.split("-", 2)[:2]) + ".dist-info"
    if not file.facts.has_wheel_file:
        yield error("wheel-file", f"{file.filename} has no {folder}/WHEEL, spelled exactly so (step 35).")
    if not file.facts.has_record:
        yield error("wheel-record", f"{file.filename} has no {folder}/RECORD, spelled exactly so (step 39).")
    if file.facts.bad_entry_points:
        yield error(
            "entry-points", f"entry_points.txt of {file.filename} is invalid: {file.facts.bad_entry_points} (step 39)."
        )


def _sdist(file: StagedFile) -> Iterator[Finding]:
    if len(file.facts.top_level) != 1:
        yield error(
            "sdist-top-level",
            f"PyPI: 'Incorrect number of top-level directories in sdist': {', '.join(file.facts.top_level)} (step 35).",
        )


def _licenses(file: StagedFile) -> Iterator[Finding]:
    for name in file.facts.missing_license_files:
        yield error(
            "license-file",
            f"PyPI: 'License-File {shown(name)} does not exist in distribution file {file.filename}' (step 37).",
        )
