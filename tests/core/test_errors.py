"""The one line of an error: printable and not endless, whatever a file puts into it."""

from __future__ import annotations

from fivefold.core.errors import LONGEST_PART, FileError


def test_a_line_says_where_what_and_the_remedy() -> None:
    assert str(FileError("it  is\ncut", where="a.gguf", remedy="fetch it")) == "a.gguf: it is cut; fetch it"


def test_what_would_steer_a_terminal_is_escaped() -> None:
    assert str(FileError("key \x1b[2J\ud800", where="é")) == r"é: key \x1b[2J\ud800"


def test_a_part_is_cut_in_its_middle() -> None:
    line = str(FileError("begin " + "x" * 10**6 + " end", remedy="y" * 10**6))
    assert line.startswith("begin x")
    assert "x end; y" in line
    assert len(line) <= 2 * LONGEST_PART + 2
