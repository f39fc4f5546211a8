"""What deploy/README.md and config.distributed.toml say, checked against the program."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from overlay.config.loading import load
from overlay.config.tables import TABLES
from tests.deploy.documents import DEPLOY, ROOT
from tests.test_readme import OPTION, below, options

README = (DEPLOY / "README.md").read_text(encoding="utf-8")
DISTRIBUTED = DEPLOY / "config.distributed.toml"
KEYS = {(table, one.name) for table, kind in TABLES.items() for one in fields(kind)}


def test_the_distributed_configuration_loads() -> None:
    """It is the distributed form, and a password for Redis may come from the environment."""
    config = load(DISTRIBUTED, {"OVERLAY_ADMIN_TOKEN": "ovl_" + "x" * 28})
    assert (config.store.kind, config.ledger.kind) == ("s3", "redis")
    assert config.server.workers > 1
    url = "rediss://:secret@redis.example:6380/1"
    assert load(DISTRIBUTED, {"OVERLAY_LEDGER_URL": url}).ledger.url == url


def test_its_comments_name_what_there_is() -> None:
    """Keys that are shown have their defaults where no comment speaks of this installation."""
    text = DISTRIBUTED.read_text(encoding="utf-8")
    named = {(table, key) for table, key in re.findall(r"\[([a-z]+)\] ([a-z_]+)", text)}
    assert named
    assert named <= KEYS
    shown = tomllib.loads(text)
    same = {"upstream", "read", "uploads", "cache"}
    for table in same:
        kind = TABLES[table]()
        assert shown[table] == {key: getattr(kind, key) for key in shown[table]}


def test_every_file_is_named_and_is_there() -> None:
    """Links lead to files; and no file of the folder is left out."""
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", README) if "://" not in link]
    assert all((DEPLOY / link).exists() for link in links)
    apart = {".gitignore", ".env", "README.md"}
    assert {path.name for path in DEPLOY.iterdir()} - apart <= {Path(link).parts[0] for link in links}


def test_every_command_exists() -> None:
    """`overlay COMMAND`, with its options."""
    from overlay.cli.main import parser

    commands = below(parser())
    named = re.findall(r"(?:^|`|/|&& )overlay ([a-z]+)\b([^`\n#)]*)", README, re.MULTILINE)
    assert {"serve", "check", "reconcile", "sweep", "list"} <= {name for name, _ in named}
    for name, rest in named:
        assert name in commands
        assert set(OPTION.findall(rest)) <= options(commands[name])


def test_every_key_exists() -> None:
    """`[table] key`."""
    named = set(re.findall(r"`\[([a-z]+)\] ([a-z_]+)", README))
    assert named
    assert named <= KEYS


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\boverlay_[a-z_]+", README))))
def test_every_metric_exists(name: str) -> None:
    """Under the name that the program gives it; Prometheus's endings are the library's."""
    source = "".join((ROOT / "overlay" / "web" / f"{module}.py").read_text() for module in ("metrics", "exposition"))
    assert f'"{re.sub(r"_(total|bucket|count|sum)$", "", name)}"' in source
