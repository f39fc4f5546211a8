"""The attestations that were staged with the files of a promotion, which its run gets with the plan."""

from collections.abc import Mapping, Sequence
from typing import Final

from overlay.domain.names import UploadId
from overlay.domain.ports import Documents
from overlay.domain.promotion import PlannedFile
from overlay.domain.promotion_errors import PromotionRefused, Refusal
from overlay.domain.quantities import size_words
from overlay.domain.stage import StagedFile
from overlay.services.at_once import some_at_once
from overlay.services.live_copies import read_record

# All of them are one answer. Two of GitHub's are some 20 KB, so a thousand files have room.
_MOST_BYTES: Final = 32 * 1024 * 1024


async def read_attestations(documents: Documents, files: Sequence[StagedFile | PlannedFile]) -> Mapping[UploadId, str]:
    """Read the attestations of files that have some. Raises PromotionRefused where they are too large together."""

    async def read(file: StagedFile | PlannedFile) -> str | None:
        record = await read_record(documents, file.project, file.upload_id)
        return None if record is None else record.attestations  # it ended as live since

    texts = await some_at_once(read, files)
    found = {file.upload_id: text for file, text in zip(files, texts, strict=True) if text is not None}
    size_bytes = sum(map(len, found.values()))
    if size_bytes > _MOST_BYTES:
        raise PromotionRefused([_too_large(len(found), size_bytes)])
    return found


def _too_large(files: int, size_bytes: int) -> Refusal:
    return Refusal(
        rule="attestations",
        filename="",
        sentence=f"{files} of these files have attestations of {size_words(size_bytes)} together, and one promotion "
        f"may have {size_words(_MOST_BYTES)}. Promote fewer releases at once, or (--partial) fewer files.",
    )
