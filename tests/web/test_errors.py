"""The error tree: drawn whole, and every class of it has a status at every door."""

from collections.abc import Iterator
from http import HTTPStatus

import pytest

from overlay.domain import errors, promotion_errors
from overlay.domain.errors import LedgerBusy, OverlayError, RateExceeded, TooLarge
from overlay.web.errors import STATUSES, Door, answer, said, status_of


def tree(kind: type[OverlayError]) -> Iterator[type[OverlayError]]:
    """Walk the class and all below it."""
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


KINDS = sorted(set(tree(OverlayError)) - {OverlayError}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("door", list(Door))
@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_status_at_every_door(kind: type[OverlayError], door: Door) -> None:
    """A client's or the server's failure, never a LookupError and never a success."""
    error = kind.__new__(kind)  # its facts are of no account to the status
    assert HTTPStatus(status_of(error, door)) >= 400


def test_the_table_has_a_column_for_every_door() -> None:
    """And only rows of our own classes."""
    assert {len(row) for row in STATUSES.values()} == {len(Door)}
    assert set(STATUSES) <= set(KINDS)


def test_the_tree_is_drawn_whole() -> None:
    """The docstring names every class, and all of them are defined there or with the promotions'."""
    assert errors.__doc__ is not None
    drawn = errors.__doc__.replace(",", " ").split()
    assert [kind.__name__ for kind in KINDS if kind.__name__ not in drawn] == []
    assert {kind.__module__ for kind in KINDS} == {errors.__name__, promotion_errors.__name__}


@pytest.mark.parametrize("door", [Door.UPLOAD, Door.API])
def test_who_sends_too_many_is_told_when_to_come_back(door: Door) -> None:
    """In whole seconds, rounded up: whoever comes back then is let in."""
    for wait_s, told in ((0.000001, "1"), (6.0, "6"), (6.1, "7")):
        response = answer(RateExceeded("ada", per_minute=10, wait_s=wait_s), door, "application/json")
        assert (response.status, response.headers["Retry-After"]) == (429, told)


def test_only_what_passes_says_when_to_come_back() -> None:
    """An upload that is too large stays so, however often it is sent."""
    assert answer(LedgerBusy(), Door.UPLOAD, None).headers["Retry-After"] == "1"
    assert "Retry-After" not in answer(TooLarge("The file", 10), Door.UPLOAD, None).headers


def test_a_long_sentence_is_cut_at_a_word() -> None:
    """In the status line only, which is all that twine shows; the body has the whole of it."""
    response = said(400, "word " * 200, Door.UPLOAD, None, {})
    assert response.reason is not None
    assert len(response.reason) <= 300
    assert response.reason.endswith("word ...")
    assert response.text is not None
    assert response.text.count("word") == 200
