"""What the README says of commands, options and keys, checked against the parser and the configuration."""

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from overlay.cli.main import parser
from overlay.config.tables import TABLES

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `overlay ([^`]+)` \|", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def below(command: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The commands of a command; none for one that runs."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def options(command: argparse.ArgumentParser) -> set[str]:
    """Every option that the command or one below it takes."""
    own = {option for action in command._actions for option in action.option_strings}
    return own.union(*(options(one) for one in below(command).values()))


def rows() -> Iterator[tuple[str, str]]:
    """Each row of the command table: the command's name, and the rest of its usage."""
    for usage in ROW.findall(README):
        name, _, rest = usage.replace("\\|", "|").partition(" ")
        yield name, rest


def test_the_table_has_every_command() -> None:
    """Once, and no other."""
    assert sorted(name for name, _ in rows()) == sorted(below(parser()))


@pytest.mark.parametrize(("name", "usage"), list(rows()))
def test_every_option_of_the_table_exists(name: str, usage: str) -> None:
    """The help has more; what the table shows must work. So must the actions of a command that has some."""
    command = below(parser())[name]
    assert set(OPTION.findall(usage)) <= options(command)
    actions = below(command)
    if actions:
        assert usage.split(maxsplit=1)[0].split("|") == list(actions)


def test_every_overlay_command_in_a_sentence_or_an_example_exists() -> None:
    """With the options that are shown with it."""
    commands = below(parser())
    named = re.findall(r"(?:^|`|&& )overlay ([a-z]+)\b([^`\n#]*)", README, re.MULTILINE)
    assert named
    for name, rest in named:
        assert name in commands
        assert set(OPTION.findall(rest)) <= options(commands[name])


def test_every_key_exists() -> None:
    """`[table] key`, `<table.key>` and OVERLAY_TABLE_KEY; a bare name in units is a key of some table too."""
    keys = {(table, one.name) for table, kind in TABLES.items() for one in fields(kind)}
    named = set(re.findall(r"`\[([a-z]+)\] ([a-z_]+)", README)) | set(re.findall(r"<([a-z]+)\.([a-z_]+)>", README))
    assert named
    assert named - keys == set()
    bare = set(re.findall(r"`([a-z]+(?:_[a-z]+)*_(?:s|bytes))`", README))
    assert bare - {key for _, key in keys} == set()
    variables = {f"OVERLAY_{table}_{key}".upper() for table, key in keys}
    variables |= {"OVERLAY_URL", "OVERLAY_TOKEN", "OVERLAY_ADMIN_TOKEN", "OVERLAY_CONFIG", "OVERLAY_PUBLIC_URL"}
    assert set(re.findall(r"\bOVERLAY_[A-Z_]+[A-Z]\b", README)) - variables == set()
