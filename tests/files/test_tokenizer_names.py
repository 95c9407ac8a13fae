"""Every pre-tokenizer name, and every other kind of tokenizer, against ids recorded from llama.cpp.

The vocabularies were trained on texts that nothing had cut, so that their merges go across whatever a
rule may cut at: where words end can be seen in the ids. scripts/check_tokenizers.py records them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence, Split

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.vocabulary import Vocabulary
from fivefold.files.tokenizer import gguf_vocabulary
from fivefold.files.tokenizer_patterns import DIGIT_GROUPS, SUPERBPE
from fivefold.files.tokenizer_pre import PRE_TOKENIZERS

RECORDED = json.loads((Path(__file__).parent / "data" / "tokenizer_names.json").read_text())
NAMED = [(name, group) for group in RECORDED["groups"] for name in group["names"]]
RUNS = ["a", " ", "1", "\n", "\u3000", "é"]


def vocabulary_of(keys: dict[str, Any]) -> Vocabulary:
    kinds = {"token_type": np.int32, "scores": np.float32}
    named = {key: np.array(value, kinds[key]) if key in kinds else value for key, value in keys.items()}
    return gguf_vocabulary(
        Checkpoint(
            Path("small.gguf"), "gguf", {f"tokenizer.ggml.{key}": value for key, value in named.items()}, {}
        )
    )


def named(name: str, kind: str) -> Vocabulary:
    stored = RECORDED["vocabularies"][kind]
    types = [1] * len(stored["tokens"])
    if kind != "bytes":
        types[:259] = [2, 3, 3, *[6] * 256]
    model = "whitespace" if name == "whitespace" else "gpt2"
    return vocabulary_of(
        {"model": model, "pre": name, **stored, "token_type": types, "bos_token_id": 1, "eos_token_id": 2}
    )


@pytest.mark.parametrize(("name", "group"), NAMED, ids=[name for name, _ in NAMED])
def test_a_name_cuts_text_as_llama_cpp_does(name: str, group: dict[str, Any]) -> None:
    vocabulary = named(name, group["vocabulary"])
    assert vocabulary.add_bos == group["add_bos"]
    for text, ids in zip(RECORDED["texts"], group["ids"], strict=True):
        assert vocabulary.encode(text, add_bos=False) == ids, text


def test_every_name_was_recorded_and_the_texts_tell_rules_apart() -> None:
    assert sorted(name for name, _ in NAMED) == sorted(PRE_TOKENIZERS)
    alike: dict[str, set[tuple[str, ...]]] = {}
    for name, group in NAMED:
        if PRE_TOKENIZERS[name].byte_level:
            alike.setdefault(str(group["ids"]), set()).add(PRE_TOKENIZERS[name].patterns)
    twice = [rules for rules in alike.values() if len(rules) > 1]
    # Their expressions differ in [\r\n]+ for [\r\n] after \s*, which is the same.
    assert twice == [{PRE_TOKENIZERS["qwen2"].patterns, PRE_TOKENIZERS["bailingmoe"].patterns}]


@pytest.mark.parametrize("other", RECORDED["others"], ids=lambda other: other["keys"]["model"])
def test_other_tokenizers_give_the_ids_of_llama_cpp(other: dict[str, Any]) -> None:
    vocabulary = vocabulary_of(other["keys"])
    for text, ids in zip(RECORDED["texts"], other["ids"], strict=True):
        assert vocabulary.encode(text, add_bos=False) == ids, text


@pytest.mark.parametrize(
    "rule", sorted(set(PRE_TOKENIZERS.values()), key=repr), ids=lambda rule: rule.patterns[-1]
)
def test_no_rule_is_slow_on_long_runs(rule: Any) -> None:
    """Quadratic work on them would take minutes for each."""
    cut = Sequence([Split(Regex(pattern), "isolated") for pattern in rule.patterns])
    for run in RUNS:
        for whole in (run * 30_000 + "x", "x" + run * 30_000 + "٣ب"):
            assert "".join(piece for piece, _ in cut.pre_tokenize_str(whole)) == whole


def cut_by(patterns: tuple[str, ...], text: str) -> list[str]:
    return [
        piece for piece, _ in Sequence([Split(Regex(p), "isolated") for p in patterns]).pre_tokenize_str(text)
    ]


@given(text=st.text("1230½²a \n", max_size=30))
def test_superbpe_cuts_as_its_lookahead_would(text: str) -> None:
    assert cut_by(SUPERBPE, text) == cut_by((r"\p{N}+", r"(?=([0-9]{3})+(?![0-9]))"), text)


@given(text=st.text("1230½²a \n", max_size=30))
def test_digits_are_grouped_from_the_right(text: str) -> None:
    pieces: list[str] = []
    rest = text
    while rest:
        before = next((place for place, letter in enumerate(rest) if letter.isnumeric()), len(rest))
        after = next((place for place in range(before, len(rest)) if not rest[place].isnumeric()), len(rest))
        first = before + (after - before) % 3 or before
        starts = [0, *range(first, after, 3)] if first > before else [0, *range(before + 3, after, 3)]
        pieces += [rest[start:end] for start, end in zip(starts, [*starts[1:], after], strict=True)]
        rest = rest[after:]
    assert cut_by(DIGIT_GROUPS, text) == pieces
