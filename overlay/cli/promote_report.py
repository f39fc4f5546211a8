"""How `overlay promote` says how it ended: for people, as JSON, and as GitHub's step summary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from msgspec import Struct

from overlay.cli.runner import Runner
from overlay.cli.tables import printable, table
from overlay.domain.promotion import FileState
from overlay.domain.wire_promotions import IgnoredView, RefusalView
from overlay.promote.errors import Ending
from overlay.promote.result import FileResult, Result

# What a URL is made of (RFC 3986), but for what ends a link or a cell; `%` is of what is encoded already.
_IN_LINKS: Final = ":/?#@!$&'+,;=%~"
_NOBODY: Final = Runner(is_github=False)


Outcome = Literal["live", "accepted", "planned", "failed", "refused"]


class PromotedFile(Struct, frozen=True, kw_only=True):
    """How far one file came: planned, pushing (upstream may have it), pushed (accepted) or live."""

    project: str
    version: str
    filename: str
    sha256: str
    state: FileState
    url: str | None
    status: int | None
    said: str
    attestations: str


class PromoteReport(Struct, frozen=True, kw_only=True):
    """What `overlay promote --json` prints: accepted is said with --no-wait, planned with --dry-run."""

    outcome: Outcome
    exit_code: int
    promotion: str | None
    target: str
    problem: str
    files: tuple[PromotedFile, ...]
    who: str | None = None
    """Who planned the promotion, and when; null where nothing had to be planned, or nothing could be."""
    planned_at: str | None = None
    ignored: tuple[IgnoredView, ...] = ()
    refusals: tuple[RefusalView, ...] = ()
    """Why the overlay planned nothing: every reason."""
    receipt: str | None = None
    """The receipt's URL; null as long as the promotion has not ended."""


def report(result: Result) -> PromoteReport:
    """Form the report."""
    return PromoteReport(
        outcome=_outcome(result),
        exit_code=int(result.ending),
        promotion=result.promotion,
        target=result.target,
        problem=result.problem,
        files=tuple(_file(file) for file in result.files),
        who=result.who,
        planned_at=result.planned_at,
        ignored=result.ignored,
        refusals=result.refusals,
        receipt=result.receipt or None,
    )


def closing(result: Result, runner: Runner = _NOBODY) -> str:
    """Form the lines that end a run on a terminal or in a log."""
    rows = [(file.filename, _words(file), file.url or "") for file in result.files]
    lines = [table(("FILE", "STATE", "URL"), rows)] if rows else []
    lines += [f"{file.filename}: {file.attestations}\n" for file in result.files if file.attestations]
    lines += [f"{sentence}\n" for sentence in _ignored(result)]
    lines += [f"{line}\n" for line in _promotion(result)]
    lines.append(_sentence(result) + "\n")
    # Nothing may steer the terminal, nor whoever else reads it.
    return "".join(f"{runner.inert(printable(line))}\n" for text in lines for line in text.splitlines())


def summarize(result: Result, environment: Mapping[str, str]) -> None:
    """Append the outcome to GitHub's step summary, where there is one."""
    named = environment.get("GITHUB_STEP_SUMMARY")
    if not named:
        return
    with Path(named).open("a", encoding="utf-8") as summary:
        summary.write(summary_of(result))


def summary_of(result: Result) -> str:
    """Form the step summary (Markdown)."""
    lines = [f"### overlay promote: {_outcome(result)}", "", _cell(_sentence(result)), ""]
    if result.files:
        lines += ["| file | state | sha256 |", "| --- | --- | --- |"]
        lines += [f"| {_linked(file)} | {_cell(_words(file))} | `{file.sha256}` |" for file in result.files]
        lines.append("")
    for sentence in _ignored(result):
        lines += [_cell(sentence), ""]
    for line in _promotion(result):
        lines += [_cell(line), ""]
    return "\n".join(lines) + "\n"


def _outcome(result: Result) -> Outcome:
    match result.ending:
        case Ending.DONE if result.dry_run:
            return "planned"
        case Ending.DONE:
            return "live" if all(file.state is FileState.LIVE for file in result.files) else "accepted"
        case Ending.REFUSED:
            return "refused"
        case _:
            return "failed"


def _sentence(result: Result) -> str:
    match _outcome(result):
        case "planned":
            return "Nothing speaks against this promotion, and nothing was pushed (--dry-run)."
        case "live":
            return "All files are live."
        case "accepted":
            return f"{result.target} accepted all files; the overlay notices when they are live (--no-wait)."
        case _:
            return f"{result.problem}\n{_out(result)}"


def _out(result: Result) -> str:
    """Say what is out though the run ended before its end."""
    if result.may_be_out:
        return "Some of it may be out. The same command goes on where this one stopped."
    if any(file.state is FileState.LIVE for file in result.files):
        return "The files shown as live are out; nothing else is."
    if result.promotion is None:
        return f"This run pushed nothing{_earlier(result.releases)}."
    return "Nothing was pushed."


def _earlier(releases: Sequence[str]) -> str:
    """Say where it stands what another run pushed: of that nobody told this one."""
    if not releases:
        return ""
    looks = ", ".join(f"`overlay show {release}`" for release in releases)
    return f"; {looks} {'says' if len(releases) == 1 else 'say'} how far an earlier one came"


def _promotion(result: Result) -> list[str]:
    """Say what this promotion is called, whose it is, and where its receipt is; nothing where there is none."""
    if result.promotion is None:
        return []
    receipt = f" Receipt: {result.receipt}" if result.receipt else ""
    return [f"Promotion {result.promotion}, planned by {result.who}, {result.planned_at}.{receipt}"]


def _ignored(result: Result) -> list[str]:
    return [f"Ignored by wish ({one.rule}): {one.sentence}" for one in result.ignored]


def _words(file: FileResult) -> str:
    answer = f" ({file.status} {file.said})".replace(" )", ")") if file.status and not _went_well(file) else ""
    match file.state:
        case FileState.PLANNED:
            return f"not pushed{answer}"
        case FileState.PUSHING:
            return f"not known to be out{answer}"
        case FileState.PUSHED:
            return "accepted"
        case FileState.LIVE:
            return "live"


def _went_well(file: FileResult) -> bool:
    return file.state in {FileState.PUSHED, FileState.LIVE}


def _file(file: FileResult) -> PromotedFile:
    return PromotedFile(
        project=file.project,
        version=file.version,
        filename=file.filename,
        sha256=file.sha256,
        state=file.state,
        url=file.url,
        status=file.status,
        said=file.said,
        attestations=file.attestations,
    )


def _linked(file: FileResult) -> str:
    return f"[{_cell(file.filename)}]({quote(file.url, safe=_IN_LINKS)})" if file.url else _cell(file.filename)


def _cell(text: str) -> str:
    """Escape what Markdown and tables would take for themselves."""
    return "".join(
        f"\\{letter}" if letter in "\\`*_{}[]<>|#" else letter for letter in printable(" ".join(text.split()))
    )
