"""What the journal of a promotion says after entries that may come late, or twice."""

import itertools

import pytest

from overlay.domain.names import UploadId
from overlay.domain.promotion import FileState, JournalEntry, further

PLANNED, PUSHING, PUSHED, LIVE = FileState


def entry(state: FileState, attempt: int = 1, fence: int = 1) -> JournalEntry:
    return JournalEntry(upload_id=UploadId("a" * 32), state=state, at_us=1, fence=fence, attempt=attempt)


@pytest.mark.parametrize("state", FileState)
def test_the_first_entry_stands(state: FileState) -> None:
    """Whatever it says."""
    assert further(None, entry(state)) == entry(state)


@pytest.mark.parametrize("attempt", [1, 2])
def test_an_attempt_that_came_to_nothing_is_taken_back(attempt: int) -> None:
    """The attempt itself, or a later one of a run that knows the ones before to have come to nothing, too."""
    assert further(entry(PUSHING), entry(PLANNED, attempt)).state is PLANNED


@pytest.mark.parametrize(("attempt", "fence"), [(2, 1), (1, 2)])
def test_what_is_said_late_of_an_earlier_attempt_changes_nothing(attempt: int, fence: int) -> None:
    """A repeated call of the same run, or one of a run that was overtaken, takes no newer attempt back."""
    now = entry(PUSHING, attempt, fence)
    assert further(now, entry(PLANNED)) == now
    assert further(entry(PLANNED, attempt, fence), entry(PUSHING)) == entry(PLANNED, attempt, fence)


def test_an_attempt_that_was_taken_back_does_not_come_again() -> None:
    """Its `pushing`, repeated after a lost answer, may arrive last; the next attempt's counts."""
    assert further(entry(PLANNED), entry(PUSHING)) == entry(PLANNED)
    assert further(entry(PLANNED), entry(PUSHING, 2)) == entry(PUSHING, 2)


@pytest.mark.parametrize(
    ("sure", "said", "attempt", "fence"), list(itertools.product((PUSHED, LIVE), FileState, (0, 1, 2), (1, 2, 3)))
)
def test_what_upstream_has_is_never_taken_back(sure: FileState, said: FileState, attempt: int, fence: int) -> None:
    """Nor is it overlooked when it is said late."""
    furthest = LIVE if LIVE in {sure, said} else sure
    assert further(entry(sure, 1, 2), entry(said, attempt, fence)).state is furthest
    assert further(entry(said, attempt, fence), entry(sure, 1, 2)).state is furthest
