"""Pages with a part that a program makes: it stands between two comments, and the rest is written by hand."""

from __future__ import annotations

from pathlib import Path

BEGIN, END = "<!-- tables -->\n", "<!-- end of the tables -->"


def with_tables(page: Path, tables: str) -> str:
    """The page's text with `tables` in place of what stands between the comments.

    ValueError, with the page's name and what to write there, unless it has each of them once, in order.
    """
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(
            f"{page}: the tables have no place; write the lines {BEGIN.strip()!r} and {END!r}, each once"
        )
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END)[1]}"
