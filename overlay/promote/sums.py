"""Expected digests as people write them down: a SHA256SUMS file, or FILENAME=sha256:HEX."""

import re
from typing import Final

from overlay.promote.errors import Misused

# `sha256sum` writes two blanks before a name (read as text), or a blank and an asterisk (read as binary).
_LINE: Final = re.compile(r"(?P<digest>[0-9a-fA-F]{64}) [ *](?P<name>.+)")
_PAIR: Final = re.compile(r"(?P<name>.+)=sha256:(?P<digest>[0-9a-fA-F]{64})")
_QUOTED: Final = 80


def read_sums(text: str, source: str) -> list[tuple[str, str]]:
    """Read a SHA256SUMS file into pairs of filename and digest; a name's folders are left out. Raises Misused."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise Misused(f"{source} is empty; it should hold the lines that sha256sum writes.")
    return [_line(line, f"Line {number} of {source}") for number, line in lines]


def read_pair(raw: str) -> tuple[str, str] | None:
    """Read FILENAME=sha256:HEX; None when it does not look like that."""
    found = _PAIR.fullmatch(raw)
    return None if found is None else (found["name"], found["digest"].lower())


def _line(line: str, place: str) -> tuple[str, str]:
    if line.startswith("\\"):
        # coreutils escapes a name with a newline or a backslash, and marks the line so.
        raise Misused(f"{place} has an escaped filename; no wheel or sdist is called so.")
    found = _LINE.fullmatch(line)
    if found is None:
        raise Misused(
            f"{place} is not what sha256sum writes (64 hexadecimal digits, two blanks, a filename): {line[:_QUOTED]!a}"
        )
    return found["name"].rpartition("/")[2], found["digest"].lower()
