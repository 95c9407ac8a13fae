"""Sampling against slow, obvious references: filters, penalties, order, draws, log probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivefold.core.errors import FivefoldError, InputError
from fivefold.core.request import SamplingParams
from fivefold.decode import Sampler, log_normalizer, token_logprob
from fivefold.decode.filters import min_p, ranked, top_k, top_p
from fivefold.decode.sampling import uniform


def ranking(values: list[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda index: (-values[index], index))


def softmax(logits: dict[int, float]) -> dict[int, float]:
    largest = max(logits.values())
    weights = {token: math.exp(logit - largest) for token, logit in logits.items()}
    total = math.fsum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def reference_front(chances: dict[int, float], share: float) -> list[int]:
    """Top-p by walking down the full ranking."""
    kept: list[int] = []
    reached = 0.0
    for token in sorted(chances, key=lambda token: (-chances[token], token)):
        if reached >= share:
            break
        kept.append(token)
        reached += chances[token]
    return sorted(kept)


def reference_choice(logits: np.ndarray, params: SamplingParams, number: float) -> int:
    """The draw with all filters, one dictionary after the other."""
    scaled = {token: float(logit) / params.temperature for token, logit in enumerate(logits)}
    chances = softmax(scaled)
    most = max(chances.values())
    scaled = {token: scaled[token] for token in scaled if chances[token] >= params.min_p * most * (1 - 1e-12)}
    if params.top_k > 0:
        best = sorted(scaled, key=lambda token: (-scaled[token], token))[: params.top_k]
        scaled = {token: scaled[token] for token in sorted(best)}
    chances = softmax(scaled)
    if params.top_p < 1:
        scaled = {token: scaled[token] for token in reference_front(chances, params.top_p)}
        chances = softmax(scaled)
    reached = 0.0
    for token in sorted(chances):
        reached += chances[token]
        if number < reached:
            return token
    return max(chances)


coarse = st.lists(st.integers(-6, 6).map(lambda n: n / 2), min_size=1, max_size=60)
"""Numbers with many ties."""


@given(values=coarse, count=st.integers(1, 70))
def test_top_k_is_the_front_of_the_full_sort(values: list[float], count: int) -> None:
    array = np.array(values, np.float32)
    assert top_k(array, count).tolist() == sorted(ranking(values)[:count])
    assert ranked(array, count).tolist() == ranking(values)[:count]


@given(values=coarse, share=st.integers(1, 64).map(lambda n: n / 64))
def test_top_p_is_the_front_of_the_full_sort(values: list[float], share: float) -> None:
    # Powers of two: their sums are exact, so that the reference has no rounding of its own.
    weights = {token: 2.0 ** round(value * 2) for token, value in enumerate(values)}
    scale = sum(weights.values())
    expected = reference_front(weights, share * scale)
    assert top_p(np.array(list(weights.values())), share).tolist() == expected


def test_top_p_at_its_ends() -> None:
    weights = np.random.default_rng(3).random(5000) ** 8
    assert top_p(weights, 1e-9).tolist() == [int(weights.argmax())]
    for share in (1 - 1e-9, math.nextafter(1.0, 0.0)):
        kept = top_p(weights, share)
        assert weights[kept].sum() >= share * weights.sum() * (1 - 1e-12)
    assert top_p(np.ones(8), 0.5).tolist() == [0, 1, 2, 3]
    assert top_p(np.array([0.0, 1.0, 0.0]), 0.999).tolist() == [1]


@given(values=coarse, share=st.floats(0.0, 1.0))
def test_min_p(values: list[float], share: float) -> None:
    scaled = np.array(values) - max(values)
    kept = set(min_p(scaled, share).tolist())
    for token, logit in enumerate(scaled):
        ratio = math.exp(logit)
        if abs(ratio - share) > 1e-12:
            assert (token in kept) == (ratio >= share)
    assert ranking(values)[0] in kept


@settings(max_examples=300, deadline=None)
@given(
    source=st.integers(0, 10**6),
    temperature=st.sampled_from([0.2, 0.7, 1.0, 1.7, 30.0]),
    k=st.sampled_from([-1, 0, 1, 3, 20, 1000]),
    p=st.sampled_from([0.05, 0.5, 0.9, 0.99, 1.0]),
    least=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    tied=st.booleans(),
)
def test_draw_against_reference(
    source: int, temperature: float, k: int, p: float, least: float, tied: bool
) -> None:
    logits = np.random.default_rng(source).normal(size=80).astype(np.float32) * 3
    if tied:
        logits = np.round(logits) + np.float32(0.0)
    params = SamplingParams(temperature=temperature, top_k=k, top_p=p, min_p=least, seed=source)
    token, _ = Sampler(params, 80).sample(logits)
    assert token == reference_choice(logits, params, uniform(source, 0))


def test_draw_inverts_the_cumulative_distribution() -> None:
    """Each seed's number falls into the token's own stretch of [0, 1), in vocabulary order."""
    logits = np.log(np.array([0.1, 0.4, 0.0001, 0.2999, 0.2], np.float32))
    bounds = np.cumsum([0.1, 0.4, 0.0001, 0.2999, 0.2])
    chosen = set()
    for seed in range(300):
        token, _ = Sampler(SamplingParams(seed=seed), 5).sample(logits)
        number = uniform(seed, 0)
        assert bounds[token] + 1e-6 >= number >= (bounds[token - 1] if token else 0.0) - 1e-6
        chosen.add(token)
    assert chosen >= {0, 1, 3, 4}


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = np.full(40, -np.inf, np.float32)
    logits[[0, 17, 39]] = [-3.0, 0.0, -3.0]
    for params in (SamplingParams(seed=1), SamplingParams(seed=1, top_k=20, top_p=0.999, min_p=1e-9)):
        sampler = Sampler(params, 40)
        assert {sampler.sample(logits)[0] for _ in range(200)} == {0, 17, 39}


def test_the_number_zero_draws_the_first_token_that_may_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fivefold.decode.sampling.uniform", lambda seed, counter: 0.0)
    logits = np.array([-np.inf, -np.inf, 0.0, 5.0], np.float32)
    assert Sampler(SamplingParams(), 4).sample(logits)[0] == 2
    monkeypatch.setattr("fivefold.decode.sampling.uniform", lambda seed, counter: 1 - 2.0**-53)
    assert Sampler(SamplingParams(), 4).sample(np.append(logits[2:], logits[:2]))[0] == 1


def test_greedy_takes_the_first_of_equals_and_ignores_filters() -> None:
    logits = np.array([1, 5, 2, 5, 5], np.float32)
    for params in (SamplingParams(temperature=0), SamplingParams(temperature=0, top_k=2, top_p=0.1, min_p=1)):
        assert Sampler(params, 5).sample(logits)[0] == 1
    assert Sampler(SamplingParams(temperature=3, top_k=1), 5).sample(logits)[0] == 1
    assert Sampler(SamplingParams(temperature=1e-320), 5).sample(logits)[0] in (1, 3, 4)
    assert Sampler(SamplingParams(temperature=1e-9, top_k=2), 5).sample(logits)[0] in (1, 3)


def test_outcome_depends_on_seed_and_token_number_only() -> None:
    random = np.random.default_rng(5)
    steps = random.normal(size=(12, 500)).astype(np.float32)
    params = SamplingParams(seed=123, top_p=0.95)
    alone, beside, other = Sampler(params, 500), Sampler(params, 500), Sampler(SamplingParams(seed=124), 500)
    expected = [alone.sample(row)[0] for row in steps]
    mixed = []
    for row in steps:
        other.sample(steps[0])
        mixed.append(beside.sample(row)[0])
    assert mixed == expected
    assert len(set(expected)) > 6
    # The number of the token counts, not what was chosen before it.
    late = Sampler(params, 500)
    for _ in range(11):
        late.sample(steps[0])
    assert late.count == 11 and late.sample(steps[11])[0] == expected[11]


def philox(key: int, counter: int) -> int:
    """The first word of Philox 4x64-10 (Salmon et al., SC 2011), key and counter below 2**64."""
    word = (1 << 64) - 1
    c, k = [counter, 0, 0, 0], [key, 0]
    for _ in range(10):
        first, second = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
        c = [(second >> 64) ^ c[1] ^ k[0], second & word, (first >> 64) ^ c[3] ^ k[1], first & word]
        k = [(k[0] + 0x9E3779B97F4A7C15) & word, (k[1] + 0xBB67AE8584CAA73B) & word]
    return c[0]


def test_random_numbers_are_philox() -> None:
    """NumPy counts up before it draws, so token n has the paper's block n + 1."""
    for seed in (0, 1, 123, 2**63):
        for number in range(5):
            assert uniform(seed, number) == (philox(seed, number + 1) >> 11) / 2**53
    numbers = [uniform(seed, counter) for seed in (-1, 0, 1, 2**63, 2**64) for counter in range(4)]
    assert len(set(numbers)) == 20 and all(0 <= number < 1 for number in numbers)
    assert uniform(123, 7) == 0.5414544370811536


def test_a_fresh_seed_can_be_told_and_used_again() -> None:
    logits = np.zeros(100_000, np.float32)
    first, second = Sampler(SamplingParams(), 100_000), Sampler(SamplingParams(), 100_000)
    assert first.seed != second.seed
    assert Sampler(SamplingParams(temperature=0.0), 100_000).seed == 0, "greedy is the same each time"
    again = Sampler(SamplingParams(seed=first.seed), 100_000)
    assert [first.sample(logits)[0] for _ in range(3)] == [again.sample(logits)[0] for _ in range(3)]


def test_penalties_by_hand() -> None:
    """Prompt 0 0 1, output 1 2 2: repetition sees 0, 1, 2, presence and frequency only 1 and 2."""
    params = SamplingParams(
        temperature=0, repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25
    )
    sampler = Sampler(params, 6, [0, 0, 1, 999])
    for token in (1, 2, 2):
        sampler._penalties.record(token)
    logits = np.array([4, 4, -4, 4, 0, 0], np.float32)
    adjusted = sampler._adjusted(logits)
    assert adjusted.tolist() == [2.0, 2.0 - 0.25 - 0.5, -8.0 - 0.5 - 0.5, 4.0, 0.0, 0.0]
    assert logits.tolist() == [4, 4, -4, 4, 0, 0]


@given(prompt=st.lists(st.integers(0, 19), max_size=30), penalty=st.sampled_from([0.5, 1.0, 1.3]))
def test_penalties_follow_the_output(prompt: list[int], penalty: float) -> None:
    logits = np.random.default_rng(len(prompt)).normal(size=20).astype(np.float32)
    params = SamplingParams(
        temperature=0, repetition_penalty=penalty, presence_penalty=0.3, frequency_penalty=-0.2
    )
    sampler, output = Sampler(params, 20, prompt), []
    for _ in range(12):
        expected = logits.copy()
        for token in {*prompt, *output}:
            expected[token] = (
                expected[token] / np.float32(penalty)
                if expected[token] > 0
                else (expected[token] * np.float32(penalty))
            )
        for token in set(output):
            expected[token] -= np.float32(-0.2) * np.float32(output.count(token))
            expected[token] -= np.float32(0.3)
        output.append(sampler.sample(logits)[0])
        assert output[-1] == int(expected.argmax())


def test_bias_comes_before_penalties() -> None:
    params = SamplingParams(temperature=0, logit_bias={0: 4.0, 1: 1.5}, repetition_penalty=4.0)
    # Token 0: (-2 + 4) / 4 = 0.5. Penalty first would give -8 + 4.
    adjusted = Sampler(params, 3, [0])._adjusted(np.array([-2, 0, 1], np.float32))
    assert adjusted.tolist() == [0.5, 1.5, 1.0]


def test_end_tokens_are_banned_below_min_tokens() -> None:
    params = SamplingParams(temperature=0, min_tokens=2, stop_token_ids=(3, 77), ignore_eos=True)
    sampler = Sampler(params, 5, end_tokens=[4])
    logits = np.array([0, 1, 2, 8, 9], np.float32)
    assert [sampler.sample(logits)[0] for _ in range(3)] == [2, 2, 4]


def test_logprobs_are_those_of_the_raw_logits() -> None:
    logits = np.array([0.5, 2.0, 2.0, -1.0, 1.0], np.float32)
    params = SamplingParams(
        temperature=0, logit_bias={3: 50.0}, repetition_penalty=1.5, logprobs=3, min_tokens=1
    )
    token, logprob = Sampler(params, 5, [1], end_tokens=[0]).sample(logits)
    exact = [float(x) - math.log(math.fsum(math.exp(float(y)) for y in logits)) for x in logits]
    assert token == 3 and logprob is not None and logprob.token == 3
    assert logprob.logprob == pytest.approx(exact[3], abs=1e-12)
    assert [token for token, _ in logprob.top] == [1, 2, 4]
    assert [value for _, value in logprob.top] == pytest.approx([exact[1], exact[2], exact[4]], abs=1e-12)


def test_logprobs_edges() -> None:
    logits = np.array([1000.0, -np.inf, 999.0], np.float32)
    assert log_normalizer(logits) == pytest.approx(1000 + math.log1p(math.exp(-1)), abs=1e-9)
    everything = token_logprob(logits, 1, 50)
    assert everything.logprob == -math.inf and [token for token, _ in everything.top] == [0, 2, 1]
    assert token_logprob(logits, 0, 0).top == ()
    assert Sampler(SamplingParams(logprobs=None), 3).sample(logits)[1] is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_unusable_logits_fail_the_request(bad: float, temperature: float) -> None:
    logits = np.zeros(50, np.float32)
    logits[33] = bad
    params = SamplingParams(temperature=temperature, min_tokens=1, stop_token_ids=(33,))
    for sampler in (Sampler(params, 50), Sampler(SamplingParams(temperature=temperature), 50)):
        with pytest.raises(FivefoldError, match="token 33"):
            sampler.sample(logits)
        assert sampler.count == 0


def test_nothing_left_to_choose() -> None:
    params = SamplingParams(min_tokens=1, stop_token_ids=(0, 1))
    with pytest.raises(FivefoldError, match="no token may be chosen"):
        Sampler(params, 2).sample(np.zeros(2, np.float32))


def test_bias_outside_the_vocabulary() -> None:
    with pytest.raises(InputError, match="logit_bias: token 5"):
        Sampler(SamplingParams(logit_bias={5: 1.0}), 5)
    with pytest.raises(ValueError, match="shape"):
        Sampler(SamplingParams(), 5).sample(np.zeros(4, np.float32))


def test_large_vocabulary_equals_the_full_sort() -> None:
    logits = (np.random.default_rng(2).normal(size=60_000) * 2).round(2).astype(np.float32)
    order = np.argsort(-logits, kind="stable")
    assert ranked(logits, 500).tolist() == order[:500].tolist()
    weights = np.exp(logits.astype(np.float64))
    for share in (0.1, 0.9, 0.999):
        by_weight = np.argsort(-weights, kind="stable")
        count = int(np.searchsorted(np.cumsum(weights[by_weight]), share * weights.sum())) + 1
        assert top_p(weights, share).tolist() == sorted(by_weight[:count].tolist())
