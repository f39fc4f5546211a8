"""The commands and their arguments; what runs them is imported when it runs."""

import argparse
import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:  # argparse has no public name for it
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

_RELEASE: Final = re.compile(r"([A-Za-z0-9._-]+)==([^=\s]+)")
_PROJECT: Final = re.compile(r"[A-Za-z0-9._-]+")
_DURATION: Final = re.compile(r"([0-9]{1,10})([smhd]?)")
_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_commands(commands: "Commands") -> None:
    """Add every command, in the order of the help."""
    _add_serve(commands)
    _add_configured(commands, "check", "check configuration, store, ledger and upstream")
    _add_configured(commands, "config", "print the effective configuration, without secrets")
    _add_reading(commands)
    _add_promote(commands)
    _add_withdraw(commands)
    _add_token(commands)
    _add_reconcile(commands)
    _add_sweep(commands)


def project(raw: str) -> str:
    """Read PROJECT. Raises argparse.ArgumentTypeError."""
    if not _PROJECT.fullmatch(raw):
        raise argparse.ArgumentTypeError(f"{raw!r} is no project; it looks like demo")
    return raw


def release(raw: str) -> tuple[str, str]:
    """Read PROJECT==VERSION. Raises argparse.ArgumentTypeError."""
    found = _RELEASE.fullmatch(raw)
    if found is None:
        raise argparse.ArgumentTypeError(f"{raw!r} is no release; it looks like demo==1.1")
    return found[1], found[2]


def project_or_release(raw: str) -> tuple[str, str | None]:
    """Read PROJECT or PROJECT==VERSION. Raises argparse.ArgumentTypeError."""
    return release(raw) if "=" in raw else (project(raw), None)


def seconds(raw: str) -> int:
    """Read a duration: seconds, or a number with s, m, h or d. Raises argparse.ArgumentTypeError."""
    found = _DURATION.fullmatch(raw)
    if found is None:
        raise argparse.ArgumentTypeError(f"{raw!r} is no duration; it looks like 3600, 12h or 30d")
    return int(found[1]) * _UNITS_S[found[2]]


def _add_serve(commands: "Commands") -> None:
    command = _add_configured(commands, "serve", "serve the index")
    command.add_argument("--host", metavar="H", help="listen on this address instead of [server] host")
    command.add_argument("--port", metavar="N", type=int, help="listen on this port instead of [server] port")
    command.add_argument("--workers", metavar="N", type=int, help="run this many workers instead of [server] workers")
    command.add_argument(
        "--with",
        dest="with_files",
        metavar="FILE",
        nargs="+",
        help="serve with these files staged, and forget everything at the end",
    )
    command.add_argument("--inherited", type=int, nargs="+", metavar="FD", help=argparse.SUPPRESS)
    command.add_argument("--trial", action="store_true", help=argparse.SUPPRESS)


def _add_configured(commands: "Commands", name: str, words: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=words, description=_sentence(words))
    command.add_argument(
        "--config", metavar="F", help="the configuration file (else OVERLAY_CONFIG, else the built-in one)"
    )
    command.set_defaults(run=_lazily("overlay.cli.serve", name))
    return command


def _add_reading(commands: "Commands") -> None:
    command = _add_client(commands, "list", "list what is staged", "overlay.cli.manage:list_staged")
    command.add_argument("project", metavar="PROJECT", type=project, nargs="?", help="only this project")
    _add_json(command)

    command = _add_client(
        commands, "show", "show a staged release: files, digests, what PyPI would refuse", "overlay.cli.manage:show"
    )
    command.add_argument(
        "release", metavar="PROJECT[==VERSION]", type=project_or_release, help="without version: all staged ones"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--sums", action="store_true", help="print only the digests, as `sha256sum -c` reads them")
    _add_json(form)

    command = _add_client(commands, "history", "show which staged files ended, and why", "overlay.cli.manage:history")
    command.add_argument("project", metavar="PROJECT", type=project)
    _add_json(command)

    command = _add_client(commands, "events", "show what happened recently", "overlay.cli.follow:events")
    command.add_argument("--follow", action="store_true", help="go on showing what happens, until Ctrl-C")
    _add_json(command, "print the API's JSON; with --follow one event a line")


def _add_promote(commands: "Commands") -> None:
    words = "push staged files to the live index, exactly the tested bytes"
    command = _add_client(commands, "promote", words, "overlay.cli.promote:promote")
    command.add_argument(
        "named",
        metavar="FILE|PROJECT==VERSION",
        nargs="*",
        help="dist/*: these very bytes; or a release, whose digests --expect gives",
    )
    command.add_argument(
        "--expect",
        metavar="E",
        dest="expected",
        action="append",
        help="what the release consists of: a SHA256SUMS file, a directory of its files, or FILENAME=sha256:HEX; "
        "repeat it for several",
    )
    command.add_argument("--partial", action="store_true", help="leave out staged files that are not named")
    command.add_argument(
        "--ignore-rule",
        metavar="ID",
        dest="ignored",
        action="append",
        help="promote against this rule of the target; the receipt says so. Repeat it for several",
    )
    command.add_argument("--dry-run", action="store_true", help="check everything, fetch and prove, push nothing")
    command.add_argument(
        "--no-wait", dest="wait", action="store_false", help="end when all is accepted, not when it is live"
    )
    command.add_argument(
        "--timeout",
        metavar="TIME",
        dest="timeout_s",
        type=seconds,
        help="how long upstream may take to show what it accepted (else 10m)",
    )
    attesting = command.add_mutually_exclusive_group()
    attesting.add_argument(
        "--attest", action="store_true", help="make publish attestations here, with the job's identity"
    )
    attesting.add_argument(
        "--no-attestations", dest="attestations", action="store_false", help="leave out those that were staged"
    )
    command.add_argument(
        "--abandon",
        action="store_true",
        help="give up what is being promoted of PROJECT==VERSION; what is out stays out",
    )
    _add_json(command, "print how it ended as JSON; progress goes to standard error")


def _add_withdraw(commands: "Commands") -> None:
    command = _add_client(
        commands, "withdraw", "withdraw a staged release, or files of it", "overlay.cli.manage:withdraw"
    )
    command.add_argument("release", metavar="PROJECT==VERSION", type=release)
    command.add_argument("filenames", metavar="FILENAME", nargs="*", help="only these files")
    _add_json(command)


def _add_token(commands: "Commands") -> None:
    words = "create, list and revoke tokens (needs an admin token)"
    tokens = commands.add_parser("token", help=words, description=_sentence(words))
    actions = tokens.add_subparsers(title="actions", metavar="ACTION", required=True)

    command = _add_client(
        actions, "create", "create a token and print its text, once", "overlay.cli.admin:create_token"
    )
    command.add_argument("--label", metavar="L", required=True, help="what it is recognised by later")
    command.add_argument(
        "--right",
        metavar="R",
        dest="rights",
        action="append",
        required=True,
        help="read, add (new file names only), stage, promote or admin; repeat it for several",
    )
    command.add_argument(
        "--project",
        metavar="P",
        dest="projects",
        action="append",
        help="a project, a family like acme-*, or * for every name that upstream does not have; repeat it for several",
    )
    command.add_argument(
        "--stage", metavar="S", dest="stages", action="append", help="a stage (else main); repeat it for several"
    )
    command.add_argument(
        "--expires-in", metavar="TIME", dest="expires_in_s", type=seconds, help="30d, 12h or seconds (else never)"
    )
    _add_json(command)

    command = _add_client(actions, "list", "list the tokens, without their texts", "overlay.cli.admin:list_tokens")
    _add_json(command)

    command = _add_client(actions, "revoke", "revoke a token", "overlay.cli.admin:revoke_token")
    command.add_argument("id", metavar="ID", help="as `overlay token list` shows it")


def _add_reconcile(commands: "Commands") -> None:
    words = "compare the ledger with the records, and heal what differs (needs an admin token)"
    _add_json(_add_client(commands, "reconcile", words, "overlay.cli.admin:reconcile"))


def _add_sweep(commands: "Commands") -> None:
    words = "delete bytes that nothing names any more (needs an admin token)"
    command = _add_client(commands, "sweep", words, "overlay.cli.admin:sweep")
    command.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    command.add_argument(
        "--older-than",
        metavar="S",
        dest="older_than_s",
        type=seconds,
        help="only what nothing names for this long (else [uploads] grace_s); 0 only while nothing uploads",
    )
    _add_json(command)


def _add_client(commands: "Commands", name: str, words: str, runs: str) -> argparse.ArgumentParser:
    """Add a command that asks a server; `runs` is module:function."""
    command = commands.add_parser(name, help=words, description=_sentence(words))
    command.add_argument("--url", help="the overlay (else OVERLAY_URL); the token for it is in OVERLAY_TOKEN")
    module, _, function = runs.partition(":")
    command.set_defaults(run=_lazily(module, function))
    return command


def _add_json(command: "argparse._ActionsContainer", words: str = "print the API's JSON") -> None:
    command.add_argument("--json", action="store_true", help=words)


def _lazily(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        code: int = getattr(importlib.import_module(module), function)(arguments)
        return code

    return run


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."
