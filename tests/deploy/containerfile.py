"""Reads a Containerfile: its instructions, by stage."""

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """What follows one FROM."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [rest for found, rest in self.instructions if found == name]

    def one(self, name: str) -> str:
        (found,) = self.all(name)
        return found

    def form(self, name: str) -> list[str]:
        """Return the words of an instruction in its exec form, without flags and a leading CMD."""
        words = json.loads(self.one(name)[self.one(name).index("[") :])
        assert isinstance(words, list)
        return words


def stages(path: Path) -> tuple[dict[str, str], list[Stage]]:
    """Return the arguments before the first stage, and the stages."""
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for line in _lines(path):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append(Stage(rest.split(" AS ")[0].strip()))
        elif found:
            found[-1].instructions.append((name, rest.strip()))
        else:
            assert name == "ARG", line
            key, _, value = rest.partition("=")
            arguments[key] = value
    return arguments, found


def _lines(path: Path) -> list[str]:
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return "\n".join(kept).replace("\\\n", " ").splitlines()
