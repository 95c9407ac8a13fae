"""Streams, calibration, scaling, sensitivity on tiny models: against whole runs, and by what they promise."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from fivefold.backends import NativeRunner
from fivefold.core.checkpoint import Checkpoint, Scales, Tensor
from fivefold.core.errors import InputError
from fivefold.engine import score
from fivefold.executor import Settings, dequantize
from fivefold.formats import FORMATS
from fivefold.models import load_model
from fivefold.quantize.calibrate import Calibration, calibrate
from fivefold.quantize.choice import Choice
from fivefold.quantize.gptq import gptq
from fivefold.quantize.grids import grid_of
from fivefold.quantize.moments import Moments
from fivefold.quantize.scaling import fold
from fivefold.quantize.sensitivity import Candidate, choose, log_softmax, measure_sensitivity
from fivefold.quantize.stream import Stream, as_float, inputs_of

SETTINGS = Settings("portable", 1, "float", 64, "f16")


def texts(count: int, length: int, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [[int(token) for token in random.integers(0, 80, length)] for _ in range(count)]


def logits(checkpoint: Checkpoint, tokens: list[int], changed: dict[str, Tensor] | None = None) -> np.ndarray:
    tensors = ChainMap(changed or {}, dict(checkpoint.tensors))
    whole = replace(checkpoint, tensors=tensors)
    return score(NativeRunner(load_model(checkpoint), whole, SETTINGS, 256), tokens)


def distance(checkpoint: Checkpoint, changed: dict[str, Tensor], windows: list[list[int]]) -> float:
    total = 0.0
    for window in windows:
        before, after = (log_softmax(logits(checkpoint, window, each)) for each in ({}, changed))
        total += float(np.mean(np.sum(np.exp(before) * (before - after), axis=1)))
    return total / len(windows)


def plain(name: str, values: np.ndarray, moments: Moments) -> Tensor:
    factor = np.float32(np.abs(values).max() / 2688)
    stored = FORMATS["nvfp4"].pack((values / factor).reshape(-1))
    return Tensor(name, "nvfp4", values.shape, stored, Scales.whole(float(factor), values.shape))


def searched(name: str, values: np.ndarray, moments: Moments) -> Tensor:
    return gptq(name, values, moments, grid_of(Choice("nvfp4", "gptq"), ""))


@pytest.fixture
def checkpoint(tiny: Any, save: Callable[..., Checkpoint]) -> Checkpoint:
    shape = tiny(layers=3, ffn=128)
    return save(shape.metadata(), shape.arrays())


def test_layer_by_layer_is_the_whole_model(checkpoint: Checkpoint) -> None:
    """Bit for bit, in windows longer than a step."""
    model = load_model(checkpoint)
    windows = [*texts(2, 100), *texts(1, 30, 5)]
    stream = Stream(model, windows, SETTINGS)
    for layer in model.main.layers:
        rest = stream.through(layer, model.main.layers[-1])
        found = list(rest(checkpoint.tensors.__getitem__))
        for window, rows in zip(windows, found, strict=True):
            np.testing.assert_array_equal(rows[:-1], logits(checkpoint, window))
        if layer != model.main.layers[-1]:
            stream.advance(layer, checkpoint.tensors.__getitem__)


def test_inputs_are_found_with_their_matrices(checkpoint: Checkpoint) -> None:
    program = load_model(checkpoint).main.slice(1, 2)
    assert [inputs.weights for inputs in inputs_of(program)] == [
        ("blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight"), ("blk.1.attn_output.weight",),
        ("blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"), ("blk.1.ffn_down.weight",),
    ]  # fmt: skip


def test_calibration_loses_less_on_a_text_that_it_has_not_seen(checkpoint: Checkpoint) -> None:
    model, seen, fresh = load_model(checkpoint), texts(12, 128), texts(4, 100, 9)
    calibration = Calibration(seen, SETTINGS, compensate=False)
    told: list[str] = []
    by_rounding = calibrate(model, checkpoint.tensors, calibration, plain, told.append)
    assert told[0] == "token_embd.weight"  # the head that is the table of embeddings too
    assert set(told) == set(by_rounding) and len(told) == 1 + 3 * 7
    by_search = calibrate(model, checkpoint.tensors, calibration, searched)
    compensated = calibrate(model, checkpoint.tensors, Calibration(seen, SETTINGS), searched)
    losses = [distance(checkpoint, each, fresh) for each in (by_rounding, by_search, compensated)]
    assert losses[1] < 0.8 * losses[0]
    assert losses[2] < 1.05 * losses[1]


def test_norms_are_corrected_where_matrices_are_only_rounded(tiny: Any, save: Any) -> None:
    shape = tiny(architecture="qwen2", layers=3, ffn=128, tied=False)
    checkpoint = save(shape.metadata(), shape.arrays())
    model, seen, fresh = load_model(checkpoint), texts(8, 128), texts(4, 100, 9)
    changed = {
        correct: calibrate(
            model, checkpoint.tensors, Calibration(seen, SETTINGS, compensate=False, correct=correct), plain
        )
        for correct in (False, True)
    }
    extra = set(changed[True]) - set(changed[False])
    assert {"blk.1.attn_norm.weight", "blk.2.ffn_norm.weight", "blk.1.attn_q.bias"} <= extra
    assert distance(checkpoint, changed[True], fresh) < 1.02 * distance(checkpoint, changed[False], fresh)
    # The outputs' means are what they were, by the biases.
    stream, lossy = (Stream(model, seen, SETTINGS) for _ in range(2))
    tensors = ChainMap(changed[True], dict(checkpoint.tensors)).__getitem__
    query = next(node for node in model.main.nodes if node.weights[:1] == ("blk.0.attn_q.weight",)).outputs[0]
    before = np.concatenate([rows[query] for rows in stream.rows(0, checkpoint.tensors.__getitem__, [query])])
    after = np.concatenate([rows[query] for rows in lossy.rows(0, tensors, [query])])
    np.testing.assert_allclose(before.mean(axis=0), after.mean(axis=0), atol=2e-3)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_folded_scaling_changes_no_answer_and_loses_less(architecture: str, tiny: Any, save: Any) -> None:
    shape = tiny(architecture=architecture, layers=2, ffn=128)
    arrays = shape.arrays()
    for name in arrays:
        if "norm" in name and name != "output_norm.weight":
            arrays[name] = arrays[name] * np.random.default_rng(4).lognormal(0, 1.2, 64).astype(np.float32)
    checkpoint = save(shape.metadata(), arrays)
    model, seen, fresh = load_model(checkpoint), texts(6, 100), texts(3, 100, 9)
    changed = fold(
        model, checkpoint.tensors, seen, SETTINGS,
        lambda values: dequantize(plain("w", values, Moments(np.eye(1)))),
    )  # fmt: skip
    assert {"blk.0.attn_norm.weight", "blk.0.attn_q.weight", "blk.0.ffn_up.weight"} <= set(changed)
    assert "token_embd.weight" not in changed and "output_norm.weight" not in changed
    up = frozenset({"blk.0.ffn_up.weight"})
    others = fold(model, checkpoint.tensors, seen, SETTINGS, lambda values: values, up)
    assert not {"blk.0.ffn_up.weight", "blk.0.ffn_norm.weight"} & set(others)
    # But for what f16 keeps of the values, whose size has changed.
    assert distance(checkpoint, changed, fresh) < 2e-4
    calibration = Calibration(seen, SETTINGS, compensate=False)
    scaled = dict(ChainMap(changed, dict(checkpoint.tensors)))
    before = calibrate(model, checkpoint.tensors, calibration, plain)
    after = {**changed, **calibrate(model, scaled, calibration, plain)}
    assert distance(checkpoint, after, fresh) < distance(checkpoint, before, fresh)


def test_sensitivity_is_the_distance_of_one_matrix(checkpoint: Checkpoint) -> None:
    model, windows = load_model(checkpoint), texts(2, 60)
    names = ["token_embd.weight", "blk.0.attn_q.weight", "blk.2.ffn_down.weight", "blk.1.attn_v.weight"]
    quantized = {
        name: plain(name, dequantize(checkpoint.tensors[name]), Moments(np.eye(1))) for name in names
    }
    found = measure_sensitivity(model, checkpoint.tensors, quantized, windows, SETTINGS)
    assert set(found) == set(names)
    for name in names:
        # The last position of a window has an answer too, which `distance` does not score.
        assert found[name] == pytest.approx(distance(checkpoint, {name: quantized[name]}, windows), rel=0.15)
    same = {"blk.1.attn_v.weight": as_float("v", dequantize(checkpoint.tensors["blk.1.attn_v.weight"]))}
    assert measure_sensitivity(model, checkpoint.tensors, same, windows, SETTINGS) == {
        "blk.1.attn_v.weight": pytest.approx(0.0, abs=1e-9)
    }


def test_choices_fit_their_budget_and_are_near_the_best() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        options = {}
        for name in "abcdef":
            sizes = np.sort(random.integers(10, 100, 3))
            distances = np.sort(random.exponential(1.0, 3))[::-1]
            options[name] = [
                Candidate(form, int(size), float(lost))
                for form, size, lost in zip("xyz", sizes, distances, strict=True)
            ]
        least = sum(each[0].size for each in options.values())
        most = sum(each[-1].size for each in options.values())
        budget = (least + most) // 2
        chosen = choose(options, budget)
        assert sum(each.size for each in chosen.values()) <= budget
        best = min(
            sum(each.distance for each in pick)
            for pick in product(*options.values())
            if sum(each.size for each in pick) <= budget
        )
        lost = sum(each.distance for each in chosen.values())
        worst = sum(each[0].distance for each in options.values())
        assert best <= lost + 1e-12 and lost <= best + 0.25 * (worst - best)
        assert choose(options, most) == {name: each[-1] for name, each in options.items()}
        with pytest.raises(InputError, match=f"{least} bytes at least"):
            choose(options, least - 1)
