"""Files that are ready to be pushed, for tests."""

import hashlib
from pathlib import Path

from overlay.domain.filenames import parse
from overlay.domain.wire_promotions import PromotedFileView
from overlay.promote import form
from overlay.promote.push import Package
from tests.builders import Built


def planned(built: Built, *, wave: int = 0, attestations: str | None = None) -> PromotedFileView:
    """Plan a file as the overlay would."""
    named = parse(built.filename)
    return PromotedFileView(
        project=named.project,
        version=named.version,
        filename=built.filename,
        kind=named.kind,
        upload_id=hashlib.sha256(built.filename.encode()).hexdigest()[:32],
        sha256=built.sha256,
        size_bytes=len(built.body),
        wave=wave,
        url=f"https://overlay.test/files/{built.filename}",
        state="planned",
        attestations=attestations,
    )


def package(built: Built, folder: Path) -> Package:
    """Write a file down and form its upload."""
    path = folder / built.filename
    path.write_bytes(built.body)
    file = planned(built)
    return Package(file=file, path=path, fields=form.build(file, path))
