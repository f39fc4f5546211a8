"""Tokens carry what they were given, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import InvalidName
from overlay.domain.names import MAIN, StageId, project_name
from overlay.domain.rights import Right, covers_stage, grant_for, mint, mistyped, project_pattern
from tests.staged import DEMO, token


@given(st.integers(min_value=0, max_value=2**256 - 1))
def test_a_minted_token_passes_its_own_checksum(bits: int) -> None:
    """And has the one form that scanners can know."""
    text = mint(bits)
    assert text.startswith("ovl_")
    assert len(text) == 50
    assert text[4:].isalnum()
    assert not mistyped(text)


@given(st.integers(min_value=0, max_value=2**256 - 1), st.integers(min_value=4, max_value=49))
def test_a_mistyped_token_is_told_apart(bits: int, at: int) -> None:
    """One wrong character breaks the checksum."""
    text = mint(bits)
    wrong = text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :]
    assert mistyped(wrong)


def test_an_operators_own_token_has_no_checksum() -> None:
    """OVERLAY_ADMIN_TOKEN may have any form after its prefix."""
    assert not mistyped("ovl_" + "x" * 40)
    assert not mistyped("something else")


@given(st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1))
def test_different_bits_give_different_tokens(one: int, other: int) -> None:
    """Of the 62**40 there are."""
    assert (mint(one) == mint(other)) == (one % 62**40 == other % 62**40)


@pytest.mark.parametrize(
    ("held", "asked", "expected"),
    [
        (Right.ADMIN, Right.STAGE, True),
        (Right.ADMIN, Right.READ, True),
        (Right.STAGE, Right.ADD, True),
        (Right.ADD, Right.STAGE, False),
        (Right.READ, Right.ADD, False),
        (Right.PROMOTE, Right.STAGE, False),
        (Right.STAGE, Right.PROMOTE, False),
    ],
)
def test_rights_do_not_spread(held: Right, asked: Right, *, expected: bool) -> None:
    """Admin is everything, stage includes add, nothing else implies anything."""
    assert token(held).allows(asked) is expected


@pytest.mark.parametrize(
    ("patterns", "project", "on_upstream", "expected"),
    [
        (("demo",), "demo", True, "demo"),
        (("demo",), "demo-x", False, None),
        (("acme-*",), "acme-tools", True, "acme-*"),
        (("acme-*",), "acme", True, None),
        (("acme-*",), "acmetools", False, None),
        (("*",), "anything", False, "*"),
        (("*",), "requests", True, None),
        (("*", "requests"), "requests", True, "requests"),
        ((), "demo", False, None),
    ],
)
def test_a_pattern_covers_what_it_says(
    patterns: tuple[str, ...], project: str, *, on_upstream: bool, expected: str | None
) -> None:
    """* covers only names that upstream does not have: the rule against dependency confusion."""
    assert grant_for(token(projects=patterns), project_name(project), on_upstream=on_upstream) == expected


def test_admin_may_stage_any_name() -> None:
    """Also one that upstream has."""
    assert grant_for(token(Right.ADMIN, projects=()), DEMO, on_upstream=True) == "admin"


def test_a_token_covers_its_stages_only() -> None:
    """By name, or all of them by *."""
    assert covers_stage(token(stages=("main",)), MAIN)
    assert not covers_stage(token(stages=("main",)), StageId("feature"))
    assert covers_stage(token(stages=("*",)), StageId("feature"))
    assert covers_stage(token(Right.ADMIN, stages=()), StageId("feature"))


def test_a_token_ends_at_its_second() -> None:
    """The end itself is excluded."""
    held = token(expires_at_s=1000)
    assert not held.expired(999.9)
    assert held.expired(1000)
    assert not token().expired(10**12)


@pytest.mark.parametrize(
    ("raw", "expected"), [("Foo.Bar", "foo-bar"), ("*", "*"), ("abc-*", "abc-*"), ("a1-b-*", "a1-b-*")]
)
def test_patterns_are_normalized(raw: str, expected: str) -> None:
    """An exact name becomes its PEP 503 form."""
    assert project_pattern(raw) == expected


@pytest.mark.parametrize("raw", ["", "ab-*", "*x", "abc*", "a*b-*", "-*", "ABC-*", "foo bar", "**"])
def test_what_is_no_pattern_is_refused(raw: str) -> None:
    """Short prefixes would cover half of PyPI."""
    with pytest.raises(InvalidName):
        project_pattern(raw)
