"""`overlay list`, `show`, `history` and `withdraw`: what is staged, asked of a server."""

import argparse
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from overlay.cli.client import Call, Server, run, server
from overlay.cli.outcome import DONE, FAILED, CommandFailed
from overlay.cli.runner import Runner
from overlay.cli.tables import printable, table
from overlay.domain.names import canonical_version
from overlay.domain.quantities import count_words, minute_words, size_words
from overlay.domain.wire import (
    HistoryEntryView,
    HistoryView,
    ReleasePromotionView,
    ReleaseView,
    StagedFileView,
    StagedList,
    WithdrawnView,
)

_HALVES: Final = re.compile("[\ud800-\udfff]")


def list_staged(arguments: argparse.Namespace) -> int:
    """Print what is staged."""
    staged = _staged(_server(arguments), arguments.project)
    if arguments.json:
        print_json(staged)
    elif staged.files:
        rows = [
            (file.project, file.version, file.filename, size_words(file.size_bytes), file.standing, *_staging(file))
            for file in staged.files
        ]
        print(table(("PROJECT", "VERSION", "FILE", "SIZE", "STANDING", "STAGED", "BY"), rows), end="")
    else:
        print("Nothing is staged." if arguments.project is None else f"Nothing is staged for {arguments.project}.")
    return DONE


def show(arguments: argparse.Namespace) -> int:
    """Print a staged release, or every staged release of a project; with --json then as an array."""
    at = _server(arguments)
    project, version = arguments.release
    if version is not None:
        releases = [_release(at, project, version)]
    else:
        versions = {canonical_version(file.version): file.version for file in _staged(at, project).files}
        if not versions:
            raise CommandFailed(f"Nothing is staged for {project}.", FAILED)
        releases = [_release(at, project, staged) for staged in versions.values()]
    if arguments.sums:
        print(sums(file for release in releases for file in release.files), end="")
    elif arguments.json:
        print_json(releases[0] if version is not None else releases)
    else:
        print("\n".join(shown(release) for release in releases), end="")
    return DONE


def history(arguments: argparse.Namespace) -> int:
    """Print the uploads of a project that ended."""
    call = Call(method="GET", path=f"/projects/{quote(arguments.project, safe='')}/history")
    ended = run(_server(arguments), call, HistoryView)
    if arguments.json:
        print_json(ended)
    elif ended.entries:
        print(_ended(ended.entries), end="")
    else:
        print(f"No staged file of {printable(ended.project)} has ended yet.")
    return DONE


def withdraw(arguments: argparse.Namespace) -> int:
    """Withdraw a release, or files of it."""
    project, version = arguments.release
    call = Call(
        method="DELETE",
        path=_release_path(project, version),
        query=[("filename", filename) for filename in arguments.filenames],
    )
    withdrawn = run(_server(arguments), call, WithdrawnView)
    if arguments.json:
        print_json(withdrawn)
    else:
        release = f"{withdrawn.project}=={withdrawn.version}"
        print(f"Withdrew {count_words(len(withdrawn.files), 'file')} of {printable(release)}:")
        print(sums(withdrawn.files), end="")
        for filename in withdrawn.live:
            print(f"{printable(filename)} stays: it is live upstream. It leaves the overlay by itself.")
    return DONE


def sums(files: Iterable[StagedFileView | HistoryEntryView]) -> str:
    """Form the lines that `sha256sum -c` reads."""
    return "".join(f"{printable(file.sha256)}  {printable(file.filename)}\n" for file in files)


def shown(release: ReleaseView) -> str:
    """Form what `show` says of a release."""
    head = f"{printable(f'{release.project}=={release.version}')}: {count_words(len(release.files), 'file')} staged\n"
    rows = [(file.filename, size_words(file.size_bytes), file.standing, *_staging(file)) for file in release.files]
    parts = [head, table(("FILE", "SIZE", "STANDING", "STAGED", "BY"), rows), sums(release.files)]
    if release.promotion is not None:
        parts.append(_promotion(release.promotion))
    if not release.upstream_known:
        parts.append("Upstream has not been asked about this project yet, or does not answer.\n")
    parts.append(_findings(release.files))
    return "\n".join(parts)


def print_json(value: object) -> None:
    """Print the API's JSON, indented."""
    print(json_text(value))


def json_text(value: object) -> str:
    """Form the API's JSON, indented, so that it commands nothing to whoever reads it beside people.

    Halves of characters are replaced: on Linux the name of a file on the command line may have some.
    """
    text = json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)
    return Runner.of(os.environ).inert_json(_HALVES.sub("\N{REPLACEMENT CHARACTER}", text))


def _promotion(promotion: ReleasePromotionView) -> str:
    whose = f"by {printable(promotion.who)} since {minute_words(promotion.since)}"
    if promotion.ended_at is not None:
        whose += f", ended {minute_words(promotion.ended_at)} by {printable(promotion.ended_by or '')}"
    elif promotion.leased_until is not None:
        whose += f", its lease till {minute_words(promotion.leased_until)} unless renewed"
    lines = [
        f"Target: {printable(promotion.target)}\n" if promotion.target else "",
        f"Together with: {printable(', '.join(promotion.others))}\n" if promotion.others else "",
        f"{'All of it' if promotion.ended_at is None else 'Receipt'}: {printable(promotion.url)}\n"
        if promotion.url
        else "",
    ]
    rows = [(file.filename, file.state) for file in promotion.files]
    return f"Promotion {printable(promotion.state)}, {whose}:\n" + table(("FILE", "STATE"), rows) + "".join(lines)


def _findings(files: Sequence[StagedFileView]) -> str:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for file in files:
        for finding in file.findings or ():
            rows.setdefault((finding.severity, finding.rule, finding.sentence), []).append(file.filename)
    if not rows:
        return "No rule that is checked speaks against these files.\n"
    return "".join(
        f"{printable(severity)}: {printable(sentence)} [{printable(rule)}: {printable(', '.join(names))}]\n"
        for (severity, rule, sentence), names in rows.items()
    )


def _ended(entries: Iterable[HistoryEntryView]) -> str:
    rows = [
        (minute_words(entry.at), entry.reason, entry.who, entry.version, entry.filename, entry.sha256[:16])
        for entry in entries
    ]
    return table(("ENDED", "WHY", "BY", "VERSION", "FILE", "SHA256 (16 OF 64)"), rows)


def _staging(file: StagedFileView) -> tuple[str, str]:
    return minute_words(file.staged_at), file.who


def _staged(at: Server, project: str | None) -> StagedList:
    query = [] if project is None else [("project", project)]
    return run(at, Call(method="GET", path="/staged", query=query), StagedList)


def _release(at: Server, project: str, version: str) -> ReleaseView:
    return run(at, Call(method="GET", path=_release_path(project, version)), ReleaseView)


def _release_path(project: str, version: str) -> str:
    return f"/projects/{quote(project, safe='')}/{quote(version, safe='')}"


def _server(arguments: argparse.Namespace) -> Server:
    return server(arguments.url, os.environ)
