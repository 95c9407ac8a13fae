"""Denoisers against plain references, which were written from the papers and look at one block at a time.

Each draws random blocks and logits, and holds the places and tokens that a step fills against a few lines of
float64 arithmetic over all positions. Whole runs are held against models elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fivefold.core.batch import Float32
from fivefold.core.errors import InputError
from fivefold.core.request import SamplingParams
from fivefold.decode import Sampler
from fivefold.decode.diffusion import DENOISERS, Block, Denoiser, Guesser, Guesses, denoiser_named

V, SIZE, MASK, ROUNDS = 23, 8, 22, 150
GREEDY = SamplingParams(temperature=0.0, max_tokens=64)


def drawn_case(seed: int) -> tuple[Block, Float32]:
    """A block in the middle of its work, and logits of all its positions, some of them sure."""
    random = np.random.default_rng(seed)
    given = random.integers(0, 3)
    masked = random.random(SIZE) < random.random()
    masked[:given] = False
    if not masked.any():
        masked[-1] = True
    tokens = np.where(masked, MASK, random.integers(0, MASK, SIZE)).astype(np.int32)
    masks = int(random.integers(int(masked.sum()), SIZE - given + 1))
    logits = random.normal(size=(SIZE, V)) * random.uniform(0.2, 9, (SIZE, 1))
    logits[:, MASK] = -30  # the model hardly believes in it
    block = Block(tokens, masked, np.arange(SIZE) < given, masks, turn=int(random.integers(0, masks)))
    return block, logits.astype(np.float32)


def stepped(denoiser: Denoiser, block: Block, logits: Float32, params: SamplingParams = GREEDY) -> Block:
    places = np.flatnonzero(denoiser.asks(block))
    guesser = Guesser(Sampler(params, V), V, MASK)
    numbers = (100 + places).astype(np.int32)
    guesses = Guesses(places, logits[places], guesser, numbers, block.turn, denoiser.temperature(block))
    return denoiser.advance(block, guesses)


def softmax(row: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    raised = np.exp(np.asarray(row, np.float64) - float(row.max()))
    return np.asarray(raised / raised.sum())


def entropy(row: npt.NDArray[Any]) -> float:
    return float(-sum(p * np.log(p) for p in softmax(row) if p > 0))


def surest_first(block: Block, logits: Float32) -> list[tuple[float, int]]:
    """(confidence, place) of the masked places, the surest first."""
    places = np.flatnonzero(block.masked).tolist()
    return sorted(((float(softmax(logits[place]).max()), place) for place in places), reverse=True)


def low_confidence(block: Block, logits: Float32) -> set[int]:
    """LLaDA with 3 steps: as many of the surest as the linear schedule has for this step."""
    steps = min(3, block.masks)
    schedule = [block.masks // steps] * steps
    for step in range(block.masks % steps):
        schedule[step] += 1
    return {place for _, place in surest_first(block, logits)[: schedule[block.turn]]}


def confidence_threshold(block: Block, logits: Float32) -> set[int]:
    """Fast-dLLM: all above the threshold, and the surest in any case."""
    ranked = surest_first(block, logits)
    return {ranked[0][1]} | {place for confidence, place in ranked if confidence > 0.9}


def factor(block: Block, logits: Float32) -> set[int]:
    """Fast-dLLM: the largest n with (n + 1)(1 - c_n) < f."""
    ranked = surest_first(block, logits)
    allowed = [n for n in range(1, len(ranked) + 1) if (n + 1) * (1 - ranked[n - 1][0]) < 1]
    return {place for _, place in ranked[: max([1, *allowed])]}


def entropy_bound(block: Block, logits: Float32) -> set[int]:
    """EB-Sampler: the most of the lowest entropies with sum - max <= bound."""
    ranked = sorted((entropy(logits[place]), place) for place in np.flatnonzero(block.masked).tolist())
    kept = 1
    for count in range(1, len(ranked) + 1):
        values = [value for value, _ in ranked[:count]]
        if sum(values) - max(values) <= 0.35:
            kept = count
    return {place for _, place in ranked[:kept]}


def entropy_distance(block: Block, logits: Float32) -> set[int]:
    """WeDLM: entropy and a penalty for distance to the first mask, below the threshold; else the least."""
    places = np.flatnonzero(block.masked).tolist()
    score = {place: entropy(logits[place]) + 0.1 * (place - places[0]) for place in places}
    return {place for place in places if score[place] < 0.4} or {min(places, key=lambda place: score[place])}


def of_dream(score: Callable[[npt.NDArray[np.float64]], float]) -> Callable[[Block, Float32], set[int]]:
    """Dream with 6 steps: the share 1 - s/t of what is masked, of the best scores; not a step of none."""

    def fill(block: Block, logits: Float32) -> set[int]:
        times = [1 + (1e-3 - 1) * step / 6 for step in range(7)]
        places, step = np.flatnonzero(block.masked).tolist(), block.turn
        while True:
            last = step >= 5
            count = len(places) if last else int(len(places) * (1 - times[step + 1] / times[step]))
            if count:
                ranked = sorted(places, key=lambda place: -score(softmax(logits[place])))
                return set(ranked[:count])
            step += 1

    return fill


CASES: list[tuple[str, dict[str, Any], Callable[[Block, Float32], set[int]]]] = [
    ("low_confidence", {"steps": 3}, low_confidence),
    ("confidence_threshold", {}, confidence_threshold),
    ("confidence_threshold", {"as_drawn": True}, confidence_threshold),
    ("factor", {}, factor),
    ("entropy_bound", {"bound": 0.35}, entropy_bound),
    ("entropy_distance", {"penalty": 0.1}, entropy_distance),
    ("dream", {"steps": 6, "order": "maskgit_plus"}, of_dream(lambda p: float(p.max()))),
    ("dream", {"steps": 6, "order": "topk_margin"}, of_dream(lambda p: float(np.diff(np.sort(p)[-2:])[0]))),
    ("dream", {"steps": 6}, of_dream(lambda p: float((p * np.log(p + 1e-10)).sum()))),
]


@pytest.mark.parametrize(("name", "numbers", "reference"), CASES)
def test_a_step_fills_the_places_of_the_paper(
    name: str, numbers: dict[str, Any], reference: Callable[[Block, Float32], set[int]]
) -> None:
    denoiser, sizes = denoiser_named(name, numbers), set()
    for seed in range(ROUNDS):
        block, logits = drawn_case(seed)
        block = replace(block, turn=min(block.turn, 2) if name == "low_confidence" else block.turn)
        if name == "low_confidence" and block.turn >= min(3, block.masks):
            continue
        after = stepped(denoiser, block, logits)
        filled = set(np.flatnonzero(block.masked & ~after.masked).tolist())
        expected = reference(block, logits) & set(np.flatnonzero(block.masked).tolist())
        assert filled == expected, seed
        for place in range(SIZE):
            right = logits[place].argmax() if place in filled else block.tokens[place]
            assert after.tokens[place] == right
        assert after.done == (not after.masked.any())
        sizes.add(len(filled))
    assert len(sizes) > 2, "the cases should differ"


def test_editing_fills_and_puts_right_as_llada_does() -> None:
    denoiser = denoiser_named("editing", {"most": 2})
    edits = 0
    for seed in range(ROUNDS):
        block, logits = drawn_case(seed)
        if seed % 3 == 0:
            block = replace(block, masked=np.zeros(SIZE, bool), settled=seed % 2)
        after = stepped(denoiser, block, logits)
        best = {place: float(softmax(logits[place]).max()) for place in range(SIZE)}
        masked = np.flatnonzero(block.masked).tolist()
        filled = {place for place in masked if best[place] > 0.95}
        filled = filled or set(sorted(masked, key=lambda place: -best[place])[:1])
        changed = {
            place for place in range(SIZE)
            if not block.masked[place] and not block.given[place] and best[place] > 0.9
            and logits[place].argmax() != block.tokens[place]
        }  # fmt: skip
        expected = block.tokens.copy()
        for place in filled | changed:
            expected[place] = logits[place].argmax()
        assert np.array_equal(after.tokens, expected), seed
        assert set(np.flatnonzero(after.masked).tolist()) == set(masked) - filled
        settled = block.settled + (not masked)
        assert after.settled == settled
        assert after.done == (not masked and (not changed or settled >= 2))
        edits += len(changed)
    assert edits > ROUNDS / 2


def test_editing_ends_when_its_steps_are_over() -> None:
    """Two logits that call for each other's tokens would edit for ever."""
    block = Block.of(np.zeros(0, np.int32), np.zeros(2, np.int32), masked=True)
    denoiser, steps = denoiser_named("editing", {"most": 5}), 0
    while not block.done:
        logits = np.zeros((2, V), np.float32)
        logits[:, 3 + steps % 2] = 20
        block, steps = stepped(denoiser, block, logits), steps + 1
    assert steps == 1 + 5


def renoise_case(seed: int, sure: float) -> tuple[Block, Float32]:
    random = np.random.default_rng(seed)
    block = Block.of(
        np.array([1, 2], np.int32), random.integers(0, V, SIZE - 2).astype(np.int32), masked=False
    )
    return block, (random.normal(size=(SIZE, V)) * sure).astype(np.float32)


@pytest.mark.parametrize("turn", [0, 20, 46])
def test_renoising_takes_within_the_bound_and_draws_the_rest_anew(turn: int) -> None:
    denoiser = denoiser_named("uniform_renoise")
    fresh: list[int] = []
    for seed in range(60):
        block, logits = renoise_case(seed, 4.0)
        block = replace(block, turn=turn)
        after = stepped(denoiser, block, logits, replace(GREEDY, temperature=1.0, seed=seed))
        temperature = 0.4 + 0.4 * (48 - turn) / 48
        logits[:, MASK] = -np.inf
        ranked = sorted((entropy(row / temperature), place) for place, row in enumerate(logits) if place > 1)
        taken = [place for n, (_, place) in enumerate(ranked) if sum(h for h, _ in ranked[:n]) <= 0.1]
        others = sorted(set(range(2, SIZE)) - set(taken))
        assert after.tokens[:2].tolist() == [1, 2] and not after.done
        fresh += after.tokens[others].tolist()
    counts = np.bincount(fresh, minlength=V)
    expected = len(fresh) / V
    assert ((counts - expected) ** 2 / expected).sum() < 48.3, "chi-square, 22 degrees of freedom, 0.001"


def test_taken_tokens_are_drawn_at_the_temperature_of_the_schedule() -> None:
    """One position is always taken, so its tokens follow the softmax at the schedule's temperature."""
    denoiser = denoiser_named("uniform_renoise")
    row = np.array([[2.0, 1.5, 0.5, *[-20.0] * (V - 3)]], np.float32)
    block = replace(Block.of(np.zeros(0, np.int32), np.zeros(1, np.int32), masked=False), turn=24)
    drawn = [
        int(stepped(denoiser, block, row, SamplingParams(temperature=1.7, seed=seed)).tokens[0])
        for seed in range(2000)
    ]
    shares = softmax(row[0] / np.float32(0.6))[:3]
    counts = np.bincount(drawn, minlength=V)[:3]
    assert ((counts - 2000 * shares) ** 2 / (2000 * shares)).sum() < 13.8, "2 degrees of freedom, 0.001"


def test_renoising_ends_when_it_is_stable_and_sure_or_out_of_steps() -> None:
    denoiser = denoiser_named("uniform_renoise", {"steps": 9})
    block, logits = renoise_case(0, 80.0)
    first = stepped(denoiser, block, logits)
    assert not first.done, "nothing to compare with yet"
    second = stepped(denoiser, first, logits)
    best = logits.copy()
    best[:, MASK] = -np.inf
    assert second.done and second.tokens[2:].tolist() == best[2:].argmax(axis=1).tolist()
    other = logits[:, ::-1].copy()
    assert not stepped(denoiser, first, other).done, "the likeliest tokens have changed"
    block, logits = renoise_case(1, 0.1)
    steps = 0
    while not block.done:
        block, steps = stepped(denoiser, block, logits), steps + 1
    logits[:, MASK] = -np.inf
    assert steps == 9 and block.tokens[2:].tolist() == logits[2:].argmax(axis=1).tolist()


def test_origin_fills_each_masked_place_with_the_share_of_time() -> None:
    denoiser = denoiser_named("dream", {"order": "origin", "steps": 4})
    filled = 0
    block = Block.of(np.zeros(0, np.int32), np.full(SIZE, MASK, np.int32), masked=True)
    logits = np.random.default_rng(0).normal(size=(SIZE, V)).astype(np.float32)
    for seed in range(500):
        after = stepped(denoiser, block, logits, replace(GREEDY, seed=seed))
        filled += SIZE - int(after.masked.sum())
    share = 1 - (1 + (1e-3 - 1) / 4)
    spread = np.sqrt(500 * SIZE * share * (1 - share))
    assert abs(filled - 500 * SIZE * share) < 4 * spread
    assert stepped(denoiser, replace(block, turn=3), logits).done, "the last step fills all"


@pytest.mark.parametrize("name", DENOISERS)
def test_every_denoiser_ends_and_never_writes_the_mask(name: str) -> None:
    denoiser = DENOISERS[name]
    for seed in range(10):
        random = np.random.default_rng(seed)
        start = random.integers(0, V, SIZE) if denoiser.noise else np.full(SIZE, MASK)
        block = Block.of(np.zeros(0, np.int32), start.astype(np.int32), masked=not denoiser.noise)
        steps = 0
        while not block.done:
            logits = random.normal(size=(SIZE, V)).astype(np.float32) * 5
            logits[:, MASK] = 40  # the model asks for the mask itself
            block, steps = stepped(denoiser, block, logits, SamplingParams(seed=seed)), steps + 1
            assert steps < 100
        assert not block.masked.any() and (block.tokens != MASK).all()


def test_unknown_names_and_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="no denoiser 'magic'"):
        denoiser_named("magic")
    with pytest.raises(InputError, match="has no 'treshold'"):
        denoiser_named("factor", {"treshold": 1})
    with pytest.raises(InputError, match="order is 'best'"):
        denoiser_named("dream", {"order": "best"})
