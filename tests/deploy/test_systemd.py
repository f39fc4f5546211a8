"""deploy/overlay.service: its command, its files, its times and what it may do."""

import shlex
import tomllib
from collections import defaultdict
from pathlib import PurePosixPath

from overlay.cli import outcome, worker_process
from overlay.cli.main import parser
from tests.deploy.documents import DEPLOY

README = (DEPLOY / "README.md").read_text(encoding="utf-8")


def unit() -> dict[str, list[str]]:
    """Return the settings of all sections; one may be set more than once."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (DEPLOY / "overlay.service").read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


UNIT = unit()


def test_the_command_is_one() -> None:
    """Of the program that the README installs, with options that it takes and the file that the README writes."""
    program, *words = shlex.split(UNIT["ExecStart"][0])
    assert PurePosixPath(program).parent.parent.as_posix() in README
    arguments = parser().parse_args(words)
    assert arguments.config in README
    assert shlex.split(UNIT["ExecReload"][0])[1:] == ["-HUP", "$MAINPID"]


def test_the_files_are_those_of_the_readme() -> None:
    """Secrets come from a file that may be missing: the embedded form has none."""
    (secrets,) = UNIT["EnvironmentFile"]
    assert secrets.startswith("-")
    assert f"--mode=0600 /dev/null {secrets.removeprefix('-')} " in README


def test_it_may_write_what_it_must() -> None:
    """The configuration's local_path below /var/cache, and the embedded form's store below /var/lib."""
    local = tomllib.loads((DEPLOY / "config.distributed.toml").read_text())["server"]["local_path"]
    assert f"/var/cache/{UNIT['CacheDirectory'][0]}" == local
    assert UNIT["WorkingDirectory"] == [f"%S/{UNIT['StateDirectory'][0]}"]
    assert f"/var/lib/{UNIT['StateDirectory'][0]}/data" in README


def test_it_waits_for_uploads_under_way() -> None:
    """Longer than the overlay itself takes; and starts it again, unless its configuration is what is wrong."""
    assert int(UNIT["TimeoutStopSec"][0]) > worker_process.STOP_S
    assert UNIT["KillMode"] == ["mixed"]
    assert UNIT["Restart"] == ["always"]
    assert UNIT["RestartPreventExitStatus"] == [str(outcome.USAGE)]


def test_it_may_do_nothing_else() -> None:
    """No capability, no privilege to gain, no file system to change."""
    for key, value in {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
    }.items():
        assert UNIT[key] == [value]
