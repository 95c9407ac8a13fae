"""The compiled choice of a token against the numpy one, which is its reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivefold.core.errors import FivefoldError
from fivefold.core.request import SamplingParams
from fivefold.decode import Sampler
from fivefold.executor import largest_logit, likeliest_tokens

SIZE = 3001
RULES: list[dict[str, float]] = [
    {},
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 5000},
    {"top_p": 0.9},
    {"top_p": 0.05},
    {"min_p": 0.05},
    {"top_k": 200, "top_p": 0.8, "min_p": 0.01},
    {"temperature": 0.2},
    {"temperature": 30.0, "top_p": 0.99},
]


def logits_of(kind: str, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    random = np.random.default_rng(seed)
    if kind == "peaked":
        return (random.standard_normal(SIZE) * 5).astype(np.float32)
    if kind == "tied":
        return random.integers(-3, 4, SIZE).astype(np.float32)
    if kind == "flat":
        return np.full(SIZE, -7.25, np.float32)
    values = random.standard_normal(SIZE).astype(np.float32)
    values[random.random(SIZE) < 0.9] = -np.inf
    return values


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("kind", ["peaked", "tied", "flat", "banned"])
def test_it_draws_what_the_reference_draws(kind: str, rule: dict[str, float]) -> None:
    """The same token, but where the random number falls within rounding of a boundary."""
    differences = 0
    for seed in range(60):
        logits = logits_of(kind, seed)
        sampler = Sampler(SamplingParams(**{"temperature": 1.0, "seed": seed, **rule}), SIZE)  # type: ignore[arg-type]
        expected = sampler.draw_slowly(logits, float(logits.max()))
        found, _ = sampler.sample(logits)
        differences += found != expected
    assert differences <= 1


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule], ids=str)
def test_filters_keep_exactly_the_references_tokens(rule: dict[str, float]) -> None:
    """Over many random numbers each kept token of a small vocabulary is drawn, and no other."""
    logits = np.array([2.0, 1.0, 1.0, 0.5, -1.0, 3.0, -np.inf, 0.5], np.float32)
    drawn, expected = set(), set()
    for seed in range(400):
        sampler = Sampler(SamplingParams(**{"temperature": 1.0, "seed": seed, **rule}), len(logits))  # type: ignore[arg-type]
        expected.add(sampler.draw_slowly(logits, 3.0))
        drawn.add(sampler.sample(logits)[0])
    assert drawn == expected


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32) | st.just(-np.inf), min_size=1, max_size=70))
@settings(max_examples=200)
def test_the_largest_is_numpys(values: list[float]) -> None:
    logits = np.array(values, np.float32)
    expected = int(logits.argmax()) if np.isfinite(logits.max()) else -2
    assert largest_logit(logits) == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 17, 1024, 2999, 3000])
def test_what_is_not_finite_is_found_and_named(bad: float, place: int) -> None:
    logits = logits_of("peaked", 1)
    logits[place] = bad
    assert largest_logit(logits) == -1
    with pytest.raises(FivefoldError, match=f"for token {place}"):
        Sampler(SamplingParams(seed=1), SIZE).sample(logits)


def test_the_same_number_gives_the_same_token_beside_and_alone() -> None:
    rows = np.stack([logits_of("peaked", seed) for seed in range(8)])
    together = [Sampler(SamplingParams(seed=n, top_p=0.9), SIZE).sample(row)[0] for n, row in enumerate(rows)]
    alone = [
        Sampler(SamplingParams(seed=n, top_p=0.9), SIZE).sample(row.copy())[0] for n, row in enumerate(rows)
    ]
    assert together == alone


@pytest.mark.parametrize("kind", ["peaked", "tied", "flat", "sparse"])
@pytest.mark.parametrize("left_out", [-1, 0, 17, SIZE - 1])
def test_the_likeliest_tokens_are_those_of_numpy(kind: str, left_out: int) -> None:
    rows = np.stack([logits_of(kind, seed) for seed in range(6)])
    if left_out >= 0:
        rows[::2, left_out] = rows.max() + 3  # what is left out would be the likeliest
    tokens, others, every = likeliest_tokens(rows, left_out)
    kept = rows.astype(np.float64)
    whole = np.exp(kept - kept.max(axis=1, keepdims=True))
    if left_out >= 0:
        kept[:, left_out] = -np.inf
    weights = np.exp(kept - kept.max(axis=1, keepdims=True))
    at = np.arange(len(rows))
    assert tokens == kept.argmax(axis=1).tolist()
    np.testing.assert_allclose(others, (weights / weights.sum(axis=1, keepdims=True))[at, tokens], rtol=2e-6)
    np.testing.assert_allclose(every, (whole / whole.sum(axis=1, keepdims=True))[at, tokens], rtol=2e-6)


def test_likeliest_tokens_of_logits_that_fail() -> None:
    rows = np.zeros((5, 40), np.float32)
    rows[0, 39], rows[1, 3], rows[2], rows[3] = np.nan, np.inf, -np.inf, -np.inf
    rows[3, 3] = 1.0
    assert likeliest_tokens(rows, 3)[0] == [-1, -1, -2, -2, 0]
    assert likeliest_tokens(rows[2:], -1)[0] == [-2, 3, 0]
    assert (
        likeliest_tokens(rows[:, :1], 0)[0] == [-2, -2, -2, -2, -2] and likeliest_tokens(rows[:0], 3)[0] == []
    )
    with pytest.raises(ValueError, match="no such token"):
        likeliest_tokens(rows, 40)
