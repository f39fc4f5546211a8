"""deploy/Containerfile: what goes into the image, who runs it, and how it ends."""

import re
import tomllib
from typing import Final

from overlay.cli.main import parser
from tests.deploy.containerfile import stages
from tests.deploy.documents import DEPLOY, ROOT

ARGUMENTS, STAGES = stages(DEPLOY / "Containerfile")
BUILD, IMAGE = STAGES
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
IGNORED: Final = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]


def copied() -> set[str]:
    """What the build stage takes from the checkout."""
    return {source for line in BUILD.all("COPY") for source in line.split()[:-1]}


def test_both_stages_stand_on_one_pinned_python() -> None:
    """With its bugfix release, so that two builds of one checkout are alike; and one that the project supports."""
    assert [stage.base for stage in STAGES] == ["python:${PYTHON}"] * 2
    found = re.fullmatch(r"(3\.\d+)\.\d+-slim-[a-z]+", ARGUMENTS["PYTHON"])
    assert found is not None
    assert f"Programming Language :: Python :: {found[1]}" in PROJECT["project"]["classifiers"]


def test_what_is_copied_exists_and_is_let_through() -> None:
    """.dockerignore lets nothing else into the build."""
    for source in copied():
        assert (ROOT / source).exists(), source
    assert IGNORED[0] == "*"
    assert {line.removeprefix("!") for line in IGNORED if line.startswith("!")} == copied()


def test_the_wheel_has_all_that_it_is_built_from() -> None:
    """What pyproject.toml names for the wheel is copied."""
    project, wheel = PROJECT["project"], PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {project["readme"], *project["license-files"], *wheel["packages"], *wheel["force-include"]}
    assert {"pyproject.toml", *needed} <= copied()


def test_the_image_holds_only_what_the_overlay_needs() -> None:
    """The second stage takes the environment from the first and installs nothing; the first keeps no cache."""
    assert IMAGE.all("COPY") == ["--from=build /opt/overlay /opt/overlay"]
    assert all("pip" not in line and "apt" not in line for line in IMAGE.all("RUN"))
    assert "--no-cache-dir" in BUILD.one("RUN")


def test_it_does_not_run_as_root() -> None:
    """The user is a number, which Kubernetes can judge, owns what it writes to, and changes after the last RUN."""
    uid, gid = IMAGE.one("USER").split(":")
    assert int(uid) == int(gid) > 0
    assert f"--uid {uid} " in IMAGE.one("RUN")
    names = [name for name, _ in IMAGE.instructions]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in {"RUN", "COPY"})
    local = tomllib.loads((DEPLOY / "config.distributed.toml").read_text())["server"]["local_path"]
    assert {local, IMAGE.one("WORKDIR")} <= set(IMAGE.one("RUN").split())


def test_the_overlay_is_process_1() -> None:
    """No shell in between that would keep signals to itself; and the words are those of the command line."""
    assert IMAGE.form("ENTRYPOINT") == ["overlay"]
    assert parser().parse_args(IMAGE.form("CMD")).run is not None
    assert IMAGE.one("STOPSIGNAL") == "SIGTERM"


def test_it_says_how_it_is() -> None:
    """By a program that is in the image, on the port that it exposes."""
    program, _, code = IMAGE.form("HEALTHCHECK")
    assert program == "python"
    assert f":{IMAGE.one('EXPOSE')}/-/health" in code
    compile(code, "healthcheck", "exec")
