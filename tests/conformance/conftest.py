"""The ledgers that the suites run over."""

from collections.abc import AsyncIterator

import pytest

from overlay.domain.ledger_port import StageLedger
from tests.ledgers import LEDGERS, LedgerClock, MakeLedger


@pytest.fixture
def clock() -> LedgerClock:
    """Make the clock of the test's ledger."""
    return LedgerClock()


@pytest.fixture(params=LEDGERS)
async def fresh(request: pytest.FixtureRequest, clock: LedgerClock) -> AsyncIterator[StageLedger]:
    """Open a ledger that is not loaded."""
    make: MakeLedger = request.param
    async with make(request, clock) as made:
        yield made


@pytest.fixture
async def ledger(fresh: StageLedger) -> StageLedger:
    """Open a ledger that holds nothing."""
    await fresh.load((), ())
    return fresh
