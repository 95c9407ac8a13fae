"""What a config.json may say to the Llama family: refusals by name, and what silence means."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from configured import assert_refused
from hypothesis import given, settings
from hypothesis import strategies as st

from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.engine import load
from fivefold.files import open_checkpoint
from fivefold.models import load_model

DATA = Path(__file__).parent / "data" / "folders"
TOKENS = [*range(40)]
YARN = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip

Change = Callable[..., Path]


@pytest.fixture
def changed(tmp_path: Path) -> Change:
    """A model folder with other values in its config.json; `...` takes a key out."""

    def change(name: str, **values: Any) -> Path:
        folder = Path(shutil.copytree(DATA / name, tmp_path / name, dirs_exist_ok=True))
        config = {**json.loads((DATA / name / "config.json").read_text()), **values}
        kept = {key: value for key, value in config.items() if value is not ...}
        (folder / "config.json").write_text(json.dumps(kept))
        return folder

    return change


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama-f32", {"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel' is not known; known are"),
    ("llama-f32", {"architectures": ...}, "key architectures is missing"),
    (
        "llama-f32", {"architectures": ["LlamaForCausalLM", "x"]},
        "key architectures is missing or is not one name",
    ),
    ("llama-f32", {"model_type": "mllama"}, "key model_type is 'mllama'; known are 'llama'"),
    ("llama-f32", {"final_logit_softcapping": 30.0}, "key final_logit_softcapping is not known"),
    ("llama-f32", {"quantization_config": {"bits": 4}}, "quantization without a quant_method is not"),
    ("llama-f32", {"auto_map": {"AutoModel": "code.Model"}}, "key auto_map is not known"),
    ("llama-f32", {"num_local_experts": 8}, "key num_local_experts is not known"),
    ("llama-f32", {"hidden_act": "gelu"}, "key hidden_act is 'gelu'; known are 'silu'"),
    ("llama-f32", {"hidden_size": ...}, "key hidden_size is missing"),
    ("llama-f32", {"hidden_size": "32"}, "key hidden_size is '32', not a number"),
    ("llama-f32", {"hidden_size": True}, "key hidden_size is True, not a number"),
    ("llama-f32", {"hidden_size": 32.5}, "key hidden_size is 32.5, not a size"),
    ("llama-f32", {"hidden_size": 0}, "key hidden_size is 0, not a size"),
    ("llama-f32", {"hidden_size": 10**400}, "key hidden_size is a huge number"),
    ("llama-f32", {"hidden_size": 64}, "tensor model.embed_tokens.weight is (48, 32), not (48, 64)"),
    ("llama-f32", {"num_hidden_layers": 2**31 - 1}, "says 2147483647 layers"),
    ("llama-f32", {"num_hidden_layers": 3}, "tensor model.layers.2.input_layernorm.weight is missing"),
    ("llama-f32", {"head_dim": 2**30}, "tensor model.layers.0.self_attn.q_proj.weight is (64, 32), not"),
    ("llama-f32", {"head_dim": 15}, "15 dimensions of heads of 15 cannot rotate in pairs"),
    ("llama-f32", {"num_key_value_heads": 3}, "4 heads do not share 3 KV heads evenly"),
    ("llama-f32", {"vocab_size": 49}, "tensor model.embed_tokens.weight is (48, 32), not (49, 32)"),
    ("llama-f32", {"rms_norm_eps": 0}, "key rms_norm_eps is 0, not a number above 0"),
    ("llama-f32", {"attention_bias": "yes"}, "key attention_bias is 'yes', not true or false"),
    ("llama-f32", {"partial_rotary_factor": 0.5}, "rotate a part of each head"),
    ("llama-f32", {"rope_interleaved": True}, "key rope_interleaved is True"),
    ("llama-f32", {"is_encoder_decoder": True}, "key is_encoder_decoder is True"),
    ("llama-f32", {"pruned_heads": {"0": [1]}}, "key pruned_heads is {'0': [1]}"),
    ("llama-f32", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types has other layers"),
    ("llama-f32", {"layer_types": [["full_attention"], {}]}, "layer_types has other layers"),
    ("mistral-bf16", {"num_key_value_heads": ...}, "key num_key_value_heads is missing"),
    ("mistral-bf16", {"attention_bias": True}, "key attention_bias is True"),
    ("mistral-bf16", {"mlp_bias": True}, "key mlp_bias is True"),
    ("qwen2-bf16", {"attention_bias": False}, "key attention_bias is False"),
    ("qwen2-bf16", {"tie_word_embeddings": False}, "tensor lm_head.weight is missing"),
]  # fmt: skip
ROPES: list[tuple[Any, str]] = [

    ("yarn", "key rope_parameters is not an object"),
    ({"rope_type": "dynamic", "factor": 2.0}, "rope_parameters.rope_type is 'dynamic'; known are 'default'"),
    ({"rope_type": "longrope"}, "'longrope'"),
    ({"type": "mrope"}, "key rope_parameters.type is 'mrope'"),
    ({"rope_type": ["yarn"]}, "is ['yarn']"),
    ({"full_attention": YARN}, "key rope_parameters.full_attention is not known"),
    ({"rope_type": "default", "factor": 2.0}, "key rope_parameters.factor is not known"),
    ({"rope_type": "linear"}, "key rope_parameters.factor is missing"),
    ({"rope_type": "linear", "factor": 0.5}, "key rope_parameters.factor is 0.5, less than 1"),
    ({"rope_type": "linear", "factor": 2.0, "rope_theta": 1.0}, "rope_theta is 1.0, not a number above 1"),
    ({**YARN, "mscale": 1.0}, "key rope_parameters.mscale_all_dim is missing"),
    ({**YARN, "truncate": 1}, "key rope_parameters.truncate is 1, not true or false"),
    ({**YARN, "beta_fast": 0}, "beta_fast is 0, not a number above 0"),
    ({**YARN, "partial_rotary_factor": 0.5}, "rotate a part of each head"),
    ({**YARN, "low_freq_factor": 1.0}, "key rope_parameters.low_freq_factor is not known"),
    ({**LLAMA3, "high_freq_factor": 0.5}, "low_freq_factor is 1.0, above high_freq_factor 0.5"),
    ({**LLAMA3, "original_max_position_embeddings": 0}, "original_max_position_embeddings is 0, not a size"),
]  # fmt: skip


def refused(folder: Path, said: str) -> None:
    assert_refused(lambda: load_model(open_checkpoint(folder)), folder, said)


@pytest.mark.parametrize(("name", "values", "said"), REFUSED, ids=str)
def test_what_is_not_known_is_refused_by_name(
    name: str, values: dict[str, Any], said: str, changed: Change
) -> None:
    refused(changed(name, **values), said)


@pytest.mark.parametrize(("rope", "said"), ROPES, ids=str)
def test_rotary_parameters_that_are_not_known_are_refused_by_name(
    rope: Any, said: str, changed: Change
) -> None:
    refused(changed("llama-f32", rope_parameters=rope), said)


def test_rotary_parameters_in_both_forms_contradict_each_other(changed: Change) -> None:
    refused(changed("llama-f32", rope_scaling=YARN), "key rope_scaling stands beside rope_parameters")


ALIKE: list[tuple[str, dict[str, Any]]] = [
    ("llama-f32", {"tie_word_embeddings": True}),  # the head in the file is used
    ("llama-f32", {"sliding_window": 16, "use_cache": False, "initializer_range": 9.0}),
    ("llama-f32", {"dtype": "float16", "torch_dtype": "int8"}),  # what the tensors are, they say themselves
    ("llama-f32", {"hidden_act": None, "model_type": None, "rope_scaling": None}),
    ("mistral-bf16", {"sliding_window": 128}),
    ("mistral-bf16", {"sliding_window": ...}),
    ("mistral-bf16", {"layer_types": ["sliding_attention"] * 2, "sliding_window": 128}),
    ("mistral-bf16", {"attention_bias": False, "mlp_bias": False}),
    ("qwen2-bf16", {"sliding_window": 16, "max_window_layers": 0}),
    ("qwen2-bf16", {"use_sliding_window": True, "sliding_window": 128, "head_dim": 8}),
    ("qwen2-bf16", {"num_key_value_heads": 2.0, "quantization_config": None, "temperature": 0.7}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), ALIKE, ids=str)
def test_what_changes_nothing_changes_nothing(
    name: str, values: dict[str, Any], changed: Change, logits: Callable[..., Float32]
) -> None:
    ours = logits(open_checkpoint(changed(name, **values)), TOKENS)
    assert np.array_equal(ours, logits(open_checkpoint(DATA / name), TOKENS))


def test_silence_about_heads_means_one_for_each(changed: Change) -> None:
    folder = changed("llama-f32", num_key_value_heads=...)
    refused(folder, "tensor model.layers.0.self_attn.k_proj.weight is (32, 32), not (64, 32)")


def test_a_tensor_of_no_size_cannot_make_room(changed: Change, tmp_path: Path) -> None:
    """Sizes are held against tensors that have bytes."""
    header = {
        "model.embed_tokens.weight": {"dtype": "F32", "shape": [48, 32], "data_offsets": [0, 6144]},
        "model.layers.0.self_attn.q_proj.weight": {
            "dtype": "F32", "shape": [2**31, 0], "data_offsets": [6144, 6144],
        },
    }  # fmt: skip
    folder = changed("llama-f32", head_dim=2**29)
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(6144))
    refused(folder, "q_proj.weight is (2147483648, 0), not (2147483648, 32)")


def test_a_format_without_a_row_is_refused_only_where_it_is_used(changed: Change) -> None:
    folder = changed("llama-f32")
    file = folder / "model.safetensors"
    stored = file.read_bytes()
    file.write_bytes(
        stored.replace(b'"model.norm.weight":{"dtype":"F32"', b'"model.norm.weight":{"dtype":"I32"')
    )
    assert file.read_bytes() != stored
    assert load_model(open_checkpoint(folder)).shape.layers == 2
    with pytest.raises(UnsupportedError, match=r"tensor model\.norm\.weight.*i32"):
        load(folder)


VALUES = st.sampled_from(
    [None, True, False, 0, 1, -1, 2, 16, 0.5, 1e-300, 1e300, 2**31, 2**63, 10**400, "", "yarn", "linear", [],
     ["x"], {}, {"rope_type": "yarn", "factor": 2}, {"rope_type": "llama3"}, [[]], ["full_attention"] * 2]
)  # fmt: skip
ROPE = st.dictionaries(
    st.sampled_from(
        ["factor", "rope_theta", "original_max_position_embeddings", "attention_factor", "beta_fast",
         "beta_slow", "mscale", "mscale_all_dim", "truncate", "low_freq_factor", "high_freq_factor", "type"]
    ), VALUES, max_size=4,
)  # fmt: skip
OPENED = {path.name: open_checkpoint(path) for path in sorted(DATA.iterdir()) if path.is_dir()}
KEYS = sorted({key for checkpoint in OPENED.values() for key in checkpoint.metadata})


@given(
    name=st.sampled_from(sorted(OPENED)), values=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
    kind=st.sampled_from(["", "default", "linear", "llama3", "yarn"]), rope=ROPE,
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_every_config_is_a_model_or_one_line(
    name: str, values: dict[str, Any], kind: str, rope: dict[str, Any]
) -> None:
    whole = OPENED[name]
    if kind:
        values = {**values, "rope_parameters": {"rope_type": kind, **rope}}
    changed = Checkpoint(whole.path, whole.kind, {**whole.metadata, **values}, whole.tensors)
    try:
        model = load_model(changed)
    except InputError as error:
        assert "\n" not in error.line()
        assert len(error.line()) < 700
    else:
        assert np.isfinite(model.main.constants["inverse_frequency"]).all()
