"""An upload, from its first byte to its answer (design §5, §6).

authenticate (web) ► stream (intake) ► check ► blob closed ► sidecar ► ledger.admit ► record ► ledger.stage ► answer
                                                                                    │
before the record: any failure deletes the bytes, nothing was promised              │
from the record on: nothing is deleted unless the ledger *answered* a refusal; an unknown outcome is a 503, and
the record decides at the next rebuild. Repeating the upload is safe at every point.

A rebuild between admit and stage, where Redis was lost, may have read the record, and even ended the upload: then the
history says so, and only the history. So `stage` names the ledger's life that admitted; another one knows the upload,
or refuses it, which is an unknown outcome as well. An upload that ended is never staged again; one that `stage` refused
has ended by that, whoever hears of it, unless it was for a promotion: that one's end decides.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from overlay.domain import filenames
from overlay.domain.errors import BadUpload, Conflict, DocumentNotFound, FileExists, ProjectQuarantined
from overlay.domain.layout import blob_key, record_key, sidecar_key
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import NormalizedName, StageId, UploadId, project_name
from overlay.domain.ports import BlobStore, Documents, Upstream
from overlay.domain.records import Record, decode, encode
from overlay.domain.rights import Right, Token
from overlay.domain.rules import Finding, Severity
from overlay.domain.stage import Admitted, AlreadyStaged, Claim, Reason, StagedFile
from overlay.services.access import require, require_grant
from overlay.services.facts import FactsOf
from overlay.services.inspection import identify, unstaged
from overlay.services.intake import Content, Field, FilePart, Form, asks_for_md5, check_digests, local, receive_file
from overlay.services.limits import check_quotas, spend_upload
from overlay.services.reconcile import end, hold, reconcile_project, settle
from overlay.services.reports import Reports


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """The operator's limits: `[uploads]` and `[upstream] fresh_s`, and the machine's; `spool` is a local folder."""

    limit_bytes: int
    quota_bytes: int
    """Of everything staged; 0: none."""
    replace: bool
    strict: bool
    fresh_s: float
    spool: Path
    inspections: int
    """Archives read at once; one a processor leaves threads for everything else."""
    token_quota_bytes: int = 0
    """Of what one token has staged; 0: none."""
    token_uploads_per_minute: int = 0
    """Of one token, over all workers; 0: no limit."""


class UploadStatus(StrEnum):
    """What became of an upload that was accepted."""

    STAGED = "staged"
    REPLACED = "replaced"
    ALREADY_STAGED = "already staged"
    ALREADY_LIVE = "already live"
    SUPERSEDED = "superseded"
    """Accepted, and replaced in the same moment by a racing upload of the name: only the history shows it."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to an accepted upload; `file` is what is staged under the name now, None where nothing is."""

    status: UploadStatus
    project: NormalizedName
    version: str
    filename: str
    file: StagedFile | None
    findings: tuple[Finding, ...] = ()


class _NothingToStore(Exception):  # no error: it unwinds the writer's context, which then leaves nothing
    def __init__(self, receipt: Receipt) -> None:
        super().__init__()
        self.receipt = receipt


class Uploads:
    """Stages files; `now_us` is the clock, `new_upload_id` gives 128 fresh random bits in hex."""

    def __init__(
        self,
        *,
        blobs: BlobStore,
        documents: Documents,
        ledger: StageLedger,
        upstream: Upstream,
        facts_of: FactsOf,
        reports: Reports,
        settings: UploadSettings,
        now_us: Callable[[], int],
        new_upload_id: Callable[[], UploadId],
    ) -> None:
        self._blobs = blobs
        self._documents = documents
        self._ledger = ledger
        self._upstream = upstream
        self._facts_of = facts_of
        self._reports = reports
        self._settings = settings
        self._now_us = now_us
        self._new_upload_id = new_upload_id
        self._inspecting = asyncio.Semaphore(settings.inspections)
        self._commits: set[asyncio.Future[Receipt]] = set()  # held here: the loop itself keeps only weak references

    async def receive(self, caller: Token, stage: StageId, parts: AsyncIterator[Field | FilePart]) -> Receipt:
        """Stage one upload. Raises Rejected, Denied, Conflict, Unavailable; then nothing is left behind.

        Nothing of the body is read for a caller that sends too many.
        """
        require(caller, Right.ADD)
        await spend_upload(self._ledger, caller, per_minute=self._settings.token_uploads_per_minute)
        form, upload = Form(), self._new_upload_id()
        try:
            async with AsyncExitStack() as stack:
                content = await self._take_in(caller, stage, parts, form, upload, stack)
                file, body = await self._check(caller, stage, form, content, upload)
        except _NothingToStore as settled:
            return settled.receipt
        # From here the work goes on when the client hangs up: half of it would be worse than all of it.
        commit = asyncio.ensure_future(self._commit(caller, form, file, body))
        self._commits.add(commit)
        commit.add_done_callback(self._commits.discard)
        return await asyncio.shield(commit)

    async def close(self) -> None:
        """Wait for the commits under way, whose clients may have hung up."""
        await asyncio.gather(*self._commits, return_exceptions=True)

    async def _take_in(
        self,
        caller: Token,
        stage: StageId,
        parts: AsyncIterator[Field | FilePart],
        form: Form,
        upload: UploadId,
        stack: AsyncExitStack,
    ) -> Content:
        content: Content | None = None
        async for part in parts:
            if isinstance(part, Field):
                form.add(part)
                continue
            if content is not None:
                raise BadUpload("The form has more than one file; send one per request.")
            filenames.parse(part.filename)  # before it becomes part of a path
            name = form.first("name")
            if name is not None:  # most clients send the fields first: refuse before the body is read
                await self._authorize(caller, project_name(name), stage)
            key = blob_key(upload, part.filename)
            writer = await stack.enter_async_context(self._blobs.create(key))
            target, path = await stack.enter_async_context(local(writer, self._settings.spool / upload))
            content = await receive_file(
                part, target, path, md5=asks_for_md5(form), limit_bytes=self._settings.limit_bytes
            )
        if content is None:
            raise BadUpload("The form has no file in its field 'content'.")
        return content

    async def _authorize(self, caller: Token, project: NormalizedName, stage: StageId) -> str:
        page = await self._upstream.page(project, no_older_than_s=self._settings.fresh_s)
        grant = require_grant(caller, Right.ADD, project, stage, on_upstream=page.body is not None)
        facts = await self._facts_of(page)
        if facts is not None and facts.quarantined:
            raise ProjectQuarantined(project)
        return grant

    async def _check(
        self, caller: Token, stage: StageId, form: Form, content: Content, upload: UploadId
    ) -> tuple[StagedFile, bytes]:
        """Decide everything that needs no serial. Raises as `receive`, or _NothingToStore."""
        await check_digests(form, content)
        identified = await identify(form, content, self._inspecting)
        body = identified.inspected.metadata
        grant = await self._authorize(caller, identified.named.project, stage)
        file = unstaged(identified, content, stage=stage, upload=upload, caller=caller, grant=grant)
        await self._compare_with_live(file)
        if self._settings.strict:
            findings = await self._reports.judged(file, body)
            errors = [finding.sentence for finding in findings if finding.severity is Severity.ERROR]
            if errors:
                raise BadUpload("PyPI would refuse this file ([uploads] strict is on): " + " ".join(errors))
        claim = self._claim(caller, file)
        admitted = await self._admit(claim)  # only a look: spares the commit of bytes that change nothing
        if isinstance(admitted, AlreadyStaged):
            raise _NothingToStore(await self._already(admitted.file, body))
        await self._check_quota(file)
        return file, body

    async def _compare_with_live(self, file: StagedFile) -> None:
        facts = await self._facts_of(await self._upstream.page(file.project, no_older_than_s=self._settings.fresh_s))
        if facts is None or file.filename not in facts.sha256_of:
            return
        live_sha256 = facts.sha256_of[file.filename]
        if live_sha256 == file.sha256:
            raise _NothingToStore(Receipt(UploadStatus.ALREADY_LIVE, file.project, file.version, file.filename, None))
        raise FileExists(file.filename, held_sha256=live_sha256 or "unknown", where="live upstream")

    async def _check_quota(self, file: StagedFile) -> None:
        quota_bytes, token_quota_bytes = self._settings.quota_bytes, self._settings.token_quota_bytes
        if quota_bytes or token_quota_bytes:
            held = await self._holder(file)
            await check_quotas(self._ledger, file, held, quota_bytes=quota_bytes, token_quota_bytes=token_quota_bytes)

    def _claim(self, caller: Token, file: StagedFile) -> Claim:
        return Claim(
            stage=file.stage,
            project=file.project,
            version=file.version,
            filename=file.filename,
            upload_id=file.upload_id,
            sha256=file.sha256,
            grant=file.grant,
            replace=self._settings.replace and caller.allows(Right.STAGE),
        )

    async def _admit(self, claim: Claim) -> Admitted | AlreadyStaged:
        admitted = await self._ledger.admit(claim)
        if isinstance(admitted, AlreadyStaged):
            # An upload or a withdrawal that got no answer may be the truth that a rebuild finds: settle it first.
            await reconcile_project(self._documents, self._ledger, claim.project)
            return await self._ledger.admit(claim)
        return admitted

    async def _commit(self, caller: Token, form: Form, file: StagedFile, body: bytes) -> Receipt:
        claim = self._claim(caller, file)
        try:
            async with self._blobs.create(sidecar_key(file.upload_id, file.filename)) as writer:
                await writer.write(body)
            admitted = await self._admit(claim)
        except BaseException:
            await self._discard(file)
            raise
        if isinstance(admitted, AlreadyStaged):
            await self._discard(file)
            return await self._already(admitted.file, body)
        file = replace(file, serial=admitted.serial, staged_at_us=self._now_us())
        record = Record(file=file, form=form.kept(), attestations=form.first("attestations"), replace=claim.replace)
        await self._documents.put(record_key(file.project, file.upload_id), encode(record))
        try:
            staged = await self._ledger.stage(file, replace=claim.replace, epoch=admitted.epoch)
        except Conflict:  # an answer: the file was refused after its record was written
            # In the ledger, too: a reconcile or a rebuild may have read the record meanwhile, and found the name free.
            refused = Ending(Reason.REFUSED, file.staged_at_us, caller.label)
            await end(self._documents, self._ledger, file.project, [file], refused)
            await self._discard(file)
            raise
        if staged.ended is not None and staged.ended.file.upload_id == file.upload_id:
            await settle(self._documents, staged.ended)
            return await self._overtaken(file, body)
        await hold(self._documents, self._ledger, record)  # before the answer, which is a promise
        if staged.ended is None:
            return await self._receipt(UploadStatus.STAGED, file, body)
        await settle(self._documents, staged.ended)
        return await self._receipt(UploadStatus.REPLACED, file, body)

    async def _already(self, held: StagedFile, body: bytes) -> Receipt:
        """Answer for bytes that are staged; whoever staged them may have got no answer, and then did not do this."""
        key = record_key(held.project, held.upload_id)
        with contextlib.suppress(DocumentNotFound):  # it ended meanwhile
            await hold(self._documents, self._ledger, decode(key, await self._documents.get(key), Record))
        return await self._receipt(UploadStatus.ALREADY_STAGED, held, body)

    async def _overtaken(self, file: StagedFile, body: bytes) -> Receipt:
        """Answer for an upload that ended at once: a racing one of its name holds it, or has been withdrawn since."""
        held = await self._holder(file)
        if held is None:
            return Receipt(UploadStatus.SUPERSEDED, file.project, file.version, file.filename, None)
        if held.sha256 == file.sha256:
            return await self._already(held, body)
        return await self._receipt(UploadStatus.SUPERSEDED, held)

    async def _holder(self, file: StagedFile) -> StagedFile | None:
        """Return what is staged under the file's name."""
        (snapshot,) = await self._ledger.snapshot(file.project, (file.stage,))
        return next((held for held in snapshot.files if held.filename == file.filename), None)

    async def _discard(self, file: StagedFile) -> None:
        await self._blobs.delete(blob_key(file.upload_id, file.filename))
        await self._blobs.delete(sidecar_key(file.upload_id, file.filename))

    async def _receipt(self, status: UploadStatus, file: StagedFile, body: bytes | None = None) -> Receipt:
        findings = await self._reports.soon(file, body)
        return Receipt(status, file.project, file.version, file.filename, file, findings)
