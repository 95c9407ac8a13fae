"""Patterns of module names mean what they mean to Python's `re.match`, in bounded time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivefold.files.quantized.patterns import Listed, Name, Pattern, PatternError

NAMES = [
    "model.layers.0.mlp.gate_proj", "model.layers.12.self_attn.q_proj", "lm_head", "", "a", "]]a-", "aab",
    "model.layers.1.mlp.experts.3.up_proj", "abcabc", "--b", "x.12",
]  # fmt: skip
PATTERNS = [
    ".*mlp.*", r".*\.mlp\.(gate|up)_proj$", r"^model\.layers\.[0-9]+\.self_attn\.[qkv]_proj", "lm_head", "",
    r".*layers\.(0|1|2)\..*", r"^(?!.*experts).*$", r"(?=.*mlp)model", r".*[^a-c]x?", r"(ab?)*c", r"a{1,3}b",
    "[]a]+", "[a-]*b", r"\w+\.\d+", "(?:a|b)+?$", "(a*)*b", "a{2}", "a{1,}b", "(a|)b", r"\S*\D", "[^]]*",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_known_patterns(pattern: str) -> None:
    taken = Pattern(pattern)
    assert [taken.matches(Name(name)) for name in NAMES] == [
        re.match(pattern, name) is not None for name in NAMES
    ]


PIECES = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", "(a|b)", "(?:ab)", "(?!a)", "(?=b)", "^", "$", r"\.", r"\w"]
)
REPEATS = st.sampled_from(["", "", "*", "+", "?", "*?", "{2}", "{0,2}", "{1,}"])
STEPS = st.lists(st.tuples(PIECES, REPEATS), max_size=5)


@given(steps=STEPS, wrapped=st.booleans(), other=STEPS, name=st.text("ab.c", max_size=8))
def test_any_pattern(
    steps: list[tuple[str, str]], wrapped: bool, other: list[tuple[str, str]], name: str
) -> None:
    left, right = ("".join(piece + repeat for piece, repeat in one if piece not in "^$" or not repeat)
                   for one in (steps, other))  # fmt: skip
    pattern = f"({left})*{right}" if wrapped else f"{left}|{right}"
    try:
        found = Pattern(pattern).matches(Name(name))
    except PatternError:
        pytest.fail(f"{pattern} should be taken")
    assert found == (re.match(pattern, name) is not None), pattern


@pytest.mark.parametrize(
    "pattern",
    ["(a", "a)", "*a", "a**", "(?<=a)b", r"\b", "a{100}", "a{2,1}", "[a", "(?P<x>a)", r"(a)\1", "[b-a]",
     "a{x}", "(" * 9 + ")" * 9, "a" * 2001, "(?i)a", "\\"],
)  # fmt: skip
def test_what_is_not_taken(pattern: str) -> None:
    with pytest.raises(PatternError):
        Pattern(pattern)


def test_loops_in_loops_end() -> None:
    """Python would follow the first for longer than anyone waits."""
    assert not Pattern("(a|a)*(a|a)*b").matches(Name("a" * 400))
    with pytest.raises(PatternError, match="no end in sight"):
        Pattern(".*(?=.*(?=.*(?=.*b)))").matches(Name("a" * 450))
    assert not Pattern(".*").matches(Name("a" * 501))


def test_lists_of_modules() -> None:
    listed = Listed(["lm_head", "model.layers.1", "*.self_attn", "model.layers.7*"])
    inside = ["lm_head", "model.layers.1.mlp.up_proj", "model.layers.3.self_attn", "model.layers.77.mlp"]
    outside = ["lm_head2", "model.layers.11.mlp", "model.layers.3.self_attn.q_proj", "", "model"]
    assert all(name in listed for name in inside)
    assert not any(name in listed for name in outside)
