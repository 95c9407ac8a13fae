"""Qwen3, SmolLM3, Mistral and Ministral, Gemma: GGUF files of the same weights, values that matter, refusals.

The models are those that Transformers makes for `test_against_transformers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from configured import assert_refused, changed
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers_models import LINEAR, MODELS, YARN, Generated

from fivefold.backends import NativeRunner
from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import InputError
from fivefold.engine.score import score_in_chunks
from fivefold.executor import Settings, choose_isa, dequantize
from fivefold.files import open_checkpoint
from fivefold.formats import FORMATS
from fivefold.models import load_model

Give = Callable[[str], Generated]
Logits = Callable[..., Float32]
TOKENS = [int(token) for token in np.random.default_rng(8).integers(0, 96, 45)]
BASE = ["qwen3", "qwen3-window", "smollm3", "mistral", "ministral", "ministral3", "gemma2", "gemma3"]


def as_gguf(folder: Checkpoint, save: Any, converted: Any, **keys: Any) -> Checkpoint:
    weights = {name: dequantize(tensor) for name, tensor in folder.tensors.items()}
    gguf = converted(folder.metadata, weights)
    architecture = gguf.metadata["general.architecture"]
    more = {f"{architecture}.{key.replace('__', '.')}": value for key, value in keys.items()}
    file: Checkpoint = save({**gguf.metadata, **more}, gguf.arrays)
    return file


ALIKE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("qwen3", {}, {}),
    ("gemma2", {"query_pre_attn_scalar": 16}, {}),
    ("gemma2", {"query_pre_attn_scalar": 16, "final_logit_softcapping": 9.0}, {"rope__freq_base_swa": 1e4}),
    ("gemma3", {"query_pre_attn_scalar": 16}, {}),
    ("gemma3-linear", {"query_pre_attn_scalar": 16}, {"attention__sliding_window_pattern": 2}),
    (
        "gemma3-linear", {"query_pre_attn_scalar": 16},
        {"attention__sliding_window_pattern": np.array([True, False] * 2)},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config", "keys"), ALIKE, ids=str)
@pytest.mark.parametrize("by", ["reference", "float", "int8"])
def test_a_gguf_file_of_the_same_weights_gives_the_same_bits(
    name: str, config: Any, keys: Any, by: str, generated: Give, save: Any, converted: Any, logits: Logits
) -> None:
    folder = changed(open_checkpoint(generated(name).folder), **config)
    file = as_gguf(folder, save, converted, **keys)
    assert np.array_equal(logits(folder, TOKENS, by), logits(file, TOKENS, by))


@pytest.mark.parametrize("name", ["smollm3", "ministral3"])
def test_a_permuted_gguf_file_differs_by_rounding(
    name: str, generated: Give, save: Any, converted: Any, logits: Logits
) -> None:
    folder = open_checkpoint(generated(name).folder)
    file = as_gguf(folder, save, converted)
    ours, theirs = logits(folder, TOKENS, "reference"), logits(file, TOKENS, "reference")
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.abs(logits(file, TOKENS) - theirs).max() < 0.05  # half a step of the f16 cache may turn over


MATTERS: list[tuple[str, dict[str, Any]]] = [
    ("qwen3", {"rms_norm_eps": 0.1}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 30, "max_window_layers": 0, "layer_types": ...}),
    ("qwen3-window", {"max_window_layers": 3, "layer_types": ...}),
    ("smollm3", {"no_rope_layers": ..., "no_rope_layer_interval": 2}),
    ("smollm3", {"no_rope_layers": [1, 1, 1, 1, 1]}),
    ("mistral", {"sliding_window": 13}),
    ("mistral", {"sliding_window": None}),
    ("ministral", {"layer_types": ["full_attention", "sliding_attention"] * 2}),
    ("ministral3", {"rope_parameters": {**YARN, "llama_4_scaling_beta": 0.2}}),
    ("gemma2", {"attn_logit_softcapping": 20.0}),
    ("gemma2", {"final_logit_softcapping": None}),
    ("gemma2", {"query_pre_attn_scalar": 32}),
    ("gemma2", {"layer_types": ..., "sliding_window_pattern": 3}),
    ("gemma3", {"final_logit_softcapping": 5.0}),
    ("gemma3", {"rope_parameters": LINEAR}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), MATTERS, ids=str)
def test_each_value_matters(name: str, values: dict[str, Any], generated: Give, logits: Logits) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    difference = np.abs(logits(checkpoint, TOKENS) - logits(changed(checkpoint, **values), TOKENS))
    assert difference.max() > 1e-3


OLD: list[tuple[str, dict[str, Any]]] = [
    ("qwen3", {"rope_parameters": ..., "rope_theta": 10000.0, "layer_types": ...}),
    ("smollm3", {"rope_parameters": ..., "no_rope_layers": ..., "layer_types": ...}),
    ("mistral", {"rope_parameters": ..., "rope_theta": 10000, "torch_dtype": "float32"}),
    ("gemma2", {"rope_parameters": ..., "layer_types": ..., "tie_word_embeddings": ..., "head_dim": 16.0,
                "hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid"}),
    ("gemma2", {"final_logit_softcapping": ..., "attn_logit_softcapping": ...}),
    ("gemma3", {"rope_parameters": ..., "layer_types": ..., "sliding_window_pattern": 6}),
    ("gemma3", {"rope_parameters": ..., "rope_theta": 1000000, "rope_local_base_freq": 10000,
                "rope_scaling": None, "_sliding_window_pattern": 6}),
    ("gemma3-linear", {"rope_parameters": ..., "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    ("gemma3-linear", {"rope_parameters": {"full_attention": LINEAR["full_attention"]}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), OLD, ids=str)
def test_old_forms_and_silence_mean_what_transformers_means(
    name: str, values: dict[str, Any], generated: Give, logits: Logits
) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    assert np.array_equal(logits(checkpoint, TOKENS), logits(changed(checkpoint, **values), TOKENS))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3", {"num_experts": 8}, "key num_experts is not known to the Qwen3ForCausalLM family"),
    ("qwen3", {"attention_bias": True}, "key attention_bias is True"),
    ("qwen3", {"hidden_act": "gelu"}, "key hidden_act is 'gelu'"),
    ("qwen3", {"layer_types": ["sliding_attention"] * 4}, "layer_types has other layers than full_attention"),
    ("qwen3", {"layer_types": ["full_attention"] * 3}, "key layer_types names 3 layers of 4"),
    ("qwen3", {"model_type": "qwen2"}, "key model_type is 'qwen2'; known are 'qwen3'"),
    ("qwen3-window", {"sliding_window": 0}, "key sliding_window is 0, not a size"),
    ("qwen3-window", {"use_sliding_window": "yes"}, "use_sliding_window is 'yes', not true or false"),
    ("smollm3", {"no_rope_layers": [1, 0]}, "key no_rope_layers names 2 layers of 5"),
    ("smollm3", {"no_rope_layers": [1, 0, 1, 2, 1]}, "no_rope_layers is not a list of ones and zeros"),
    ("smollm3", {"no_rope_layers": [True] * 5}, "no_rope_layers is not a list of ones and zeros"),
    ("mistral", {"use_sliding_window": False}, "key use_sliding_window is not known"),
    ("mistral", {"layer_types": ["full_attention"] * 4}, "key layer_types is ['full_attention', "),
    ("ministral", {"layer_types": ["chunked_attention"] * 4}, "key layer_types has other layers than"),
    ("ministral3", {"rope_parameters": YARN}, "key rope_parameters.llama_4_scaling_beta is missing"),
    ("ministral3", {"rope_parameters": {"rope_type": "default", "llama_4_scaling_beta": 0.1}},
     "key rope_parameters.llama_4_scaling_beta is 0.1, but no length is known"),
    ("gemma2", {"use_bidirectional_attention": True}, "key use_bidirectional_attention is True"),
    ("gemma2", {"hidden_activation": "gelu"}, "key hidden_activation is 'gelu'"),
    ("gemma2", {"attn_logit_softcapping": 0.0}, "attn_logit_softcapping is 0.0, not a number above 0"),
    ("gemma2", {"rope_parameters": LINEAR}, "key rope_parameters.full_attention is not known"),
    ("gemma3", {"attn_logit_softcapping": 50.0}, "key attn_logit_softcapping is 50.0"),
    ("gemma3", {"rope_parameters": {"rope_type": "default"}}, "key rope_parameters.rope_type is not known"),
    ("gemma3", {"rope_parameters": {**LINEAR, "sliding_attention": {"rope_type": "dynamic"}}},
     "key rope_parameters.sliding_attention.rope_type is 'dynamic'"),
    ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "linear"}}},
     "key rope_parameters.full_attention.factor is missing"),
    ("gemma3", {"model_type": "gemma3"}, "key model_type is 'gemma3'; known are 'gemma3_text'"),
    ("gemma3", {"tie_word_embeddings": False}, "tensor lm_head.weight is missing"),
    *[(name, {"num_hidden_layers": 2**31 - 1}, "says 2147483647 layers") for name in BASE],
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "said"), REFUSED, ids=str)
def test_what_is_not_known_is_refused_by_name(
    name: str, values: dict[str, Any], said: str, generated: Give
) -> None:
    checkpoint = changed(open_checkpoint(generated(name).folder), **values)
    assert_refused(lambda: load_model(checkpoint), checkpoint.path, said)


REFUSED_GGUF: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3", {"expert_count": 8}, "key qwen3.expert_count is not known"),
    ("gemma2", {"attention__scale": 0.1}, "key gemma2.attention.scale is not known"),
    ("gemma3", {"attn_logit_softcapping": 50.0}, "key gemma3.attn_logit_softcapping is 50.0"),
    ("gemma3", {"attention__sliding_window_pattern": np.array([True])}, "names 1 layers of 7"),
    ("gemma3", {"attention__sliding_window_pattern": 0}, "sliding_window_pattern is 0, not a size"),
    ("ministral3", {"rope__scaling__type": "none"}, "temperature_scale is 0.3, but no length is known"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "keys", "said"), REFUSED_GGUF, ids=str)
def test_what_is_not_known_in_gguf_is_refused_by_name(
    name: str, keys: dict[str, Any], said: str, generated: Give, save: Any, converted: Any
) -> None:
    file = as_gguf(open_checkpoint(generated(name).folder), save, converted, **keys)
    assert_refused(lambda: load_model(file), file.path, said)


@pytest.mark.parametrize(("form", "factor"), [("f32", 48**0.5), ("bf16", 6.9375), ("f16", 6.9296875)])
def test_embeddings_are_multiplied_by_a_root_in_their_own_format(
    form: str, factor: float, generated: Give
) -> None:
    """As Transformers does when it runs a model in the format that its weights have."""
    whole = open_checkpoint(generated("gemma2").folder)
    name = "model.embed_tokens.weight"
    values = dequantize(whole.tensors[name])
    table = Tensor(name, form, values.shape, FORMATS[form].pack(values.ravel()))
    model = load_model(Checkpoint(whole.path, whole.kind, whole.metadata, {**whole.tensors, name: table}))
    (scaled,) = [node for node in model.main.nodes if node.op == "scale"]
    assert scaled.attributes["factor"] == np.float32(factor)


@pytest.mark.parametrize("name", ["ministral3", "gemma3", "smollm3"])
def test_a_program_can_be_cut_between_layers(name: str, generated: Give) -> None:
    """Each part takes the rows alone from the one before: angles it computes again."""
    program = load_model(open_checkpoint(generated(name).folder)).main
    parts = [program.slice(layer, layer + 1) for layer in program.layers]
    for before, after in pairwise(parts):
        assert len(before.outputs) == 1
        assert before.outputs == after.inputs
    assert parts[-1].outputs == program.outputs


@pytest.mark.parametrize("window", [12, 300])
def test_rows_have_the_same_bits_whatever_runs_beside_them(window: int, generated: Give) -> None:
    """Windows begin and end within tiles and segments of attention that other rows see whole."""
    whole = open_checkpoint(generated("mistral").folder)
    checkpoint = changed(whole, max_position_embeddings=1024, sliding_window=window)
    model, tokens = load_model(checkpoint), [int(t) for t in np.random.default_rng(1).integers(0, 96, 601)]
    found = []
    for rows in (256, 9):
        runner = NativeRunner(model, checkpoint, Settings(choose_isa("auto"), 1, "float", 256), 1024)
        found.append(np.concatenate([part.copy() for part in score_in_chunks(runner, tokens, rows)]))
    assert np.array_equal(*found)


VALUES = st.sampled_from(
    [None, True, False, 0, 1, -1, 2, 7, 16, 0.5, 1e300, 2**31 - 1, 2**31, 10**400, "", "yarn", [], ["x"], {},
     [[]],
     ["full_attention"] * 4, ["sliding_attention"] * 4, [1, 0, 1, 0], {"rope_type": "yarn", "factor": 2},
     {"full_attention": {"rope_type": "linear"}}, {"full_attention": None, "sliding_attention": {}},
     {"sliding_attention": [1]}, {"llama_4_scaling_beta": 0.1}]
)  # fmt: skip


@pytest.mark.parametrize("name", BASE)
def test_every_config_is_a_model_or_one_line(name: str, generated: Give) -> None:
    whole = open_checkpoint(generated(name).folder)
    keys = sorted({*whole.metadata, "rope_theta", "rope_scaling", "rope_local_base_freq",
                   "sliding_window_pattern", "no_rope_layer_interval"})  # fmt: skip

    @given(values=st.dictionaries(st.sampled_from(keys), VALUES, max_size=3))
    @settings(max_examples=60)
    def try_one(values: dict[str, Any]) -> None:
        try:
            model = load_model(changed(whole, **values))
        except InputError as error:
            assert "\n" not in error.line()
            assert len(error.line()) < 700
        else:
            assert all(np.isfinite(values).all() for values in model.main.constants.values())

    try_one()


def test_what_transformers_saves_is_read_whole(generated: Give) -> None:
    """No folder has a tensor that its Program does not name, nor the other way round, but those left."""
    for name in MODELS:
        folder = open_checkpoint(generated(name).folder)
        model = load_model(folder)
        assert set(model.main.tensors) | set(model.left) == set(folder.tensors)
        assert not set(model.main.tensors) & set(model.left)
        saved = json.loads((generated(name).folder / "config.json").read_text())
        several = "text_config" in saved
        assert bool(model.left) == several
        assert saved["architectures"][0].endswith("ForConditionalGeneration" if several else "ForCausalLM")
