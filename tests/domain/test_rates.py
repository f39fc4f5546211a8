"""So many times a minute: never more, however they are spread."""

from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.rates import MINUTE_US, share_us, taken

START_US = 1_700_000_000_000_000


@given(per_minute=st.integers(1, 20), steps_us=st.lists(st.integers(0, MINUTE_US // 4), max_size=60))
def test_any_time_has_its_share_and_one_minutes_burst(per_minute: int, steps_us: list[int]) -> None:
    """All at once after a pause, then as fast as they are earned; whoever waits as told is served, and no sooner."""
    paid_until_us, now_us, times = 0, START_US, []
    for step_us in steps_us:
        now_us += step_us
        before_us = paid_until_us
        paid_until_us, wait_us = taken(paid_until_us, now_us, per_minute)
        if wait_us:
            assert paid_until_us == before_us
            assert taken(paid_until_us, now_us + wait_us - 1, per_minute)[1] == 1
            assert taken(paid_until_us, now_us + wait_us, per_minute)[1] == 0
        else:
            times.append(now_us)
    for first, began_us in enumerate(times):
        for count, ended_us in enumerate(times[first:], 1):
            assert count <= per_minute + (ended_us - began_us) / share_us(per_minute)
