"""Reports over a store that lost something."""

import pytest

from overlay.domain.errors import Corrupt
from overlay.domain.layout import sidecar_key
from overlay.services.reports import Reports
from tests.fakes.blobs import MemoryBlobs
from tests.staged import staged_file


async def test_a_missing_sidecar_is_our_fault_and_named() -> None:
    """Not "not found", which would say that the release is not there."""
    file = staged_file()
    with pytest.raises(Corrupt, match=sidecar_key(file.upload_id, file.filename)):
        await Reports(MemoryBlobs()).of(file)
