"""The identity token that the CI platform gives to this job, by the package `id` (trusted-publishing §3)."""

import os

from overlay.promote.answers import one_line
from overlay.promote.errors import Refused


def identify(audience: str) -> str | None:
    """Ask the platform for a token for this audience; None: this is no CI job that has one.

    Blocks; reads the process's environment. Raises Refused where the platform is known and gives none, with the mend.
    """
    from id import (  # noqa: PLC0415 - only a promotion needs it
        AmbientCredentialError,
        GitHubOidcPermissionCredentialError,
        detect_credential,
    )
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - what `id` lets through

    try:
        return detect_credential(audience)
    except GitHubOidcPermissionCredentialError as err:
        raise Refused(
            "GitHub gives this job no identity: add `permissions: id-token: write` to the job. A pull request from a "
            "fork never gets one; promote after the merge."
        ) from err
    except (AmbientCredentialError, HTTPError, OSError, ValueError) as err:
        raise Refused(f"The CI platform gives this job no identity: {one_line(str(err))}.{_advice(audience)}") from err


def _advice(audience: str) -> str:
    if not os.environ.get("GITLAB_CI"):
        return ""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in audience.upper())
    return f" Declare it in the job: `id_tokens: {name}_ID_TOKEN: aud: {audience}`."
