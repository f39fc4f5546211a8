"""Steps 23 to 40 of legacy-upload §3: the file, beside what its release has."""

import re
from typing import Final

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from tests.pypi import archives, attestations
from tests.pypi.attempt import Attempt
from tests.pypi.orders import DAY_S, MIB
from tests.pypi.refusals import Refused, bad

_EXTENSION: Final = re.compile(r".+?(\.tar\.gz|\.zip|\.whl)", re.IGNORECASE)
_EXTENSIONS: Final = {"sdist": {".zip", ".tar.gz"}, "bdist_wheel": {".whl"}}
_OPEN_DAYS: Final = 14
_ARCHES: Final = "x86_64|i686|aarch64|armv7l|ppc64le|s390x|riscv64"
_APPLE: Final = "ppc|ppc64|i386|x86_64|arm64|intel|fat|fat3|fat64|universal|universal2"
_PLATFORM: Final = re.compile(
    r"any|win32|win_(amd64|arm64|ia64)|linux_armv[67]l|manylinux(1|2010)_(x86_64|i686)"
    r"|manylinux2014_(x86_64|i686|aarch64|armv7l|ppc64|ppc64le|s390x)"
    rf"|manylinux_\d+_\d+_({_ARCHES}|ppc64)|musllinux_\d+_\d+_({_ARCHES})"
    rf"|macosx_(10_\d+|1[1-5]_0|26_0)_({_APPLE})"
    r"|ios_\d+_\d+_(arm64|x86_64)_iphone(os|simulator)|android_\d+_(armeabi_v7a|arm64_v8a|x86|x86_64)"
    r"|pyemscripten_\d+_\d+_wasm32"
)


class Identical(Exception):
    """The very file is there: 200, nothing is stored (step 30)."""


def filename_is_plain(attempt: Attempt) -> None:
    """Steps 23 to 25."""
    filename = attempt.content.filename
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in filename):
        raise bad("Cannot upload a file with non-printable characters in the name.")
    if "/" in filename or "\\" in filename:
        raise bad("Cannot upload a file with '/' or '\\' in the name.")
    found = _EXTENSION.fullmatch(filename)
    if found is None:
        raise bad("Invalid file extension: Use .tar.gz, .whl or .zip extension.")
    kind = attempt.form.one("filetype")
    if found[1] not in _EXTENSIONS[kind]:
        raise bad(f"Invalid file extension: Extension {found[1]} is invalid for filetype {kind}.")


def part_is_no_picture(attempt: Attempt) -> None:
    """Step 26; a part without the header passes (uv and flit send none)."""
    part_type = attempt.content.part_type
    if part_type is not None and (not part_type or part_type.startswith("image/")):
        raise bad("Invalid distribution file.")


def sizes_fit(attempt: Attempt) -> None:
    """Steps 27 and 28."""
    rules, size = attempt.world.rules, attempt.content.size_bytes
    if size > rules.file_limit_bytes:
        raise bad(f"File too large. Limit for project '{attempt.shown_name}' is {rules.file_limit_bytes // MIB} MB.")
    total = sum(file.size_bytes for file in attempt.project.files) if attempt.project is not None else 0
    if size + total > rules.project_limit_bytes:
        raise bad(
            f"Project size too large. Limit for project '{attempt.shown_name}' total size is "
            f"{rules.project_limit_bytes // (1024 * MIB)} GB."
        )


def digests_match(attempt: Attempt) -> None:
    """Step 29."""
    digests = attempt.content.digests
    found = {"md5_digest": digests.md5, "sha256_digest": digests.sha256, "blake2_256_digest": digests.blake2_256}
    for name, digest in found.items():
        if attempt.form.one(name) and attempt.form.one(name).lower() != digest:
            raise bad("The digest supplied does not match a digest calculated from the uploaded file.")


def file_is_new(attempt: Attempt) -> None:
    """Steps 30 to 32. Raises Identical for the very file."""
    shelves, content = attempt.world.shelves, attempt.content
    found = shelves.find(content.filename)
    if found is not None and found[2].digests == content.digests:
        raise Identical
    if found is not None or shelves.with_content(content.digests.blake2_256) is not None:
        raise bad(f"File already exists ('{content.filename}', with blake2_256 hash '{content.digests.blake2_256}').")
    if content.filename in shelves.burned:
        raise bad("This filename was previously used by a file that has since been deleted. Use a different version.")


def release_is_open(attempt: Attempt) -> None:
    """Steps 33 and 34."""
    release = attempt.release
    if release is None:
        return
    if attempt.world.now_s() - release.created_at_s > _OPEN_DAYS * DAY_S:
        raise bad(f"Uploading new files to releases older than {_OPEN_DAYS} days is not allowed.")
    if attempt.is_sdist and any(file.is_sdist for file in release.files.values()):
        raise bad("Only one sdist may be uploaded per release.")


def archive_is_valid(attempt: Attempt) -> None:
    """Step 35; for an sdist 37 too, which needs the same look."""
    content = attempt.content
    if not attempt.is_sdist:
        archives.check_wheel(content.path, content.filename)
    elif content.filename.endswith(".tar.gz"):
        # A .zip ends at step 36 whatever is in it.
        archives.check_sdist(content.path, [], content.filename)


def sdist_is_named_well(attempt: Attempt) -> None:
    """Steps 36 and 37."""
    if not attempt.is_sdist:
        return
    filename, normalized = attempt.content.filename, canonicalize_name(attempt.name)
    try:
        name, _ = parse_sdist_filename(filename)
    except InvalidSdistFilename as err:
        raise bad(f"Invalid source distribution filename: {filename}") from err
    expected = normalized.replace("-", "_")
    if name != normalized:
        raise bad(f"Start filename for '{attempt.shown_name}' with '{expected}'.")
    if filename != f"{expected}-{attempt.version}.tar.gz":
        raise bad(f"Filename '{filename}' is invalid, should be '{expected}-{attempt.version}.tar.gz'.")
    archives.check_sdist(attempt.content.path, attempt.form.fields.get("license_file", []), filename)


def wheel_is_named_well(attempt: Attempt) -> None:
    """Steps 38, 37 and 39, in PyPI's order."""
    if attempt.is_sdist:
        return
    filename, normalized = attempt.content.filename, canonicalize_name(attempt.name)
    try:
        name, version, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename as err:
        raise bad(str(err)) from err
    for platform in sorted({tag.platform for tag in tags}):
        if not _PLATFORM.fullmatch(platform):
            raise bad(f"Binary wheel '{filename}' has an unsupported platform tag '{platform}'.")
    expected, spelled = normalized.replace("-", "_"), filename.partition("-")[0]
    if name != normalized:
        raise bad(f"Start filename for '{attempt.shown_name}' with '{expected}'.")
    if spelled != expected:
        raise bad(f"Filename '{filename}' should contain the normalized project name '{expected}', not '{spelled}'.")
    if version != attempt.version:
        raise bad(f"Version in filename should be '{attempt.version}' not '{version}'.")
    archives.check_wheel_members(attempt.content.path, filename, attempt.form.fields.get("license_file", []))


def attestations_are_good(attempt: Attempt) -> None:
    """Step 40."""
    text = attempt.form.one("attestations")
    if not text:
        return
    minted = attempt.credential.minted
    try:
        attestations.check(
            text,
            filename=attempt.content.filename,
            sha256=attempt.content.digests.sha256,
            publisher=None if minted is None else minted.publisher,
        )
    except attestations.Unverified as err:
        raise Refused(400, f"Invalid attestations supplied during upload: {err}") from err
