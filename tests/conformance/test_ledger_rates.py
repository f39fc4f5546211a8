"""Every StageLedger gives each token its uploads a minute, and no more."""

import pytest

from overlay.domain.ledger_port import StageLedger
from overlay.domain.rates import MINUTE_US
from tests.ledgers import NOW_US, LedgerClock


@pytest.mark.parametrize("per_minute", [1, 2, 7, 60])
async def test_a_minutes_uploads_may_come_at_once(ledger: StageLedger, clock: LedgerClock, per_minute: int) -> None:
    """Then one has to wait as long as it says, and no longer, for each further one."""
    assert [await ledger.spend("a", per_minute=per_minute) for _ in range(per_minute)] == [0.0] * per_minute
    for _ in range(3):
        wait_s = await ledger.spend("a", per_minute=per_minute)
        assert wait_s == pytest.approx(60 / per_minute, abs=1e-5)
        clock.now_us += round(wait_s * 1_000_000) - 1
        assert await ledger.spend("a", per_minute=per_minute) == pytest.approx(1e-6)
        clock.now_us += 1
        assert await ledger.spend("a", per_minute=per_minute) == 0.0
    clock.now_us += MINUTE_US
    assert [await ledger.spend("a", per_minute=per_minute) for _ in range(per_minute)] == [0.0] * per_minute


async def test_a_refusal_takes_nothing(ledger: StageLedger) -> None:
    """Who asks again and again waits no longer for it."""
    assert await ledger.spend("a", per_minute=1) == 0.0
    assert [await ledger.spend("a", per_minute=1) for _ in range(5)] == [60.0] * 5


async def test_tokens_spend_what_is_their_own(ledger: StageLedger) -> None:
    """One that sends too many takes nothing from another."""
    assert await ledger.spend("a", per_minute=1) == 0.0
    assert await ledger.spend("a", per_minute=1) > 0
    assert await ledger.spend("b", per_minute=1) == 0.0


async def test_a_greater_allowance_holds_at_once(ledger: StageLedger) -> None:
    """As after the operator changed it; what was taken before still counts."""
    assert await ledger.spend("a", per_minute=2) == 0.0
    assert await ledger.spend("a", per_minute=2) == 0.0
    assert await ledger.spend("a", per_minute=2) == 30.0
    assert await ledger.spend("a", per_minute=60) == 1.0


@pytest.mark.parametrize("back_us", [2 * MINUTE_US, 86_400_000_000])
async def test_a_clock_that_is_set_back_locks_nobody_out(ledger: StageLedger, clock: LedgerClock, back_us: int) -> None:
    """What a clock far ahead wrote is forgotten: hosts' clocks differ, and some are wrong."""
    clock.now_us = NOW_US + back_us
    assert await ledger.spend("a", per_minute=1) == 0.0
    clock.now_us = NOW_US
    assert await ledger.spend("a", per_minute=1) == 0.0
    assert await ledger.spend("a", per_minute=1) == 60.0


async def test_a_rebuild_forgets_what_was_spent(ledger: StageLedger) -> None:
    """It is no durable truth."""
    assert await ledger.spend("a", per_minute=1) == 0.0
    await ledger.load((), ())
    assert await ledger.spend("a", per_minute=1) == 0.0
