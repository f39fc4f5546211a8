"""Upstream's project list, ready to be sent."""

from dataclasses import dataclass
from pathlib import Path

from overlay.domain.names import NormalizedName, Validator


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedList:
    """Upstream's project list, prepared on disk so that a tail (staged names and the closing) makes it whole.

    The JSON head lacks its closing `]}`, the HTML head its closing `</body></html>`. The gzip heads are the same bytes
    as the beginning of one member, ended by a full flush: `overlay.domain.gzip_splice.gzip_tail` forms the rest. The
    files vanish some refreshes later: open them at once, an open file stays readable.
    """

    json_head: Path
    json_head_gzip: Path
    html_head: Path
    html_head_gzip: Path
    json_crc: int
    """CRC-32 of the JSON head, and so on."""
    json_length: int
    html_crc: int
    html_length: int
    has_projects: bool
    """Whether the JSON head ends with an object, so that another one needs a comma before it."""
    validator: Validator
    """sha256 of upstream's decoded body."""
    names: bytes
    """The normalized names, each between two newlines."""
    fetched_at_s: float
    last_serial: str | None

    def contains(self, name: NormalizedName) -> bool:
        """Say whether upstream's list has the name; a search through the blob, up to 16 MB (milliseconds)."""
        return b"\n" + name.encode() + b"\n" in self.names
