"""Guesses by a table of n-grams: chains of the surest entries, the same however the text came."""

from __future__ import annotations

import numpy as np
import pytest

from fivefold.core.errors import InputError
from fivefold.core.ngrams import CLASSES, NGramTable, hashes
from fivefold.decode.guesses import NOTHING, SOURCES, sources_of
from fivefold.decode.guesses.known import LEAST, Known

ENTRIES = {(1,): (2, 20), (2,): (3, 15), (1, 2): (4, 28), (4,): (5, 31), (2, 4): (6, 31), (6,): (6, 12)}
"""Contexts, and the token and class behind each."""


def table() -> NGramTable:
    found = {list(hashes(context, 8))[-1]: value for context, value in ENTRIES.items()}
    keys = np.array(sorted(found), np.uint32)
    values = np.array([found[int(key)][0] * CLASSES + found[int(key)][1] for key in keys], np.uint32)
    return NGramTable(2, keys, values)


def test_a_chain_of_guesses() -> None:
    source = Known(table())
    source.extend([9, 1])
    guess = source.guess(4)
    assert guess.tokens == (2, 4, 6, 6), "behind 1; 1, 2 surer than 2; 2, 4 as sure as 4 and longer; 6"
    assert guess.classes == (20, 28, 31, 12)
    assert source.guess(2).tokens == guess.tokens[:2]
    assert [source.prior(number) for number in guess.classes] == [20.5 / 32, 28.5 / 32, 31.5 / 32, 12.5 / 32]
    longer = source.guess(100)
    worth = np.prod([source.prior(number) for number in longer.classes])
    assert LEAST <= worth < 2 * LEAST and set(longer.tokens[2:]) == {6}


@pytest.mark.parametrize("orders", [1, 2, 5])
def test_the_compiled_chain_is_that_of_the_reference(orders: int) -> None:
    random = np.random.default_rng(orders)
    contexts = {
        list(hashes(random.integers(0, 9, 8).tolist(), order))[-1]
        for order in random.integers(1, orders + 1, 900).tolist()
    }
    keys = np.array(sorted(contexts), np.uint32)
    values = random.integers(0, 9, len(keys)) * CLASSES + random.integers(0, CLASSES, len(keys))
    found = NGramTable(orders, keys, values.astype(np.uint32))
    lookup, lengths = found.lookup(), set()
    for _ in range(200):
        text = random.integers(0, 9, int(random.integers(0, 9))).tolist()
        source = Known(found)
        source.extend(text)
        tokens, together = list(text), 1.0
        while (one := lookup.likeliest(tokens)) is not None and len(tokens) - len(text) < 12:
            together *= one[1]
            if together < LEAST:
                break
            tokens.append(one[0])
        assert source.guess(12).tokens == tuple(tokens[len(text) :])
        lengths.add(len(tokens) - len(text))
    assert len(lengths) > 3


def test_only_the_end_matters() -> None:
    source, other = Known(table()), Known(table())
    for token in (7, 8, 9, 1, 2):
        source.extend([token])
    other.extend([1, 2])
    assert source.guess(5) == other.guess(5) != NOTHING
    other.extend([77])
    assert other.guess(5) == NOTHING and other.guess(0) == NOTHING
    other.extend([])
    assert other.guess(5) == NOTHING


def test_a_model_with_a_table_has_one_source_more() -> None:
    assert set(sources_of()) == set(SOURCES)
    assert set(sources_of(table())) == {*SOURCES, "known"}


def test_sources_are_chosen_by_name() -> None:
    assert set(sources_of(table(), {"known", "repeats"})) == {"known", "repeats"}
    assert sources_of(None, {"known"}) == {} == sources_of(table(), ())
    with pytest.raises(InputError, match="no source of guesses 'offred'"):
        sources_of(None, {"offred"})
