"""Plain text for terminals and pipes alike: aligned columns, nothing else."""

from collections.abc import Iterable, Sequence
from typing import Final

_GAP: Final = "  "
_UNPRINTABLE: Final = "\N{REPLACEMENT CHARACTER}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Align rows under their heads; ends with a newline. Nothing in a cell can steer the terminal."""
    lines = [tuple(heads), *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def printable(text: str) -> str:
    """Replace what cannot be printed: what a server says comes from uploads, too."""
    return "".join(char if char.isprintable() else _UNPRINTABLE for char in text)
