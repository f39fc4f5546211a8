"""How uploads ended, as a ledger in the process remembers it."""

from typing import Final

from overlay.domain.ledger_port import Ending
from overlay.domain.names import NormalizedName, UploadId
from overlay.domain.stage import Gone, Reason, StagedFile

# Endings that may not have reached the history yet; far more than uploads can be in flight at once.
_HELD: Final = 10_000


class Endings:
    """The recent endings, by upload."""

    def __init__(self) -> None:
        self._gone: dict[UploadId, Gone] = {}

    def __contains__(self, upload: UploadId) -> bool:
        return upload in self._gone

    def add(self, file: StagedFile, ending: Ending) -> Gone:
        """Remember how a file ended."""
        gone = self._gone[file.upload_id] = Gone(file, ending.reason, ending.at_us, ending.who)
        if len(self._gone) > _HELD:
            del self._gone[next(iter(self._gone))]
        return gone

    def get(self, upload: UploadId) -> Gone | None:
        """Look an upload up."""
        return self._gone.get(upload)

    def repeated(self, project: NormalizedName, upload: UploadId, ending: Ending) -> Gone | None:
        """Return how an upload of the project ended, if it was by this very ending."""
        gone = self._gone.get(upload)
        if gone is None or gone.file.project != project:
            return None
        return gone if (gone.reason, gone.at_us, gone.who) == (ending.reason, ending.at_us, ending.who) else None


def as_refused(file: StagedFile) -> Ending:
    """Say how an upload ends that met other bytes which it may not replace."""
    return Ending(Reason.REFUSED, file.staged_at_us, file.who)
