"""`overlay promote`: push staged files to the live index, with the identity of whoever runs it."""

import argparse
import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from overlay.caching.threads import in_thread
from overlay.cli.client import Call, Connection, Server, server
from overlay.cli.manage import json_text, sums
from overlay.cli.outcome import DONE, FAILED, REFUSED, USAGE, CommandFailed
from overlay.cli.outlet import Outlet
from overlay.cli.promote_progress import shown
from overlay.cli.promote_report import closing, report, summarize
from overlay.cli.promotion_client import PromotionClient
from overlay.cli.runner import Runner
from overlay.cli.tables import printable
from overlay.domain.wire import API, MAIN_STAGE, ReleaseView
from overlay.domain.wire_promotions import PromotionList, PromotionOrder, PromotionView
from overlay.promote import pledge
from overlay.promote.attestations import Attesting
from overlay.promote.course import Options
from overlay.promote.errors import Ending, Misused, PlanRefused, PledgeMissing, PromoteError
from overlay.promote.outfit import outfit
from overlay.promote.pledge import Pledged
from overlay.promote.result import Result
from overlay.promote.run import promote as run_promotion

_TIMEOUT_S: Final = 600.0


def promote(arguments: argparse.Namespace) -> int:
    """Promote, or give up what is being promoted; the exit code says how that ended, also once nobody reads on."""
    said = Said(out=Outlet(sys.stdout), err=Outlet(sys.stderr))
    if arguments.abandon:
        return _given_up_by(arguments, said)
    try:
        result = _run(arguments, said)
    except CommandFailed as err:
        if arguments.json:  # whoever asked for JSON reads how it ended there, whatever ended it
            said.report(json_text(report(_nothing_done(Ending(err.code), str(err)))) + "\n")
        raise
    if arguments.json:
        said.report(json_text(report(result)) + "\n")
    else:
        said.report(closing(result, runner=Runner.of(os.environ)))
    _summarize(result, said)
    return int(result.ending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Where a run says what it does (`err`) and how it ended (`out`)."""

    out: Outlet
    err: Outlet

    def report(self, text: str) -> None:
        """Say how it ended; where that cannot be read, say so on standard error."""
        self.out.write(text)
        self.out.flush()
        if (broken := self.out.broken) is not None:
            self.warn(f"the report cannot be written: {broken.strerror or broken}")

    def warn(self, sentence: str) -> None:
        """Say what changes nothing about how it ended."""
        self.err.write(f"overlay: warning: {sentence}\n")


def _run(arguments: argparse.Namespace, said: Said) -> Result:
    """Run the promotion to its end. Raises CommandFailed before there is one."""
    at = server(arguments.url, os.environ)
    try:
        return asyncio.run(_until_told(_promote(at, arguments, said)))
    except (asyncio.CancelledError, KeyboardInterrupt):  # while planning, or twice: else there is a result
        raise CommandFailed(
            "Stopped. If something was being pushed, the same command goes on where this one stopped.", FAILED
        ) from None
    except PromoteError as err:
        return _nothing_done(err.ending, str(err))


def _nothing_done(ending: Ending, problem: str, releases: tuple[str, ...] = ()) -> Result:
    return Result(ending=ending, promotion=None, target="", files=(), problem=problem, releases=releases)


def _summarize(result: Result, said: Said) -> None:
    """Write the step summary; what is live is live without it, too."""
    try:
        summarize(result, os.environ)
    except OSError as err:
        said.warn(f"the step summary cannot be written: {err.strerror or err}")


async def _until_told(work: Coroutine[None, None, Result]) -> Result:
    """Do the work; SIGTERM, with which CI systems cancel a job, ends it as Ctrl-C does: the lease is let go."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _promote(at: Server, arguments: argparse.Namespace, said: Said) -> Result:
    async with Connection(at) as connection:
        pledged = await _pledged(connection, arguments, said.err)
        for skipped in pledged.skipped:
            said.err.write(Runner.of(os.environ).inert(printable(f"skipped {skipped.name}: {skipped.why}")) + "\n")
        order = PromotionOrder(
            releases=pledged.releases,
            pledges=pledged.pledges,
            holder=secrets.token_hex(16),
            partial=arguments.partial,
            ignore_rules=tuple(arguments.ignored or ()),
        )
        options = Options(dry_run=arguments.dry_run, wait=arguments.wait, timeout_s=_timeout_s(arguments))
        client = PromotionClient(connection)
        environment = {**os.environ, "OVERLAY_URL": str(at.url)}  # also where --url named it
        try:
            with shown(said.err) as progress:
                attesting = _attesting(arguments)
                made = outfit(client, progress, environment=environment, home=Path.home(), attesting=attesting)
                async with made as tools:
                    result = await run_promotion(order, options, tools)
        except PlanRefused as err:
            return replace(_nothing_done(err.ending, str(err), pledged.releases), refusals=err.refusals)
        except PromoteError as err:
            return _nothing_done(err.ending, str(err), pledged.releases)
        if not result.ended or result.promotion is None:
            return result
        return replace(result, receipt=f"{at.url}{API}/promotions/{quote(result.promotion, safe='')}")


def _timeout_s(arguments: argparse.Namespace) -> float:
    return _TIMEOUT_S if arguments.timeout_s is None else float(arguments.timeout_s)


def _attesting(arguments: argparse.Namespace) -> Attesting:
    if arguments.attest:
        return Attesting.SIGNED
    return Attesting.STAGED if arguments.attestations else Attesting.NONE


async def _pledged(connection: Connection, arguments: argparse.Namespace, err: Outlet) -> Pledged:
    """Read what is pledged; on a terminal ask where nothing is. Raises Misused."""
    try:
        return await in_thread(pledge.collect, arguments.named, arguments.expected or [])
    except PledgeMissing as missing:
        if arguments.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        answers = await _asked(connection, missing.releases, err)
    return await in_thread(pledge.collect, arguments.named, [*(arguments.expected or []), *answers])


async def _asked(connection: Connection, releases: Sequence[str], err: Outlet) -> list[str]:
    """Show what is staged and ask whether that is meant. Raises CommandFailed."""
    expected = []
    for release in releases:
        project, _, version = release.partition("==")
        path = f"/projects/{quote(project, safe='')}/{quote(version, safe='')}"
        staged = await connection.call(Call(method="GET", path=path), ReleaseView)
        err.write(f"Staged of {printable(release)}:\n{sums(staged.files)}")
        expected += [f"{file.filename}=sha256:{file.sha256}" for file in staged.files]
    err.write("Promote exactly these bytes? [y/N] ")
    err.flush()
    if (await _line()).strip().lower() not in {"y", "yes"}:
        raise CommandFailed("Nothing was promoted.", REFUSED)
    return expected


async def _line() -> str:
    """Read a line that is typed; unlike in a thread, which nobody can stop, the wait for it ends with Ctrl-C."""
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, typed.set)
    try:
        await typed.wait()  # a terminal has something to read once the line is complete
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline()


def _given_up_by(arguments: argparse.Namespace, said: Said) -> int:
    """Abandon what is named. Raises CommandFailed, also where something else is ordered with it."""
    if others := [option for option, is_given in _orders(arguments) if is_given]:
        raise CommandFailed(f"--abandon gives a promotion up and promotes nothing: leave out {others[0]}.", USAGE)
    given_up = asyncio.run(_abandon(server(arguments.url, os.environ), arguments.named))
    if arguments.json:
        said.report(json_text(PromotionList(promotions=given_up)) + "\n")
    else:
        said.report("".join(_given_up(view) for view in given_up))
    return DONE


def _orders(arguments: argparse.Namespace) -> Sequence[tuple[str, bool]]:
    """Say which options that are about promoting were given."""
    return (
        ("--expect", bool(arguments.expected)),
        ("--partial", arguments.partial),
        ("--ignore-rule", bool(arguments.ignored)),
        ("--dry-run", arguments.dry_run),
        ("--no-wait", not arguments.wait),
        ("--timeout", arguments.timeout_s is not None),
        ("--attest", arguments.attest),
        ("--no-attestations", not arguments.attestations),
    )


async def _abandon(at: Server, named: Sequence[str]) -> tuple[PromotionView, ...]:
    """Abandon what is under way of these releases; return the receipts. Raises CommandFailed."""
    try:
        releases = [str(pledge.release(name)) for name in named]
    except Misused as err:
        raise CommandFailed(str(err), USAGE) from err
    if not releases:
        raise CommandFailed("Which release's promotion is given up? Name it: PROJECT==VERSION.", USAGE)
    async with Connection(at) as connection:
        client = PromotionClient(connection)
        try:
            under_way = (await client.under_way(releases, MAIN_STAGE)).promotions
            if not under_way:
                raise CommandFailed(f"No promotion of {', '.join(releases)} is under way.", FAILED)
            return tuple([await client.abandon(one.id) for one in under_way])
        except PromoteError as err:
            raise CommandFailed(str(err), int(err.ending)) from err


def _given_up(view: PromotionView) -> str:
    out = [file.filename for file in view.files if file.state != "planned"]
    words = f"Given up: the promotion by {view.who}. Its files are only staged again"
    if not out:
        return printable(f"{words}; nothing of it was pushed.") + "\n"
    lines = "".join(f"  {printable(file.filename)}  {printable(file.state)}\n" for file in view.files)
    return printable(f"{words}, unless upstream has them:") + "\n" + lines
