"""Quantities in words for people."""

import pytest

from overlay.domain.quantities import count_words, minute_words, size_words


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (340 * 1024, "340 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**3, "1.0 GiB"),
        (5 * 1024**5, "5120 TiB"),
    ],
)
def test_a_size_has_two_or_three_digits_and_the_unit_that_fits(size_bytes: int, words: str) -> None:
    assert size_words(size_bytes) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1200, "1,200 files")])
def test_a_count_agrees_with_its_noun(count: int, words: str) -> None:
    assert count_words(count, "file") == words


def test_a_time_is_cut_to_its_minute() -> None:
    assert minute_words("2026-01-31T08:15:59.999999Z") == "2026-01-31 08:15 UTC"
