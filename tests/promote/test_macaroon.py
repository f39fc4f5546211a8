"""What a token says of itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.names import NormalizedName
from overlay.promote.macaroon import TokenFacts, read
from tests.promote.macaroons import token

# Normalized, as the packaging specification has it: no two dashes in a row (a token's names are normalized on reading).
NAMES = st.from_regex(r"[a-z0-9]{1,5}(-[a-z0-9]{1,5}){0,4}", fullmatch=True).map(NormalizedName)


@pytest.mark.parametrize(
    ("location", "beginning"), [("pypi.org", "pypi-AgEIcHlwaS5vcmc"), ("test.pypi.org", "pypi-AgENdGVzdC5weXBpLm9yZw")]
)
def test_the_documented_beginnings(location: str, beginning: str) -> None:
    """The tokens made here begin as the real ones do, and a beginning alone tells the index."""
    assert token(location=location).startswith(beginning)
    assert read(token(location=location)) == TokenFacts(location=location)
    facts = read(f"{beginning}0123456789abcdef0123456789")
    assert facts is not None
    assert facts.location == location


@given(st.lists(NAMES, max_size=30), st.integers(1, 2_000_000_000), st.integers(1, 2_000_000_000))
def test_caveats_come_back(projects: list[NormalizedName], first: int, second: int) -> None:
    """The earliest end counts, and the projects by name."""
    facts = read(token([0, first, 0], [1, projects], [0, second, 0], [3, "a-user"]))
    assert facts == TokenFacts(
        location="pypi.org", expires_s=min(first, second), projects=frozenset(projects), is_for_existing=True
    )


def test_limits_hold_together() -> None:
    """Two lists of projects leave what is in both; a list of numbers names no project but binds to existing ones."""
    facts = read(token([1, ["A.b", "c"]], [1, ["a-b", "d"]]))
    assert facts is not None
    assert facts.projects == frozenset({NormalizedName("a-b")})
    numbered = read(token([2, ["11111111-0000-0000-0000-000000000000"]]))
    assert numbered == TokenFacts(location="pypi.org", is_for_existing=True)


@pytest.mark.parametrize(
    "caveat", [[], ["x"], [0], [0, "soon"], [0, 10**400], [[1], 2], [1, "demo"], [1, [7, "!"]], [99, 1]]
)
def test_odd_caveats_say_nothing(caveat: list[object]) -> None:
    """What is none of PyPI's caveats sets no end and breaks nothing."""
    facts = read(token(caveat))
    assert facts is not None
    assert facts.expires_s is None


@given(st.text() | st.binary().map(lambda body: "pypi-" + body.hex()) | st.text().map(lambda text: f"pypi-{text}"))
def test_anything_may_be_read(text: str) -> None:
    """Whatever is pasted as a password, reading it raises nothing."""
    read(text)


@given(st.integers(0, 200))
def test_a_cut_token_still_tells_its_index(length: int) -> None:
    """A token cut anywhere is read as far as it goes."""
    whole = token([1, ["demo"]], [0, 5, 0])
    facts = read(whole[:length])
    assert facts is None or facts.location == "pypi.org"[: len(facts.location)]
