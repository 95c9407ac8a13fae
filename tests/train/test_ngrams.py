"""Tables of n-grams: counts against a plain count, what is kept, and the command that makes one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.cli.app import status
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.ngrams import CLASSES, hashed, hashes
from fivefold.files import model_fingerprint, read_ngrams
from fivefold.models import load_model
from fivefold.train.drafter.conversations import Conversation, Shard, write_shard
from fivefold.train.ngrams import Making, Written, make_table, ngram_table


def texts(count: int, seed: int = 0, size: int = 60) -> list[Written]:
    """Conversations in which a token mostly depends on the two before it."""
    random = np.random.default_rng(seed)
    rule = np.random.default_rng(99).integers(0, 12, (12, 12))
    made = []
    for _ in range(count):
        tokens = random.integers(0, 12, 2).tolist()
        while len(tokens) < size:
            likely = int(rule[tokens[-2], tokens[-1]])
            tokens.append(likely if random.random() < 0.8 else int(random.integers(0, 12)))
        made.append(Written(np.array(tokens, np.int32), int(random.integers(1, 9))))
    return made


def test_hashes_of_one_context_and_of_many_are_the_same() -> None:
    contexts = np.array([[3, 1, 4], [1, 5, 9], [49151, 0, 65535]])
    for order in (1, 2, 3):
        many = hashed(contexts[:, -order:])
        assert [int(key) for key in many] == [list(hashes(row, 8))[order - 1] for row in contexts.tolist()]
    assert list(hashes([7], 5)) == list(hashes([1, 7], 1)) and list(hashes([], 5)) == []


def test_the_commonest_token_is_guessed() -> None:
    """With contexts of one length and nothing left out, the table is a plain count."""
    conversations = texts(40)
    counts: dict[int, Counter[int]] = {}
    for one in conversations:
        tokens = one.tokens.tolist()
        for at in range(max(one.given, 1), len(tokens)):
            counts.setdefault(tokens[at - 1], Counter())[tokens[at]] += 1
    lookup = ngram_table(conversations, 1, 0.0).lookup()
    for context, seen in counts.items():
        found = lookup.likeliest([5, context])
        assert found is not None and seen[found[0]] == max(seen.values())
        assert abs(found[1] - max(seen.values()) / sum(seen.values())) < 0.15
    assert lookup.likeliest([11_000]) is None and lookup.likeliest([]) is None


def test_longer_contexts_are_kept_where_they_know_more() -> None:
    table, apart = ngram_table(texts(300), 3, 0.05), texts(60, seed=1)
    lookup, tried, right = table.lookup(), 0, 0
    said = list[float]()
    for one in apart:
        tokens = one.tokens.tolist()
        for at in range(one.given, len(tokens)):
            found = lookup.likeliest(tokens[:at])
            assert found is not None
            tried, right = tried + 1, right + (found[0] == tokens[at])
            said.append(found[1])
    assert right / tried > 0.75, "the rule of two tokens is found"
    assert abs(np.mean(said) - right / tried) < 0.03, "and how often it holds"
    assert len(table.keys) < 0.3 * 12**3, "three tokens seldom know more than two"


def test_what_is_worth_little_is_left_out() -> None:
    conversations = texts(60)
    sizes = [len(ngram_table(conversations, 3, least).keys) for least in (0.0, 0.3, 0.7, 1.0)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[2] > sizes[3] == 0
    table = ngram_table(conversations, 3, 0.3)
    assert (table.values % CLASSES >= int(0.3 * CLASSES)).all() and (
        np.diff(table.keys.astype(int)) > 0
    ).all()
    with pytest.raises(InputError, match="the model wrote nothing"):
        ngram_table([Written(np.arange(4, dtype=np.int32), 4)], 2, 0.1)


@pytest.fixture
def given(random_model: Any, tmp_path: Path) -> list[str]:
    checkpoint = random_model("qwen3")
    fingerprint = model_fingerprint(load_model(checkpoint), checkpoint)
    for name, seed in (("held-out-000", 1), ("training-000", 0)):
        made = [
            Conversation(one.tokens, one.given, np.zeros((59, 1, 64), np.float16), "made up")
            for one in texts(30, seed)
        ]
        write_shard(tmp_path / "data", Shard(name, fingerprint, (2,), made))
    return [
        "train", "ngrams", str(checkpoint.path), "--data", str(tmp_path / "data"), "--out",
        str(tmp_path / "t.safetensors"),
    ]  # fmt: skip


def test_a_table_is_written(given: list[str], tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.argv", ["fivefold", *given])
    assert status([*given, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    table = read_ngrams(tmp_path / "t.safetensors")
    assert answer["entries"] == len(table.keys) > 50 and answer["tokens"] == table.origin.tokens
    assert 0.5 < answer["held_out"]["made up"] < 0.9
    assert table.orders == 5 and table.origin.command.startswith("fivefold train ngrams ")
    assert status([*given, "--orders", "2"]) == 0
    assert "made up" in capsys.readouterr().out and read_ngrams(tmp_path / "t.safetensors").orders == 2


def test_conversations_of_another_model_are_refused(
    given: list[str], random_model: Any, tmp_path: Path
) -> None:
    other = random_model("llama")
    with pytest.raises(UnsupportedError, match="written by another model"):
        make_table(load_model(other), other, [tmp_path / "data"], Making())
