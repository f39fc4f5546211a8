"""Tables are aligned, and nothing in them can steer a terminal."""

from overlay.cli.tables import printable, table


def test_columns_are_aligned_and_lines_end_without_blanks() -> None:
    assert table(("A", "LONG HEAD"), [("wide cell", "x"), ("b", "")]) == "A          LONG HEAD\nwide cell  x\nb\n"


def test_control_characters_are_replaced() -> None:
    assert printable("a\x1b[31mb\x07\u202ec") == "a�[31mb��c"
    assert "\x1b" not in table(("A",), [("\x1b]0;title\x07",)])
