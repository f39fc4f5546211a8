"""What `overlay promote` shows while it works, on standard error: bars on a terminal, one line a step elsewhere."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Final, cast

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from overlay.cli.outlet import Outlet
from overlay.cli.runner import Runner
from overlay.cli.tables import printable
from overlay.domain.quantities import count_words, size_words
from overlay.domain.wire_promotions import PlanView, PromotedFileView
from overlay.promote.plan_check import release_of
from overlay.promote.progress import Progress as Hears

_SHOWN_DIGEST: Final = 16


@contextmanager
def shown(out: Outlet, environment: Mapping[str, str] = os.environ) -> Iterator[Hears]:
    """Show a run as long as the block lasts. What it hears raises nothing, also once nobody reads it."""
    if not out.isatty() or environment.get("CI"):
        yield Lines(out, Runner.of(environment))
        return
    console = Console(file=cast("IO[str]", out), highlight=False)
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield Bars(console, bars)


class Lines:
    """One line a step, for logs; in GitHub Actions warnings and secrets as its runner reads them."""

    def __init__(self, out: Outlet, runner: Runner) -> None:
        self._out = out
        self._runner = runner
        self._waited_for: tuple[tuple[str, ...], str] = ((), "")
        self._sizes: Mapping[str, int] = {}

    def planned(self, plan: PlanView) -> None:
        """Say what will be pushed, in which order."""
        self._sizes = _sizes(plan)
        self._say(_heading(plan))
        for file in _files(plan):
            self._say(f"  {file.filename}  {size_words(file.size_bytes)}  sha256:{file.sha256}{_came(file)}")
        for live in plan.already_live:
            self._say(f"  {live.filename} is live already")

    def warned(self, sentence: str) -> None:
        """Say a warning."""
        for line in sentence.splitlines():
            self._write(self._runner.warning(printable(line)))

    def fetched(self, filename: str, done_bytes: int) -> None:
        """Say which file is fetched."""
        if done_bytes == 0:
            self._say(f"fetching {filename} from the overlay")

    def pushing(self, filename: str, done_bytes: int) -> None:
        """Say which file is pushed."""
        if done_bytes == 0:
            self._say(f"pushing {filename} ({size_words(self._sizes.get(filename, 0))})")

    def pushed(self, filename: str) -> None:
        """Say what was accepted."""
        self._say(f"accepted {filename}")

    def waiting(self, filenames: Sequence[str], why: str) -> None:
        """Say what is waited for, once as long as it is the same."""
        waits = (tuple(filenames), why)
        if waits != self._waited_for:
            self._waited_for = waits
            self._say(f"waiting for {', '.join(filenames)}: {why}" if filenames else f"waiting: {why}")

    def live(self, filename: str, url: str | None) -> None:
        """Say what is live."""
        self._say(f"live {filename}{f'  {url}' if url else ''}")

    def mask(self, secret: str) -> None:
        """Tell GitHub's runner what to hide; nobody else hears of it."""
        if command := self._runner.mask(secret):
            self._write(command)

    def _say(self, line: str) -> None:
        self._write(self._runner.inert(printable(line)))

    def _write(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()


class Bars:
    """The plan as a table, then a bar for each file that is fetched, pushed or waited for."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self._console = console
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._waited_for = ""
        self._sizes: Mapping[str, int] = {}

    def planned(self, plan: PlanView) -> None:
        """Show the plan."""
        self._sizes = _sizes(plan)
        self._console.print(printable(_heading(plan)), markup=False)
        table = Table("FILE", "SIZE", "SHA256 (16 OF 64)", "HOW FAR", box=None, header_style="bold")
        for file in _files(plan):
            table.add_row(
                printable(file.filename),
                size_words(file.size_bytes),
                file.sha256[:_SHOWN_DIGEST],
                printable(file.state),
            )
        for live in plan.already_live:
            table.add_row(printable(live.filename), "", live.sha256[:_SHOWN_DIGEST], "live")
        self._console.print(table)

    def warned(self, sentence: str) -> None:
        """Show a warning above the bars."""
        for line in sentence.splitlines():
            self._console.print(f"warning: {printable(line)}", style="yellow", markup=False)

    def fetched(self, filename: str, done_bytes: int) -> None:
        """Move the bar."""
        self._move("fetching", filename, done_bytes)

    def pushing(self, filename: str, done_bytes: int) -> None:
        """Move the bar."""
        self._move("pushing", filename, done_bytes)

    def pushed(self, filename: str) -> None:
        """Show that upstream has it."""
        self._move("accepted", filename, self._sizes.get(filename, 0))

    def waiting(self, filenames: Sequence[str], why: str) -> None:
        """Show what is waited for; what is not about files above the bars, once as long as it is the same."""
        if not filenames and why != self._waited_for:
            self._waited_for = why
            self._console.print(f"waiting: {printable(why)}", markup=False)
        for filename in filenames:
            self._move(f"waiting ({why})", filename, self._sizes.get(filename, 0))

    def live(self, filename: str, url: str | None) -> None:
        """Show that it is live, above the bars."""
        task = self._tasks.pop(filename, None)
        if task is not None:
            self._bars.remove_task(task)
        self._console.print(f"live {printable(filename)}{f'  {printable(url)}' if url else ''}", markup=False)

    def mask(self, secret: str) -> None:
        """Do nothing: a terminal shows no secret."""

    def _move(self, doing: str, filename: str, done_bytes: int) -> None:
        total, words = self._sizes.get(filename), printable(f"{doing} {filename}")
        if filename not in self._tasks:
            self._tasks[filename] = self._bars.add_task(words, total=total)
        self._bars.update(self._tasks[filename], description=words, completed=done_bytes)


def _files(plan: PlanView) -> Sequence[PromotedFileView]:
    return () if plan.promotion is None else plan.promotion.files


def _sizes(plan: PlanView) -> Mapping[str, int]:
    return {file.filename: file.size_bytes for file in _files(plan)}


def _heading(plan: PlanView) -> str:
    if plan.promotion is None:
        return "Everything that was named is live already."
    releases = ", ".join(map(str, dict.fromkeys(map(release_of, plan.promotion.files))))
    return f"Promoting {releases} ({count_words(len(_files(plan)), 'file')}) to {plan.promotion.target}"


def _came(file: PromotedFileView) -> str:
    return "" if file.state == "planned" else f"  ({file.state} before)"
