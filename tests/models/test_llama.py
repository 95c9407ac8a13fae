"""The Llama family on tiny random weights: the native executor against the reference, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fivefold.core.batch import Float32
from fivefold.core.errors import InputError
from fivefold.executor import processor
from fivefold.models import load_model

TOKENS = [int(token) for token in np.random.default_rng(5).integers(0, 80, 70)]
FORMATS = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"]
SUPER_FORMATS = ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"]
ROPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "linear": {"rope__scaling__type": "linear", "rope__scaling__factor": 4.0},
    "old linear": {"rope__scale_linear": 4.0},
    "yarn": {
        "rope__scaling__type": "yarn", "rope__scaling__factor": 4.0,
        "rope__scaling__original_context_length": 32,
    },
    "base": {"rope__freq_base": 500000.0},
}  # fmt: skip


def divergence(against: Float32, ours: Float32) -> float:
    """Mean KL divergence of next-token distributions, in nats."""

    def logs(rows: Float32) -> Any:
        wide = rows.astype(np.float64)
        wide -= wide.max(axis=1, keepdims=True)
        return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))

    p, q = logs(against), logs(ours)
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_each_format_agrees_with_the_reference(
    form: str, architecture: str, tiny: Any, save: Any, logits: Callable[..., Float32]
) -> None:
    shape = tiny(architecture=architecture)
    checkpoint = save(shape.metadata(), shape.arrays(), form)
    expected = logits(checkpoint, TOKENS, "reference")
    assert divergence(expected, logits(checkpoint, TOKENS)) < 1e-5
    if form.startswith(("q", "iq")):
        assert divergence(expected, logits(checkpoint, TOKENS, "int8")) < 0.02


@pytest.mark.parametrize("form", SUPER_FORMATS)
def test_each_format_with_blocks_of_256_agrees_with_the_reference(
    form: str, tiny: Any, save: Any, logits: Callable[..., Float32]
) -> None:
    shape = tiny(hidden=256, head_size=64, ffn=512)
    checkpoint = save(shape.metadata(), shape.arrays(), form)
    expected = logits(checkpoint, TOKENS, "reference")
    assert divergence(expected, logits(checkpoint, TOKENS)) < 1e-5
    found = [logits(checkpoint, TOKENS, "int8", isa) for isa in processor().instruction_sets]
    assert divergence(expected, found[0]) < 0.02
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].view(np.int32), other.view(np.int32))


@pytest.mark.parametrize(
    "changes",
    [
        {"tied": False},
        {"heads": 4, "kv_heads": 4},
        {"heads": 8, "kv_heads": 1, "head_size": 8},
        {"heads": 6, "kv_heads": 2, "head_size": 32},
        {"layers": 1, "vocabulary": 83, "ffn": 160},
    ],
    ids=str,
)
def test_each_shape_agrees_with_the_reference(
    changes: dict[str, Any], tiny: Any, save: Any, logits: Callable[..., Float32]
) -> None:
    shape = tiny(**changes)
    checkpoint = save(shape.metadata(), shape.arrays())
    assert divergence(logits(checkpoint, TOKENS, "reference"), logits(checkpoint, TOKENS)) < 1e-5


@pytest.mark.parametrize("rope", ROPES)
def test_each_rope_agrees_with_the_reference_and_matters(
    rope: str, tiny: Any, save: Any, logits: Callable[..., Float32]
) -> None:
    shape = tiny()
    checkpoint = save(shape.metadata(**ROPES[rope]), shape.arrays())
    ours = logits(checkpoint, TOKENS)
    assert divergence(logits(checkpoint, TOKENS, "reference"), ours) < 1e-5
    if rope != "plain":
        plain = logits(save(shape.metadata(), shape.arrays()), TOKENS)
        assert divergence(plain, ours) > 1e-3


def test_rope_factors_of_one_change_nothing_and_others_do(
    tiny: Any, save: Any, logits: Callable[..., Float32]
) -> None:
    shape = tiny()
    arrays = shape.arrays()
    plain = logits(save(shape.metadata(), arrays), TOKENS)
    ones = save(shape.metadata(), {**arrays, "rope_freqs.weight": np.ones(8, np.float32)})
    fours = save(shape.metadata(), {**arrays, "rope_freqs.weight": np.full(8, 4, np.float32)})
    linear = save(shape.metadata(**ROPES["linear"]), arrays)
    assert np.array_equal(logits(ones, TOKENS), plain)
    np.testing.assert_allclose(logits(fours, TOKENS), logits(linear, TOKENS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", ["f32", "q4_1"])
def test_instruction_sets_give_the_same_bits(
    form: str, tiny: Any, save: Any, logits: Callable[..., Float32]
) -> None:
    shape = tiny(heads=6, head_size=32)
    checkpoint = save(shape.metadata(), shape.arrays(), form)
    for by in ("float", "int8"):
        first, *others = (logits(checkpoint, TOKENS, by, isa) for isa in processor().instruction_sets)
        for other in others:
            assert np.array_equal(first, other)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope__scaling__type": "longrope"}, "rope.scaling.type is 'longrope'"),
        ({"rope__scaling__type": "yarn"}, "rope.scaling.factor is missing"),
        ({"attention__sliding_window": 16}, "attention.sliding_window is not known"),
        ({"expert_count": 8}, "expert_count is not known"),
        ({"block_count": None}, "block_count is missing"),
        ({"block_count": 0}, "block_count is 0, not a size"),
        ({"block_count": 2**31 - 1}, "says 2147483647 layers"),
        ({"block_count": 2**63}, "block_count is 9223372036854775808, not a size"),
        ({"block_count": float("inf")}, "block_count is inf, not a number that can be"),
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 0.5}, "factor is 0.5, less than 1"),
        ({"rope__scale_linear": 1e-30}, "scale_linear is 1e-30, less than 1"),
        ({"rope__scaling__finetuned": "zz"}, "finetuned is 'zz', not true or false"),
        (
            {
                "rope__scaling__type": "yarn",
                "rope__scaling__factor": 2.0,
                "rope__scaling__yarn_beta_slow": 64.0,
            },
            "yarn_beta_slow is 64, not below yarn_beta_fast 32",
        ),
        ({"block_count": np.arange(3, dtype=np.int32)}, "block_count is an array of 3 numbers, not a number"),
        ({"rope__freq_base": float("nan")}, "rope.freq_base is nan, not a number above 1"),
        ({"rope__freq_base": 1.0}, "rope.freq_base is 1.0, not a number above 1"),
        ({"rope__dimension_count": 18}, "18 dimensions of heads of 16 cannot rotate"),
        ({"rope__scaling__attn_factor": 2.0, "rope__scaling__type": "yarn"}, "attn_factor is 2.0"),
        ({"block_count": "two"}, "block_count is 'two', not a number"),
        ({"attention__head_count_kv": 3}, "do not share 3 KV heads"),
        ({"block_count": 3}, "tensor blk.2.attn_norm.weight is missing"),
        ({"feed_forward_length": 64}, "tensor blk.0.ffn_gate.weight is (96, 64), not (64, 64)"),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused_by_name(
    changes: dict[str, Any], said: str, tiny: Any, save: Any
) -> None:
    shape = tiny()
    checkpoint = save(shape.metadata(**changes), shape.arrays())
    with pytest.raises(InputError) as caught:
        load_model(checkpoint)
    line = caught.value.line()
    assert said in line
    assert str(checkpoint.path) in line
    assert caught.value.remedy


def test_an_unknown_architecture_is_refused(tiny: Any, save: Any) -> None:
    shape = tiny(architecture="mamba")
    with pytest.raises(
        InputError, match=r"architecture 'mamba' is not known; known are .*gemma2, .*llama, .*qwen2"
    ):
        load_model(save(shape.metadata(), shape.arrays()))


@pytest.mark.parametrize(
    "name",
    ["blk.1.attn_q.bias", "blk.0.attn_q_norm.weight", "rope_factors_long.weight", "blk.2.attn_norm.weight",
     "output.bias", "blk.0.ffn_gate_inp.weight"],
)  # fmt: skip
def test_a_tensor_without_a_place_is_refused_by_name(name: str, tiny: Any, save: Any) -> None:
    """It may have changed the result: biases of some layers only, norms of heads, experts."""
    shape = tiny()
    checkpoint = save(shape.metadata(), shape.arrays() | {name: np.ones(64, np.float32)})
    with pytest.raises(InputError, match=f"tensor {name} has no place") as caught:
        load_model(checkpoint)
    assert str(checkpoint.path) in caught.value.line()


@pytest.mark.parametrize(
    "name", ["blk.0.attn_rot_embd.weight", "model.layers.1.self_attn.rotary_emb.inv_freq"]
)
def test_frequencies_that_old_converters_wrote_are_let_be(name: str, tiny: Any, save: Any) -> None:
    shape = tiny()
    load_model(save(shape.metadata(), shape.arrays() | {name: np.ones(8, np.float32)}))


@pytest.mark.parametrize("part", ["attn_output", "ffn_gate", "ffn_down"])
def test_a_bias_anywhere_is_read_and_matters(
    part: str, tiny: Any, save: Any, logits: Callable[..., Float32]
) -> None:
    shape = tiny()
    arrays = shape.arrays()
    plain = logits(save(shape.metadata(), arrays), TOKENS, "reference")
    for layer in range(shape.layers):
        width = len(arrays[f"blk.{layer}.{part}.weight"])
        arrays[f"blk.{layer}.{part}.bias"] = np.linspace(-1, 1, width, dtype=np.float32)
    checkpoint = save(shape.metadata(), arrays)
    expected = logits(checkpoint, TOKENS, "reference")
    assert divergence(plain, expected) > 1e-4
    assert divergence(expected, logits(checkpoint, TOKENS)) < 1e-5


def test_a_bias_in_some_layers_only_is_refused(tiny: Any, save: Any) -> None:
    shape = tiny(architecture="qwen2")
    for layer, said in ((0, "blk.1.attn_k.bias has no place"), (1, "blk.1.attn_k.bias is missing")):
        arrays = {name: v for name, v in shape.arrays().items() if name != f"blk.{layer}.attn_k.bias"}
        with pytest.raises(InputError, match=said):
            load_model(save(shape.metadata(), arrays))
