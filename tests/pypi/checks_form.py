"""Steps 2 to 12 of legacy-upload §3: who sends it, and what the form alone says."""

import re
from typing import Final

from tests.pypi.attempt import Attempt
from tests.pypi.refusals import bad, forbidden

_NAME: Final = re.compile(r"[A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9]", re.IGNORECASE)
_DIGEST: Final = re.compile(r"[A-F0-9]{64}", re.IGNORECASE)
SEE: Final = "See https://packaging.python.org/specifications/core-metadata for more information."


def text_is_text(attempt: Attempt) -> None:
    """Step 2."""
    for name in attempt.form.sent_as_files:
        if name != "gpg_signature":
            raise bad(f"{name}: Should not be a tuple.")


def uploads_are_open(attempt: Attempt) -> None:
    """Steps 3 and 4."""
    if attempt.world.rules.read_only:
        raise forbidden("Read-only mode: Uploads are temporarily disabled.")
    if attempt.world.rules.uploads_disabled:
        raise forbidden("New uploads are temporarily disabled.")


def identity_is_known(attempt: Attempt) -> None:
    """Steps 5 and 6."""
    credential = attempt.credential
    if credential.kind == "password":
        raise forbidden("Username/Password authentication is no longer supported. Use an API token.")
    if credential.token is None and credential.minted is None:
        raise forbidden("Invalid or non-existent authentication information.")


def protocol_is_known(attempt: Attempt) -> None:
    """Step 7."""
    if attempt.form.fields.get("protocol_version", ["1"])[0] != "1":
        raise bad("Unknown protocol version.")


def name_is_valid(attempt: Attempt) -> None:
    """Step 8."""
    if not _NAME.fullmatch(attempt.name):
        raise bad(
            f"{attempt.name!r} is an invalid value for Name. Error: Use ASCII letters and digits, with '.', '_' and "
            f"'-' between them. {SEE}"
        )


def fields_are_valid(attempt: Attempt) -> None:
    """Step 9."""
    form = attempt.form
    if form.one("filetype") not in {"sdist", "bdist_wheel"}:
        raise _invalid("filetype", "Use a known file type.")
    for field, name in (("sha256_digest", "SHA256"), ("blake2_256_digest", "BLAKE2")):
        if form.one(field) and not _DIGEST.fullmatch(form.one(field)):
            raise _invalid(field, f"Use a valid, hex-encoded, {name} message digest.")
    if attempt.is_sdist and form.one("pyversion") not in {"", "source"}:
        raise _invalid("pyversion", "Use 'source' as Python version for an sdist.")
    if not attempt.is_sdist and not form.one("pyversion"):
        raise _invalid("pyversion", "Python version is required for binary distribution uploads.")


def a_digest_is_there(attempt: Attempt) -> None:
    """Step 10."""
    if not any(attempt.form.one(name) for name in ("md5_digest", "sha256_digest", "blake2_256_digest")):
        raise bad("Error: Include at least one message digest.")


def a_file_is_there(attempt: Attempt) -> None:
    """Step 12."""
    if attempt.form.content is None:
        raise bad("Upload payload does not have a file.")


def _invalid(field: str, error: str) -> Exception:
    return bad(f"Invalid value for {field}. Error: {error}")
