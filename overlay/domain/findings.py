"""What the promotability report consists of."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

RULES_VERSION: Final = 1
"""Part of the key under which findings may be remembered; rises when a rule changes its mind."""


class Severity(StrEnum):
    """How much a finding weighs."""

    ERROR = "error"
    """PyPI refuses the file."""
    WARNING = "warning"
    """PyPI takes the file; its author would regret it."""
    NOTE = "note"
    """Worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one file; `rule` is a stable id, what `--ignore-rule` names."""

    rule: str
    severity: Severity
    sentence: str


def error(rule: str, sentence: str) -> Finding:
    """Form a finding of what PyPI refuses."""
    return Finding(rule, Severity.ERROR, sentence)


def warning(rule: str, sentence: str) -> Finding:
    """Form a finding of what PyPI takes, but hardly on purpose."""
    return Finding(rule, Severity.WARNING, sentence)


def note(rule: str, sentence: str) -> Finding:
    """Form a finding that asks for nothing."""
    return Finding(rule, Severity.NOTE, sentence)


def shown(value: str, longest: int = 100) -> str:
    """Quote a value of the metadata, cut to fit a sentence."""
    return repr(value if len(value) <= longest else value[:longest] + "…")
