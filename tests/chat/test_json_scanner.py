"""The incremental JSON reader against Python's own, which reads whole texts."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivefold.chat.json_scanner import MOST_DEPTH, JsonScanner

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)
FRAGMENTS = [
    *'{}[]:,"\\/ \n\t-+.0123eEu',
    "\\u00e9",
    "\\ud83d",
    "true",
    "false",
    "null",
    "nul",
    "NaN",
    "é",
    "\x01",
]


def whole_value(text: str) -> bool:
    """Whether Python's reader takes the text as one value, without the extensions it has."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def accepts(text: str, step: int | None = None) -> bool:
    """Whether the scanner reads it as a whole value; a list around it ends a number."""
    scanner = JsonScanner()
    around = f"[{text}]"
    step = step or len(around)
    for start in range(0, len(around), step):
        piece = around[start : start + step]
        if scanner.scan(piece) != len(piece):
            return False
    return scanner.done


@given(value=VALUES, indent=st.sampled_from([None, 1]), plain=st.booleans(), step=st.integers(1, 9))
def test_valid_json_is_accepted_in_pieces(value: Any, indent: int | None, plain: bool, step: int) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=plain)
    assert accepts(text, step)


@given(parts=st.lists(st.sampled_from(FRAGMENTS), max_size=8), step=st.integers(1, 4))
def test_it_accepts_what_python_accepts(parts: list[str], step: int) -> None:
    text = "".join(parts)
    assert accepts(text, step) == whole_value(f"[{text}]")


@given(value=VALUES, at=st.integers(0, 200), character=st.sampled_from(FRAGMENTS))
def test_a_damaged_text_is_judged_as_python_judges_it(value: Any, at: int, character: str) -> None:
    text = json.dumps(value)
    damaged = text[:at] + character + text[at + 1 :]
    assert accepts(damaged) == whole_value(f"[{damaged}]")


@pytest.mark.parametrize(
    ("text", "kept"),
    [("[1, 02]", 5), ("{'a'", 1), ('{"a" 1}', 5), ('["\n"]', 2), ("[1.]", 3), ('["\\x"]', 3), ("[tru]", 4)],
)  # fmt: skip
def test_a_fault_is_found_at_its_character(text: str, kept: int) -> None:
    scanner = JsonScanner()
    assert scanner.scan(text) == kept
    assert scanner.failed
    assert not scanner.done


def test_nothing_is_read_past_the_end() -> None:
    scanner = JsonScanner()
    assert scanner.scan('x{"a": [1]}}', 1) == 11
    assert scanner.done
    number = JsonScanner()
    assert number.scan("12}") == 2
    assert number.done


@pytest.mark.parametrize(("opener", "closer"), ["[]", ('{"a":', "}")])
def test_depth_is_bounded(opener: str, closer: str) -> None:
    inner = "1" if opener != "[" else ""
    for depth, good in ((MOST_DEPTH, True), (MOST_DEPTH + 1, False), (100_000, False)):
        scanner = JsonScanner()
        scanner.scan(opener * depth + inner + closer * depth)
        assert (scanner.done, scanner.failed) == (good, not good)
