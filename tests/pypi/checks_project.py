"""Steps 13 to 22 of legacy-upload §3: may this identity add to this project, or create it."""

import re
import sys
from typing import Final

from packaging.utils import canonicalize_name
from readme_renderer import markdown, rst

from tests.pypi.attempt import Attempt
from tests.pypi.refusals import Refused, bad, forbidden
from tests.pypi.world import World

_STDLIB: Final = frozenset(canonicalize_name(name) for name in sys.stdlib_module_names)


def project_may_be_new(attempt: Attempt) -> None:
    """Steps 13 to 17, and 20, which comes second for a new project: identity, address, rate, flag, name."""
    if attempt.project is not None:
        return
    if not attempt.user:
        raise bad("Non-user identities cannot create new projects. Do the publisher's project and the file's agree?")
    address_is_verified(attempt)
    rules = attempt.world.rules
    if rules.new_projects_left == 0:
        raise Refused(429, "Too many new projects created")
    if rules.registration_disabled:
        raise forbidden("New project registration temporarily disabled.")
    name_is_free(attempt.world, attempt.name)


def name_is_free(world: World, name: str) -> None:
    """Steps 14 and 15; a mint asks it too, for a pending publisher's project."""
    normalized = canonicalize_name(name)
    if normalized in map(canonicalize_name, world.rules.contested):
        raise Refused(409, f"The name {name!r} conflicts with an existing project.")
    if normalized in map(canonicalize_name, world.rules.prohibited):
        raise bad(f"The name {name!r} isn't allowed.")
    if normalized in _STDLIB:
        raise bad(f"The name {name!r} isn't allowed (conflict with Python Standard Library module name).")
    if any(_lookalike(normalized) == _lookalike(other) for other in world.shelves.projects):
        raise bad(f"The name {name!r} is too similar to an existing project.")


def _lookalike(normalized: str) -> str:
    return re.sub("[il]", "1", normalized.replace("-", "").replace("o", "0"))


def token_fits(attempt: Attempt) -> None:
    """Step 18. A project that would be new is in no token's list."""
    credential, now_s = attempt.credential, attempt.world.now_s()
    if credential.minted is not None:
        if now_s >= credential.minted.expires_at_s:
            raise forbidden("Invalid API Token: token is expired")
        if canonicalize_name(attempt.name) not in credential.minted.publisher.projects:
            raise forbidden(f"Invalid API Token: OIDC scoped token is not valid for project '{attempt.shown_name}'")
    elif credential.token is not None:
        token = credential.token
        if token.expires_at_s is not None and now_s >= token.expires_at_s:
            raise forbidden("Invalid API Token: token is expired")
        scope = None if token.projects is None else set(map(canonicalize_name, token.projects))
        if scope is not None and (attempt.project is None or attempt.project.normalized not in scope):
            raise forbidden(f"Invalid API Token: project-scoped token is not valid for project: '{attempt.shown_name}'")


def identity_is_allowed(attempt: Attempt) -> None:
    """Step 19."""
    project = attempt.project
    if project is None:
        return
    closed = project.status in {"archived", "quarantined"}
    if attempt.user and (closed or attempt.user not in project.owners):
        raise forbidden(f"The user '{attempt.user}' isn't allowed to upload to project '{project.name}'.")
    if closed:
        raise forbidden(f"The given token isn't allowed to upload to project '{project.name}'.")


def address_is_verified(attempt: Attempt) -> None:
    """Step 20."""
    if attempt.user in attempt.world.rules.unverified:
        raise forbidden(f"User '{attempt.user}', associated with the API token used, does not have a verified address.")


def organisation_is_active(attempt: Attempt) -> None:
    """Step 21."""
    if canonicalize_name(attempt.name) in map(canonicalize_name, attempt.world.rules.inactive):
        raise bad("Organization account owning this project is inactive.")


def description_renders(attempt: Attempt) -> None:
    """Step 22."""
    text, given = attempt.form.one("description"), attempt.form.one("description_content_type")
    kind = given.partition(";")[0].strip().lower() or "text/x-rst"
    if not text or kind == "text/plain":
        return
    if (rst.render(text) if kind == "text/x-rst" else markdown.render(text)) is None:
        whose = f"for '{given}'" if given else "in the default format of reStructuredText"
        raise bad(f"The description failed to render {whose}.")
