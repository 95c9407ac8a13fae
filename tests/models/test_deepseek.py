"""DeepSeek V2 and V3: GGUF files of the same weights in both forms, FP8 in blocks, what matters, refusals.

The models are those that Transformers makes for `test_against_transformers`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantized_writer as writer
from configured import assert_refused, changed
from deepseek_gguf import as_f32, as_gguf
from transformers_models import LATENT, SIZES, YARN, Generated

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core.batch import Commit, Float32, Span, Step
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import InputError
from fivefold.engine.described import described
from fivefold.engine.inspection import inspect_model
from fivefold.engine.need import measured
from fivefold.engine.options import LoadOptions
from fivefold.executor import Settings, choose_isa, dequantize
from fivefold.files import open_checkpoint
from fivefold.formats import ENTRY_FORMATS
from fivefold.models import load_model
from fivefold.plan import step_cost

Give = Callable[[str], Generated]
Logits = Callable[..., Float32]
TOKENS = [int(token) for token in np.random.default_rng(8).integers(0, 96, 45)]
V3 = "deepseek-v3-groups"


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("name", ["deepseek-v2-lite", "deepseek-v2", V3])
@pytest.mark.parametrize("by", ["reference", "float", "int8"])
def test_a_gguf_file_of_the_same_weights_gives_the_same_bits(
    name: str, by: str, apart: bool, generated: Give, tmp_path: Path, logits: Logits
) -> None:
    """Matrices of heads in one, as old files have them, or apart."""
    folder = open_checkpoint(generated(name).folder)
    if name == "deepseek-v2":
        folder = without_biases(folder)
    file = as_gguf(folder, tmp_path, apart)
    assert np.array_equal(logits(folder, TOKENS, by), logits(file, TOKENS, by))


def without_biases(folder: Checkpoint) -> Checkpoint:
    """GGUF files have none."""
    tensors = {
        name: tensor for name, tensor in folder.tensors.items()
        if not name.endswith(".bias")
    }  # fmt: skip
    return Checkpoint(folder.path, folder.kind, {**folder.metadata, "attention_bias": False}, tensors)


def test_quantized_matrices_of_heads_that_have_to_be_turned_are_what_they_stand_for(
    generated: Give, tmp_path: Path, logits: Logits
) -> None:
    """Blocks lie along the latent, which the turned matrix has as outputs."""
    folder = open_checkpoint(generated("deepseek-blocks").folder)
    file = as_gguf(folder, tmp_path, False, {"attn_kv_b.weight": "q8_0"})
    held = {name: tensor for name, tensor in file.tensors.items() if not name.endswith("attn_kv_b.weight")}
    for name, tensor in file.tensors.items():
        if name not in held:
            values = dequantize(tensor)
            held[name] = as_f32(name, values)
    same = Checkpoint(file.path, file.kind, file.metadata, held)
    turned = 4 * 4 * 32 * 64 * file.metadata["deepseek2.block_count"]  # bytes of heads of 32 by 64 numbers
    grown = measured(described(file, LoadOptions()), LoadOptions()).weights - sum(
        tensor.stored_bytes for tensor in file.tensors.values()
    )
    assert grown == turned * (1 - 34 / 128)
    ours = logits(file, TOKENS)
    np.testing.assert_allclose(ours, logits(same, TOKENS), rtol=0, atol=1e-5 * np.abs(ours).max())
    assert np.abs(ours - logits(folder, TOKENS)).max() > 1e-3, "the matrices were rounded"


def fp8_folder(folder: Checkpoint, target: Path, block: int) -> tuple[Checkpoint, Checkpoint]:
    """As DeepSeek publishes V3: matrices in FP8 with a factor for a block; and the floats that they mean."""
    tensors: dict[str, writer.Stored] = {}
    floats: dict[str, Tensor] = {}
    for name, tensor in folder.tensors.items():
        values = dequantize(tensor)
        if name.endswith("_proj.weight") or name.endswith("with_mqa.weight"):
            stored, numbers = writer.fp8("weight_scale_inv", block, block)(values)
            stem = name.removesuffix("weight")
            tensors |= {f"{stem}{leaf}": one for leaf, one in stored.items()}
            values = numbers.astype(np.float32)
        else:
            tensors[name] = ("F32", values)
        floats[name] = as_f32(name, values)
    declared = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [block, block]}
    config = {**folder.metadata, "quantization_config": declared}
    written = open_checkpoint(writer.write_folder(target, config, tensors))
    return written, Checkpoint(folder.path, folder.kind, folder.metadata, floats)


@pytest.mark.parametrize("block", [32, 48])
def test_fp8_in_blocks_is_the_floats_that_it_means(
    block: int, generated: Give, tmp_path: Path, logits: Logits
) -> None:
    """Blocks that end where the rows of heads do are turned with their factors, others are not."""
    published, floats = fp8_folder(open_checkpoint(generated("deepseek-blocks").folder), tmp_path, block)
    scales = published.tensors["model.layers.0.self_attn.kv_b_proj.weight"].scales
    assert scales is not None and scales.rows == block
    np.testing.assert_array_equal(logits(published, TOKENS, "reference"), logits(floats, TOKENS, "reference"))
    ours, theirs = logits(published, TOKENS), logits(floats, TOKENS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3 * np.abs(theirs).max())


def in_parts(runner: Any, sizes: list[int]) -> Float32:
    """Logits after each token, read in parts of these sizes."""
    sequence, found, begin = runner.open(), list[Float32](), 0
    for size in sizes:
        part, rows = np.array(TOKENS[begin : begin + size], np.int32), np.arange(size, dtype=np.int32)
        found.append(runner.run(Step((Span.causal(sequence, part, begin, rows),))))
        runner.commit([Commit(sequence, rows)])
        begin += size
    return np.concatenate(found)


@pytest.mark.parametrize("form", ENTRY_FORMATS)
def test_every_format_of_entries_gives_the_same_bits_however_a_prompt_is_cut(
    form: str, generated: Give, tmp_path: Path
) -> None:
    """And what the reference gives with the same rounding of entries, but for routes that it turns."""
    forms = {"attn_k_b.weight": "q8_0", "attn_v_b.weight": "q8_0", "attn_output.weight": "q4_0"}
    file = as_gguf(open_checkpoint(generated("deepseek-blocks").folder), tmp_path, True, forms)
    model = load_model(file)

    def run(sizes: list[int], threads: int, activations: str = "int8") -> Float32:
        settings = Settings(choose_isa("auto"), threads, activations, 64, form)
        return in_parts(NativeRunner(model, file, settings, 256), sizes)

    want = run([45], 1)
    for sizes, threads in ([45], 2), ([1] * 45, 2), ([7, 1, 37], 1):
        np.testing.assert_array_equal(run(sizes, threads).view(np.int32), want.view(np.int32))
    reference = in_parts(ReferenceRunner(model, file, 256, ENTRY_FORMATS[form]), [45])
    distance = np.abs(run([45], 1, "float") - reference).max(axis=1) / np.abs(reference).max()
    assert np.median(distance) < 1e-3


def test_the_cache_keeps_latents_alone(generated: Give) -> None:
    told = inspect_model(generated(V3).folder)
    entry, layers = LATENT["kv_lora_rank"] + LATENT["qk_rope_head_dim"], SIZES["num_hidden_layers"]
    assert told["cache_bytes_by_format"] == {
        "f16": layers * 2 * entry, "bf16": layers * 2 * entry, "int8": layers * (entry + 8),
        "fp8": layers * (entry + 8),
    }  # fmt: skip
    assert told["cache_bytes_a_token"] == layers * 2 * entry
    assert (told["kv_heads"], told["head_size"]) == (1, 20)
    assert all("tokenizer" in line for line in told["refused"])
    program = load_model(open_checkpoint(generated(V3).folder)).main
    cost, before = (step_cost(program, {}, rows, 100) for rows in (1, 0))
    assert cost.cache_bytes - before.cache_bytes == 2 * told["cache_bytes_a_token"]
    assert before.cache_bytes == 100 * told["cache_bytes_a_token"]


MATTERS: list[tuple[str, dict[str, Any]]] = [
    ("deepseek-v2", {"topk_method": "greedy"}),
    ("deepseek-v2", {"topk_group": 3}),
    ("deepseek-v2", {"n_group": 2, "topk_group": 1, "num_experts_per_tok": 2}),
    ("deepseek-v2", {"routed_scaling_factor": 1.0}),
    ("deepseek-v2-lite", {"num_experts_per_tok": 2}),
    ("deepseek-v2-lite", {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.707}}),
    ("deepseek-v2-lite", {"rope_parameters": {**YARN, "mscale": 0.707, "mscale_all_dim": 1.0}}),
    (V3, {"norm_topk_prob": False}),
    (V3, {"topk_group": 3}),
    (V3, {"routed_scaling_factor": 2.0}),
    (V3, {"rope_interleave": False}),
    (V3, {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    ("deepseek-v3-halves", {"rms_norm_eps": 1e-6}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), MATTERS, ids=str)
def test_each_value_matters(name: str, values: dict[str, Any], generated: Give, logits: Logits) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    difference = np.abs(logits(checkpoint, TOKENS) - logits(changed(checkpoint, **values), TOKENS))
    assert difference.max() > 1e-3


@pytest.mark.parametrize("number", range(8))
def test_what_is_added_to_scores_counts_for_the_choice_alone(
    number: int, generated: Give, logits: Logits
) -> None:
    """So much that an expert is always chosen changes which, and the same for all changes nothing."""
    checkpoint = open_checkpoint(generated(V3).folder)

    def raised(by: Float32) -> Checkpoint:
        tensors = dict(checkpoint.tensors)
        for name, tensor in tensors.items():
            if name.endswith("correction_bias"):
                values = dequantize(tensor) + by
                tensors[name] = as_f32(name, values)
        return Checkpoint(checkpoint.path, checkpoint.kind, checkpoint.metadata, tensors)

    plain = logits(checkpoint, TOKENS)
    np.testing.assert_array_equal(logits(raised(np.float32(0.25)), TOKENS), plain)
    one = np.zeros(8, np.float32)
    one[number] = 4
    assert np.abs(logits(raised(one), TOKENS) - plain).max() > 1e-3


OLD: list[tuple[str, dict[str, Any]]] = [
    ("deepseek-v2", {"scoring_func": "softmax", "moe_layer_freq": 1, "ep_size": 1, "aux_loss_alpha": 0.001,
                     "seq_aux": True, "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV2Config"}}),
    (V3, {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "rope_parameters": ...,
                     "rope_theta": 10000, "rope_scaling": {key: value for key, value in
                                                           {**YARN, "type": "yarn"}.items()
                                                           if key not in ("rope_type", "rope_theta")}}),
    (V3, {"rope_interleave": ..., "norm_topk_prob": ..., "routed_scaling_factor": ...}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), OLD, ids=str)
def test_old_forms_and_silence_mean_what_transformers_means(
    name: str, values: dict[str, Any], generated: Give, logits: Logits
) -> None:
    checkpoint = open_checkpoint(generated(name).folder)
    assert np.array_equal(logits(checkpoint, TOKENS), logits(changed(checkpoint, **values), TOKENS))


def test_layers_that_draft_tokens_are_left(generated: Give, logits: Logits) -> None:
    """Behind the last layer, as many as the config says; what is further behind is refused."""
    whole = open_checkpoint(generated(V3).folder)
    extra = whole.tensors["model.layers.3.self_attn.o_proj.weight"]

    def beside(number: int, **values: Any) -> Checkpoint:
        name = f"model.layers.{number}.eh_proj.weight"
        drafting = Tensor(name, extra.format, extra.shape, extra.stored)
        metadata = {**changed(whole, num_mtp_layers=..., **values).metadata}
        return Checkpoint(whole.path, whole.kind, metadata, {**whole.tensors, name: drafting})

    one = beside(4, num_nextn_predict_layers=1)
    assert load_model(one).left == ("model.layers.4.eh_proj.weight",)
    np.testing.assert_array_equal(logits(one, TOKENS), logits(whole, TOKENS))
    for checkpoint in (
        beside(5, num_nextn_predict_layers=1), beside(40, num_nextn_predict_layers=1),
        beside(4, num_nextn_predict_layers=0),
    ):  # fmt: skip
        assert_refused(lambda found=checkpoint: load_model(found), whole.path, "eh_proj.weight has no place")


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (V3, {"architectures": ["DeepseekV32ForCausalLM"]}, "DeepSeek V3.2 chooses by an indexer"),
    (V3, {"index_topk": 2048}, "key index_topk is not known"),
    (V3, {"scoring_func": "softmax"}, "key scoring_func is 'softmax'; known are 'sigmoid'"),
    (V3, {"topk_method": "greedy"}, "key topk_method is 'greedy'; known are 'noaux_tc'"),
    (V3, {"n_group": 3}, "key n_group is 3, which 8 experts do not make"),
    (V3, {"n_group": 8}, "key n_group is 8, which 8 experts do not make"),
    (V3, {"topk_group": 1}, "key topk_group is 1 of 4 groups, of which 3 experts are chosen"),
    (V3, {"topk_group": 5}, "key topk_group is 5 of 4 groups"),
    (V3, {"num_experts_per_tok": 9}, "num_experts_per_tok is 9, and there are 8 experts"),
    (V3, {"num_experts": 9}, "n_routed_experts is not num_experts"),
    (V3, {"n_routed_experts": 2**30, "num_local_experts": ...}, "more than there are tensors"),
    (V3, {"moe_layer_freq": 2}, "key moe_layer_freq is 2; known are 1"),
    (V3, {"num_key_value_heads": 2}, "key num_key_value_heads is 2; known are 4"),
    (V3, {"head_dim": 20}, "key head_dim is 20; known are 8"),
    (V3, {"qk_rope_head_dim": 7, "head_dim": ..., "qk_head_dim": ...}, "cannot rotate in pairs"),
    (V3, {"kv_lora_rank": 21}, "self_attn.kv_b_proj.weight is (88, 20), not (88, 21)"),
    (V3, {"v_head_dim": 11}, "self_attn.kv_b_proj.weight is (88, 20), not (92, 20)"),
    (V3, {"q_lora_rank": None}, "tensor model.layers.0.self_attn.q_proj.weight is missing"),
    (V3, {"first_k_dense_replace": 1.5}, "first_k_dense_replace is 1.5, not a whole number"),
    (V3, {"first_k_dense_replace": 0}, "layers.0.mlp.gate.e_score_correction_bias is missing"),
    (V3, {"n_shared_experts": 2}, "shared_experts.gate_proj.weight is (24, 48), not (48, 48)"),
    (V3, {"attention_bias": True}, "bias is missing"),
    ("deepseek-v2", {"norm_topk_prob": True}, "key norm_topk_prob is True; known are False"),
    ("deepseek-v2", {"topk_method": "noaux_tc"}, "key topk_method is 'noaux_tc'"),
    ("deepseek-v2", {"num_experts_per_tok": None}, "key num_experts_per_tok is missing"),
    ("deepseek-v2", {"mlp_bias": True}, "key mlp_bias is True; known are False"),
    ("deepseek-v2", {"rope_interleave": False}, "key rope_interleave is False; known are True"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "said"), REFUSED, ids=str)
def test_what_is_not_known_is_refused_by_name(
    name: str, values: dict[str, Any], said: str, generated: Give
) -> None:
    checkpoint = changed(open_checkpoint(generated(name).folder), **values)
    assert_refused(lambda: load_model(checkpoint), checkpoint.path, said)


REFUSED_GGUF: list[tuple[dict[str, Any], str]] = [
    ({"expert_gating_func": 4}, "key deepseek2.expert_gating_func is 4; known are 1, 2"),
    ({"attention__head_count_kv": 2}, "key deepseek2.attention.head_count_kv is 2; known are 1, 4"),
    ({"attention__value_length": 10}, "key deepseek2.attention.value_length is 10; known are 20"),
    ({"attention__indexer__top_k": 2048}, "key deepseek2.attention.indexer.top_k is not known"),
    ({"rope__scaling__type": "linear"}, "rope.scaling.type is 'linear'; known are 'none', 'yarn'"),
    ({"attention__key_length_mla": ...}, "key deepseek2.attention.key_length_mla is missing"),
    ({"expert_group_count": 3}, "expert_group_count is 3, which 8 experts do not make"),
    ({"nextn_predict_layers": 4}, "nextn_predict_layers is 4, not a whole number up to 3"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "said"), REFUSED_GGUF, ids=str)
def test_what_is_not_known_in_gguf_is_refused_by_name(
    keys: dict[str, Any], said: str, generated: Give, tmp_path: Path
) -> None:
    file = as_gguf(open_checkpoint(generated(V3).folder), tmp_path, **keys)
    with pytest.raises(InputError) as caught:
        load_model(file)
    assert said in caught.value.line()


def test_a_layer_that_drafts_is_left_in_gguf_too(generated: Give, tmp_path: Path, logits: Logits) -> None:
    """GGUF counts it among the layers."""
    whole = as_gguf(open_checkpoint(generated(V3).folder), tmp_path, nextn_predict_layers=1)
    model = load_model(whole)
    behind = {name for name in whole.tensors if name.startswith("blk.3.")}
    assert model.shape.layers == 3 and behind and set(model.left) == behind
    assert not any(name.startswith("blk.3.") for name in model.main.tensors)
