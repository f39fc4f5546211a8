"""GitHub's runner reads what a step prints: a line can be a command to it, and others have a say in our lines.

It takes `::command::` where a line begins, after blanks, and the older `##[command]` anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Runner:
    """Who reads our output beside people."""

    is_github: bool

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Say who does, by the environment."""
        return cls(environment.get("GITHUB_ACTIONS") == "true")

    def inert(self, line: str) -> str:
        """Return the line so that it commands nothing."""
        if not self.is_github:
            return line
        whole = line.replace("##[", "## [")
        return f"> {whole}" if whole.lstrip().startswith("::") else whole

    def inert_json(self, text: str) -> str:
        """Return JSON so that it commands nothing and means the same; none of its lines begins with a colon."""
        # RFC 8259 §7: "Any character may be escaped." Outside of a string there is no `#`.
        return text.replace("#", "\\u0023") if self.is_github else text

    def warning(self, line: str) -> str:
        """Form a warning of a line without control characters."""
        return f"::warning::{_data(line)}" if self.is_github else f"warning: {line}"

    def mask(self, secret: str) -> str:
        """Form what hides a secret in the log; "" where nobody hears of it."""
        return f"::add-mask::{_data(secret)}" if self.is_github else ""


def _data(text: str) -> str:
    return text.replace("%", "%25")
