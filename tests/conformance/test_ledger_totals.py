"""Every StageLedger counts what is staged, in all and by token, whatever happens to it."""

from dataclasses import replace

import pytest

from overlay.domain.errors import FileExists
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import StageId
from overlay.domain.stage import Reason, StagedFile, Totals
from tests.ledgers import NOW_US, stage
from tests.staged import DEMO, staged_file, upload_of

NOTHING = Totals(files=0, size_bytes=0, oldest_staged_at_us=None)
WITHDRAWN = Ending(Reason.WITHDRAWN, NOW_US + 5, "bob")


def totals_of(*files: StagedFile) -> Totals:
    return Totals(
        files=len(files),
        size_bytes=sum(file.size_bytes for file in files),
        oldest_staged_at_us=min((file.staged_at_us for file in files), default=None),
    )


async def test_nothing_staged_is_nothing(ledger: StageLedger) -> None:
    """No age is told of what is not there, and a token that staged nothing has nothing staged."""
    assert await ledger.totals() == NOTHING
    assert await ledger.bytes_staged_by("t1") == 0


async def test_everything_staged_counts_wherever_it_is(ledger: StageLedger) -> None:
    """Whatever the project, the stage and the order; the oldest is the one staged first, not the first that came."""
    files = [
        staged_file(3, content="333", token_id="a"),
        staged_file(1, project="other", filename="other-1.0.tar.gz", content="1", token_id="b"),
        staged_file(2, stage=StageId("flag-day"), content="22", token_id="a"),
    ]
    for number, file in enumerate(files, 1):
        await stage(ledger, file)
        assert await ledger.totals() == totals_of(*files[:number])
    assert await ledger.bytes_staged_by("a") == 5
    assert await ledger.bytes_staged_by("b") == 1


async def test_a_replacement_counts_for_the_token_that_brought_it(ledger: StageLedger) -> None:
    """The file that it replaced counts for nobody any more, and is nobody's age."""
    old, new = staged_file(1, content="long content", token_id="a"), staged_file(2, content="new", token_id="b")
    await stage(ledger, old)
    await stage(ledger, new)
    assert await ledger.totals() == totals_of(new)
    assert await ledger.bytes_staged_by("a") == 0
    assert await ledger.bytes_staged_by("b") == 3


async def test_what_is_not_shown_counts_nowhere(ledger: StageLedger) -> None:
    """A repeat, the loser of a race, the same bytes again, and a refusal change no number."""
    held = staged_file(5, content="held", token_id="a")
    await stage(ledger, held)
    await stage(ledger, held)
    await stage(ledger, staged_file(4, content="late", token_id="b"))
    await stage(ledger, staged_file(6, content="held", token_id="b"))
    with pytest.raises(FileExists):
        await stage(ledger, staged_file(7, content="refused", token_id="b"), replace=False)
    assert await ledger.totals() == totals_of(held)
    assert await ledger.bytes_staged_by("a") == 4
    assert await ledger.bytes_staged_by("b") == 0


async def test_the_oldest_is_told_while_files_come_and_go(ledger: StageLedger) -> None:
    """The next oldest follows, as often as the oldest goes; many more come and go than stay."""
    kept = staged_file(500, filename="demo-500.tar.gz")
    await stage(ledger, kept)
    for number in range(1, 400):
        file = staged_file(number, filename=f"demo-{number}.tar.gz")
        await stage(ledger, file)
        if number > 2:
            oldest = staged_file(number - 2, filename=f"demo-{number - 2}.tar.gz")
            assert (await ledger.totals()).oldest_staged_at_us == oldest.staged_at_us
            await ledger.forget(DEMO, [oldest.upload_id], WITHDRAWN)
    assert (await ledger.totals()).files == 3
    await ledger.forget(DEMO, [upload_of(399), upload_of(398)], WITHDRAWN)
    assert await ledger.totals() == totals_of(kept)


async def test_a_file_of_no_bytes_goes_as_it_came(ledger: StageLedger) -> None:
    """Minus nothing is nothing."""
    file = staged_file(content="")
    await stage(ledger, file)
    assert await ledger.totals() == totals_of(file)
    assert await ledger.forget(DEMO, [file.upload_id], WITHDRAWN)
    assert await ledger.totals() == NOTHING


async def test_a_load_counts_what_it_brings_and_nothing_else(ledger: StageLedger) -> None:
    """Also where it brings more than goes out at once; sizes beyond four gigabytes are whole numbers still."""
    await stage(ledger, staged_file(1, token_id="gone"))
    files = [
        replace(
            staged_file(number, filename=f"demo-{number}.tar.gz", token_id=f"t{number % 3}"),
            size_bytes=5_000_000_000 + number,
        )
        for number in range(2000, 1000, -1)
    ]
    await ledger.load(files, ())
    assert await ledger.totals() == totals_of(*files)
    assert await ledger.bytes_staged_by("gone") == 0
    for token_id in ("t0", "t1", "t2"):
        own = sum(file.size_bytes for file in files if file.token_id == token_id)
        assert await ledger.bytes_staged_by(token_id) == own
