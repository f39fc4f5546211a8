"""entry_points.txt of a wheel, judged as PyPI does (warehouse `utils/wheel.py`)."""

import configparser
import re
from typing import Final

# The standard library's option pattern is quadratic in the length of a line, so both sizes are bounded; the largest
# honest files have some thousand short lines.
LARGEST_BYTES: Final = 2**18
LONGEST_LINE: Final = 500

_NAME: Final = re.compile(r"[\w.-]+")
_SCRIPTS: Final = ("console_scripts", "gui_scripts")


def defect(body: bytes) -> str | None:
    """Say what is wrong with entry_points.txt, or None."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return "it is not UTF-8"
    if len(text) > LARGEST_BYTES or any(len(line) > LONGEST_LINE for line in text.splitlines()):
        return f"it is larger than {LARGEST_BYTES:,} bytes or has a line longer than {LONGEST_LINE} characters"
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    # The specification's names are case-sensitive; configparser folds them unless told.
    setattr(parser, "optionxform", str)  # noqa: B010 -- mypy knows no assignment to a method
    try:
        parser.read_string(text)
    except configparser.Error as err:
        return f"it is not an INI file ({type(err).__name__})"
    for section in _SCRIPTS:
        for name in parser[section] if parser.has_section(section) else ():
            if not _NAME.fullmatch(name):
                return f"{name[:80]!a} in [{section}] is not a name of an entry point"
    return None
