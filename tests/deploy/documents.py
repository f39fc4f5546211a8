"""Reads the YAML files of deploy/, with types."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import yaml

Value: TypeAlias = "Mapping[str, Value] | Sequence[Value] | str | int | float | bool | None"

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"


def documents(path: Path) -> list[Value]:
    """Return the documents of a file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def at(value: Value, *steps: str | int) -> Value:
    """Follow keys and indices; a step that is not there fails the test."""
    for step in steps:
        if isinstance(step, str):
            assert isinstance(value, Mapping), f"no mapping to find {step!r} in: {value!r}"
            value = value[step]
        else:
            assert isinstance(value, Sequence), f"no list to take number {step} of: {value!r}"
            value = value[step]
    return value


def mapping(value: Value, *steps: str | int) -> Mapping[str, Value]:
    found = at(value, *steps)
    assert isinstance(found, Mapping), found
    return found


def sequence(value: Value, *steps: str | int) -> Sequence[Value]:
    found = at(value, *steps)
    assert isinstance(found, Sequence), found
    assert not isinstance(found, str), found
    return found


def text(value: Value, *steps: str | int) -> str:
    found = at(value, *steps)
    assert isinstance(found, str), found
    return found


def texts(value: Value, *steps: str | int) -> list[str]:
    return [text(one) for one in sequence(value, *steps)]


def number(value: Value, *steps: str | int) -> int:
    found = at(value, *steps)
    assert isinstance(found, int), found
    return found
