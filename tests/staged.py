"""Makes staged files and tokens for tests of what happens to them."""

import hashlib

from overlay.domain.names import MAIN, NormalizedName, ReleaseName, Serial, StageId, UploadId, project_name
from overlay.domain.promotion import Freeze, Outcome, PromotionEnding, PromotionId
from overlay.domain.rights import Right, Token
from overlay.domain.stage import ArchiveFacts, Claim, StagedFile


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def upload_of(number: int) -> UploadId:
    return UploadId(f"{number:032x}")


def staged_file(
    number: int = 1,
    *,
    project: str = "demo",
    version: str = "1.0",
    filename: str = "demo-1.0-py3-none-any.whl",
    content: str = "bytes",
    serial: int | None = None,
    stage: StageId = MAIN,
    grant: str = "admin",
    who: str = "ada",
    token_id: str = "t1",
) -> StagedFile:
    return StagedFile(
        stage=stage,
        project=project_name(project),
        name=project,
        version=version,
        filename=filename,
        kind="wheel" if filename.endswith(".whl") else "sdist",
        upload_id=upload_of(number),
        serial=Serial(number if serial is None else serial),
        size_bytes=len(content),
        sha256=digest(content),
        blake2_256=digest(content + "blake"),
        metadata_sha256=digest(content + "metadata"),
        requires_python=">=3.8",
        staged_at_us=1_700_000_000_000_000 + number,
        who=who,
        token_id=token_id,
        grant=grant,
        facts=ArchiveFacts(unpacked_bytes=len(content)),
    )


def claim_for(file: StagedFile, *, replace: bool = True) -> Claim:
    return Claim(
        stage=file.stage,
        project=file.project,
        version=file.version,
        filename=file.filename,
        upload_id=file.upload_id,
        sha256=file.sha256,
        grant=file.grant,
        replace=replace,
    )


def freeze_of(
    *files: StagedFile,
    promotion: PromotionId = PromotionId("f" * 32),  # noqa: B008 - a name for a string
    holder: str = "run",
    since_us: int,
    until_us: int,
) -> Freeze:
    return Freeze(
        promotion=promotion,
        stage=files[0].stage,
        releases=tuple(sorted({ReleaseName(file.project, file.version) for file in files})),
        uploads=tuple(file.upload_id for file in files),
        who="ci",
        since_us=since_us,
        holder=holder,
        fence=1,
        until_us=until_us,
    )


def token(
    *rights: Right,
    projects: tuple[str, ...] = ("demo",),
    stages: tuple[str, ...] = ("main",),
    label: str = "ada",
    expires_at_s: int | None = None,
) -> Token:
    return Token(
        id=digest(label)[:16],
        sha256=digest(label),
        label=label,
        rights=rights or (Right.STAGE,),
        projects=projects,
        stages=stages,
        created_at_s=1_700_000_000,
        expires_at_s=expires_at_s,
    )


DEMO = NormalizedName("demo")
GIVEN_UP = PromotionEnding(outcome=Outcome.ABANDONED, at_us=1_700_000_000_000_000, who="bob")
