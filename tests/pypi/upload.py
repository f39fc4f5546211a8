"""POST /legacy/: receives, checks in PyPI's order, stores, answers (legacy-upload §3)."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from tests.pypi import archives, checks_file, checks_form, checks_project
from tests.pypi.attempt import Attempt
from tests.pypi.checks_file import Identical
from tests.pypi.checks_metadata import metadata_is_valid
from tests.pypi.faults import Point
from tests.pypi.form import Form, FormReader, Incomplete
from tests.pypi.recording import Received
from tests.pypi.refusals import Refused, said
from tests.pypi.shelves import ShelvedFile
from tests.pypi.world import World

_RETIRED: Final = {
    "submit": "Project pre-registration is no longer required or supported, upload your files instead.",
    "submit_pkg_info": "Project pre-registration is no longer required or supported, upload your files instead.",
    "doc_upload": "Uploading documentation is no longer supported.",
}
CHECKS: Final[tuple[Callable[[Attempt], None], ...]] = (
    checks_form.text_is_text,
    checks_form.uploads_are_open,
    checks_form.identity_is_known,
    checks_form.protocol_is_known,
    checks_form.name_is_valid,
    checks_form.fields_are_valid,
    checks_form.a_digest_is_there,
    metadata_is_valid,
    checks_form.a_file_is_there,
    checks_project.project_may_be_new,
    checks_project.token_fits,
    checks_project.identity_is_allowed,
    checks_project.address_is_verified,
    checks_project.organisation_is_active,
    checks_project.description_renders,
    checks_file.filename_is_plain,
    checks_file.part_is_no_picture,
    checks_file.sizes_fit,
    checks_file.digests_match,
    checks_file.file_is_new,
    checks_file.release_is_open,
    checks_file.archive_is_valid,
    checks_file.sdist_is_named_well,
    checks_file.wheel_is_named_well,
    checks_file.attestations_are_good,
)
"""The steps, in order; each raises Refused, one of them Identical."""


class Uploads:
    """The upload endpoint of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._one_at_a_time = asyncio.Lock()
        self._stored = 0

    @property
    def stored(self) -> int:
        """How many files were stored."""
        return self._stored

    async def answer(self, request: web.Request, received: Received) -> web.Response:
        """Answer a POST. Raises what faults raise."""
        faults = self._world.faults
        await faults.strike(request, Point.ARRIVED)
        with tempfile.TemporaryDirectory(dir=self._world.shelves.folder) as folder:
            try:
                form = await FormReader(request, received, faults, Path(folder) / "content").read()
            except Incomplete:
                received.outcome = "incomplete"
                return said(request, 400, "The form is no multipart/form-data, or ended early.")
            action = form.one(":action") or request.query.get(":action", "")
            if action != "file_upload":
                return said(request, 410 if action in _RETIRED else 400, _RETIRED.get(action, "Unknown :action."))
            await faults.strike(request, Point.RECEIVED, received.filename)
            try:
                await self._checked(request, received, form)
            except Refused as err:
                received.outcome = "refused"
                return said(request, err.status, err.message)
        await faults.strike(request, Point.STORED, received.filename)
        return web.Response()

    async def _checked(self, request: web.Request, received: Received, form: Form) -> None:
        attempt = Attempt(form=form, credential=self._world.accounts.shown_by(request.headers), world=self._world)
        async with self._one_at_a_time:
            try:
                await asyncio.to_thread(_check, attempt)
            except Identical:
                received.outcome = "identical"
                return
            self._store(attempt)
            self._stored += 1
            received.outcome, received.stored_as = "stored", self._stored

    def _store(self, attempt: Attempt) -> None:
        shelves, content = self._world.shelves, attempt.content
        found = attempt.project
        project = found or shelves.create(attempt.name, frozenset({attempt.user}))
        project.name = attempt.name
        file = ShelvedFile(
            filename=content.filename,
            path=content.path,
            size_bytes=content.size_bytes,
            digests=content.digests,
            uploaded_at_s=self._world.now_s(),
            metadata=archives.metadata_of(content.path, content.filename),
            attested=bool(attempt.form.one("attestations")),
            visible_from=shelves.visible_from(project),
        )
        if found is None:
            project.appeared_with = file
            self._world.count_new_project()
        shelves.put(project, attempt.version, file, requires_python=attempt.form.one("requires_python") or None)


def _check(attempt: Attempt) -> None:
    for check in CHECKS:
        check(attempt)
