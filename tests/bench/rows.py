"""What a measure yields, and the table of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """One measured value beside performance.md's target; `lower`: the smaller the better."""

    measure: str
    value: float
    unit: str
    aim: float
    floor: float
    lower: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        sign = -1 if self.lower else 1
        if sign * self.value >= sign * self.aim:
            return "aim"
        return "ok" if sign * self.value >= sign * self.floor else "MISSED"


def ratio(measured: Iterable[float], counterpart: Iterable[float]) -> float:
    """Compare two series of interleaved rounds: the median of the rounds' ratios, for neighbours come and go."""
    return median(one / other for one, other in zip(measured, counterpart, strict=True))


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """Form the table, a line at a time."""
    yield f"{'measure':58} {'measured':>10} {'aim':>9} {'never':>9}         "
    for row in rows:
        shown = [f"{number:.3g} {row.unit}" for number in (row.value, row.aim, row.floor)]
        yield f"{row.measure:58} {shown[0]:>10} {shown[1]:>9} {shown[2]:>9}  {row.verdict:6} {row.note}"
