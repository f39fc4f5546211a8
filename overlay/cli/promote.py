"""`overlay promote`: push staged files to the live index, with the identity of whoever runs it."""

import argparse
import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from urllib.parse import quote

from overlay.caching.threads import in_thread
from overlay.cli.client import Call, Connection, Server, server
from overlay.cli.manage import print_json, sums
from overlay.cli.outcome import FAILED, REFUSED, USAGE, CommandFailed
from overlay.cli.promote_progress import shown
from overlay.cli.promote_report import closing, report, summarize
from overlay.cli.promotion_client import PromotionClient
from overlay.cli.tables import printable
from overlay.domain.wire import MAIN_STAGE, ReleaseView
from overlay.domain.wire_promotions import PromotionOrder, PromotionView
from overlay.promote import pledge
from overlay.promote.course import Options
from overlay.promote.errors import Misused, PledgeMissing, PromoteError
from overlay.promote.outfit import outfit
from overlay.promote.pledge import Pledged
from overlay.promote.result import Result
from overlay.promote.run import promote as run_promotion

_UNDER_WAY = frozenset({"running", "waiting"})


def promote(arguments: argparse.Namespace) -> int:
    """Promote, or give up what is being promoted."""
    at = server(arguments.url, os.environ)
    if arguments.abandon:
        return asyncio.run(_abandon(at, arguments.named, json=arguments.json))
    try:
        result = asyncio.run(_until_told(_promote(at, arguments)))
    except asyncio.CancelledError:
        raise CommandFailed(
            "Stopped. If something was being pushed, the same command goes on where this one stopped.", FAILED
        ) from None
    except PromoteError as err:
        result = Result(ending=err.ending, promotion=None, target="", files=(), problem=str(err))
    if arguments.json:
        print_json(report(result))
    else:
        print(closing(result), end="")
    summarize(result, os.environ)
    return int(result.ending)


async def _until_told(work: Coroutine[None, None, Result]) -> Result:
    """Do the work; SIGTERM, with which CI systems cancel a job, ends it as Ctrl-C does: the lease is let go."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _promote(at: Server, arguments: argparse.Namespace) -> Result:
    async with Connection(at) as connection:
        pledged = await _pledged(connection, arguments)
        for skipped in pledged.skipped:
            sys.stderr.write(printable(f"skipped {skipped.name}: {skipped.why}") + "\n")
        order = PromotionOrder(
            releases=pledged.releases,
            pledges=pledged.pledges,
            holder=secrets.token_hex(16),
            partial=arguments.partial,
            ignore_rules=tuple(arguments.ignored or ()),
        )
        options = Options(dry_run=arguments.dry_run, wait=arguments.wait, timeout_s=float(arguments.timeout_s))
        client = PromotionClient(connection)
        with shown() as progress:
            made = outfit(client, progress, environment=os.environ, home=Path.home(), attest=arguments.attest)
            async with made as tools:
                return await run_promotion(order, options, tools)


async def _pledged(connection: Connection, arguments: argparse.Namespace) -> Pledged:
    """Read what is pledged; on a terminal ask where nothing is. Raises Misused."""
    try:
        return await in_thread(pledge.collect, arguments.named, arguments.expected or [])
    except PledgeMissing as missing:
        if arguments.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        answers = await _asked(connection, missing.releases)
    return await in_thread(pledge.collect, arguments.named, [*(arguments.expected or []), *answers])


async def _asked(connection: Connection, releases: Sequence[str]) -> list[str]:
    """Show what is staged and ask whether that is meant. Raises CommandFailed."""
    expected = []
    for release in releases:
        project, _, version = release.partition("==")
        path = f"/projects/{quote(project, safe='')}/{quote(version, safe='')}"
        staged = await connection.call(Call(method="GET", path=path), ReleaseView)
        sys.stderr.write(f"Staged of {printable(release)}:\n{sums(staged.files)}")
        expected += [f"{file.filename}=sha256:{file.sha256}" for file in staged.files]
    sys.stderr.write("Promote exactly these bytes? [y/N] ")
    sys.stderr.flush()
    if (await in_thread(sys.stdin.readline)).strip().lower() not in {"y", "yes"}:
        raise CommandFailed("Nothing was promoted.", REFUSED)
    return expected


async def _abandon(at: Server, named: Sequence[str], *, json: bool) -> int:
    try:
        releases = [pledge.release(name) for name in named]
    except Misused as err:
        raise CommandFailed(str(err), USAGE) from err
    if not releases:
        raise CommandFailed("Which release's promotion is given up? Name it: PROJECT==VERSION.", USAGE)
    async with Connection(at) as connection:
        client = PromotionClient(connection)
        try:
            found = await client.find(releases, MAIN_STAGE)
            under_way = [one for one in found.promotions if one.state in _UNDER_WAY]
            if not under_way:
                raise CommandFailed(f"No promotion of {', '.join(releases)} is under way.", FAILED)
            given_up = [await client.abandon(one.id) for one in under_way]
        except PromoteError as err:
            raise CommandFailed(str(err), int(err.ending)) from err
    for view in given_up:
        if json:
            print_json(view)
        else:
            print(_given_up(view), end="")
    return 0


def _given_up(view: PromotionView) -> str:
    out = [file.filename for file in view.files if file.state != "planned"]
    words = f"Given up: the promotion by {view.who}. Its files are only staged again"
    if not out:
        return printable(f"{words}; nothing of it was pushed.") + "\n"
    lines = "".join(f"  {printable(file.filename)}  {printable(file.state)}\n" for file in view.files)
    return printable(f"{words}, unless upstream has them:") + "\n" + lines
