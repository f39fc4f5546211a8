"""What an uploaded file is, by its name, its form and its archive, which must agree (design §6).

Reading an archive costs up to seconds of a processor. The threads that do it also fsync uploads and render pages, so a
bounded number reads archives at once; the others wait here without a thread.
"""

import asyncio
import hashlib
from dataclasses import dataclass

from overlay.caching.threads import in_thread
from overlay.domain import archive, filenames, metadata
from overlay.domain.archive import Inspected
from overlay.domain.errors import BadUpload
from overlay.domain.filenames import DistributionName
from overlay.domain.metadata import CoreMetadata
from overlay.domain.names import Serial, StageId, UploadId
from overlay.domain.rights import Token
from overlay.domain.stage import StagedFile
from overlay.services.intake import Content, Form


@dataclass(frozen=True, slots=True)
class Identified:
    """A file whose name, form and metadata agree."""

    named: DistributionName
    inspected: Inspected
    core: CoreMetadata


async def identify(form: Form, content: Content, turns: asyncio.Semaphore) -> Identified:
    """Read the archive in one of the turns, and compare. Raises BadUpload."""
    named = filenames.parse(content.filename)
    _check_filetype(form, named)
    form_name, form_version = _required(form, "name"), _required(form, "version")
    async with turns:
        inspected = await in_thread(archive.inspect, content.path, content.filename, named.kind)
        core = await in_thread(metadata.read, inspected.metadata)
    metadata.agree(core, filename=named, form_name=form_name, form_version=form_version)
    return Identified(named, inspected, core)


def unstaged(
    identified: Identified, content: Content, *, stage: StageId, upload: UploadId, caller: Token, grant: str
) -> StagedFile:
    """Form the staged file, but for serial and time, which it gets when it is admitted."""
    named, inspected = identified.named, identified.inspected
    return StagedFile(
        stage=stage,
        project=named.project,
        name=identified.core.name,
        version=named.version,
        filename=content.filename,
        kind=named.kind,
        upload_id=upload,
        serial=Serial(0),
        size_bytes=content.size_bytes,
        sha256=content.sha256,
        blake2_256=content.blake2_256,
        metadata_sha256=hashlib.sha256(inspected.metadata).hexdigest(),
        requires_python=identified.core.requires_python,
        staged_at_us=0,
        who=caller.label,
        token_id=caller.id,
        grant=grant,
        facts=inspected.facts,
    )


def _required(form: Form, name: str) -> str:
    value = form.first(name)
    if value is None:
        raise BadUpload(f"The form has no field {name!r}.")
    return value


def _check_filetype(form: Form, named: DistributionName) -> None:
    expected = "sdist" if named.kind == "sdist" else "bdist_wheel"
    sent = form.first("filetype")
    if sent is not None and sent != expected:
        raise BadUpload(f"The form says filetype {sent[:80]!r}, but the file's name is that of a {named.kind}.")
