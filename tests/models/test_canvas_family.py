"""DiffusionGemma: its Program computes what Transformers' class does, and configs mean what that means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canvas_models import CANVAS, CanvasModel, make_canvas_model
from configured import assert_refused, changed
from diffusion_models import VOCABULARY
from safetensors.numpy import load_file, save_file

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core import batch
from fivefold.core.batch import LOGITS, SHARES, Commit, Float32, Span, Step
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.diffusion import DiffusionRules
from fivefold.executor import Settings, choose_isa
from fivefold.files import open_checkpoint
from fivefold.models import load_model

LENGTHS = (5, 75)
"""Of prompts: shorter than the window, longer, and longer than a page with it."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CanvasModel]:
    folder = tmp_path_factory.mktemp("canvas")
    return folder, make_canvas_model(folder)


def tokens_of(count: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(count).integers(0, VOCABULARY, count)]


def shares_of(logits: Float32) -> Float32:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)


def ours(runner: Any, prompt: list[int], last: Float32 | None, together: bool) -> Float32:
    """(T + B, V) logits of a prompt and of a canvas behind it, in one step or in two."""
    sequence, count = runner.open(), len(prompt)
    text = Span.causal(sequence, np.array(prompt, np.int32), 0, np.arange(count, dtype=np.int32))
    positions = np.arange(count + CANVAS, dtype=np.int32)
    visible = np.stack([0 * positions, np.maximum(positions + 1, 0)], axis=1)
    visible[count:, 1] = count + CANVAS
    first = 0 if together else count
    parts = []
    if not together:
        parts.append(runner.run(Step((text,))))
        runner.commit([Commit(sequence, np.arange(count, dtype=np.int32))])
    rows = np.arange(count - first, count - first + CANVAS, dtype=np.int32)
    sets = {batch.CANVAS: rows, **({} if last is None else {SHARES: rows})}
    span = Span(
        sequence, np.array([*prompt, *tokens_of(CANVAS)], np.int32)[first:], positions[first:],
        visible[first:].astype(np.int32),
        row_sets={LOGITS: np.arange(count - first + CANVAS, dtype=np.int32), **sets},
        inputs={} if last is None else {SHARES: shares_of(last)},
        window_at=np.minimum(positions, count)[first:],
    )  # fmt: skip
    parts.append(runner.run(Step((span,))))
    runner.close(sequence)
    return np.concatenate(parts)


@pytest.mark.parametrize("together", [True, False], ids=["one-step", "two-steps"])
@pytest.mark.parametrize("length", LENGTHS)
def test_logits_are_those_of_transformers(
    length: int, together: bool, made: tuple[Path, CanvasModel]
) -> None:
    """Of text that is read, and of a canvas behind it, without a last guess and with one."""
    folder, theirs = made
    checkpoint = open_checkpoint(folder)
    runner = ReferenceRunner(load_model(checkpoint), checkpoint, 256)
    prompt, canvas = tokens_of(length), tokens_of(CANVAS)
    first = theirs.canvas_logits(prompt, canvas, None)
    second = theirs.canvas_logits(prompt, canvas, first / 0.7)
    text = theirs.text_logits(prompt)
    assert np.abs(first - second).max() > 0.1, "the last guess counts"
    for last, expected in ((None, first), (first / np.float32(0.7), second)):
        found = ours(runner, prompt, last, together)
        assert np.abs(found[:length] - text).max() < 1e-4 * np.abs(text).max()
        assert np.abs(found[length:] - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_native_executor_computes_the_same(made: tuple[Path, CanvasModel]) -> None:
    """And rows have the same bits in one step as in two."""
    folder, theirs = made
    checkpoint = open_checkpoint(folder)
    model = load_model(checkpoint)
    settings = Settings(choose_isa(), 1, "float", max_rows=128)
    runner = NativeRunner(model, checkpoint, settings, 256)
    prompt, canvas = tokens_of(41), tokens_of(CANVAS)
    first = theirs.canvas_logits(prompt, canvas, None)
    second = theirs.canvas_logits(prompt, canvas, first)
    found = ours(runner, prompt, first, together=True)
    assert np.abs(found[41:] - second).max() < 0.02 * np.abs(second).max(), "entries are float16"
    assert np.array_equal(found, ours(runner, prompt, first, together=False))


def test_the_two_ways_have_factors_of_their_own(made: tuple[Path, CanvasModel]) -> None:
    stored = open_checkpoint(made[0]).tensors
    for layer in range(4):
        names = (f"model.{way}.layers.{layer}.layer_scalar" for way in ("decoder", "encoder.language_model"))
        text, canvas = (stored[name].data.view(np.float32)[0] for name in names)
        assert abs(text - canvas) > 1e-3


def test_the_rules_and_what_is_left(made: tuple[Path, CanvasModel]) -> None:
    model = load_model(open_checkpoint(made[0]))
    assert model.diffusion == DiffusionRules("canvas", CANVAS, None, "uniform_renoise", conditioned=True)
    assert model.shape.family == "diffusion_gemma"
    assert model.left and all(".vision_tower." in name or ".embed_vision." in name for name in model.left)
    assert [(group.name, group.window) for group in model.layout.groups] == [("main", None), ("window", 12)]


def test_a_file_may_name_shared_weights_by_either_way(made: tuple[Path, CanvasModel], tmp_path: Path) -> None:
    """A copy under the text's name is left; where there is no other it is read."""
    folder, theirs = made
    stored = load_file(folder / "model.safetensors")
    shared = {
        name: name.replace("model.decoder.", "model.encoder.language_model.")
        for name in stored
        if name.startswith("model.decoder.") and not name.endswith("scalar") and "conditioning" not in name
    }
    both = {**stored, **{other: stored[name] for name, other in shared.items()}}
    text = {shared.get(name, name): values for name, values in stored.items()}
    expected = theirs.canvas_logits(tokens_of(5), tokens_of(CANVAS), None)
    for number, tensors in enumerate((both, text)):
        own = tmp_path / str(number)
        own.mkdir()
        (own / "config.json").write_text((folder / "config.json").read_text())
        save_file(tensors, own / "model.safetensors")
        checkpoint = open_checkpoint(own)
        model = load_model(checkpoint)
        assert any("language_model" in name for name in model.left) == (number == 0)
        found = ours(ReferenceRunner(model, checkpoint, 64), tokens_of(5), None, together=True)
        assert np.abs(found[5:] - expected).max() < 1e-4 * np.abs(expected).max()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "gemma4"}, "key model_type is 'gemma4'; known are 'diffusion_gemma'"),
    ({"tie_word_embeddings": False}, "key tie_word_embeddings is False"),
    ({"canvas_length": 0}, "key canvas_length is 0, not a size"),
    ({"mask_token_id": 4}, "key mask_token_id is not known"),
    ({"text_config.model_type": "gemma4_text"}, "key text_config.model_type is 'gemma4_text'"),
    ({"text_config.use_bidirectional_attention": "all"}, "key text_config.use_bidirectional_attention is"),
    ({"text_config.num_experts": ...}, "key text_config.num_experts is missing"),
    ({"text_config.enable_moe_block": False}, "key text_config.enable_moe_block is False; known are True"),
    ({"text_config.num_kv_shared_layers": 2}, "key text_config.num_kv_shared_layers is 2; known are 0"),
    ({"text_config.hidden_size_per_layer_input": 8}, "hidden_size_per_layer_input is 8; known are 0"),
    ({"text_config.hidden_activation": "silu"}, "key text_config.hidden_activation is 'silu'"),
    ({"text_config.block_size": 4}, "key text_config.block_size is not known"),
]


@pytest.mark.parametrize(("values", "said"), REFUSED, ids=str)
def test_what_is_not_known_is_refused_by_name(
    values: dict[str, Any], said: str, made: tuple[Path, CanvasModel]
) -> None:
    stored = open_checkpoint(made[0])
    text = dict(stored.metadata["text_config"])
    outer = {}
    for key, value in values.items():
        inner = key.removeprefix("text_config.")
        if inner == key:
            outer[key] = value
        elif value is ...:
            del text[inner]
        else:
            text[inner] = value
    assert_refused(lambda: load_model(changed(stored, **outer, text_config=text)), made[0], said)


def test_a_missing_or_a_strange_tensor_is_told(made: tuple[Path, CanvasModel]) -> None:
    stored = open_checkpoint(made[0])
    signal = "model.decoder.self_conditioning.gate_proj.weight"
    without = {name: tensor for name, tensor in stored.tensors.items() if name != signal}
    more = {**stored.tensors, "model.decoder.layers.0.gate": Tensor("x", "f32", (1,), np.zeros(4, np.uint8))}
    for tensors, said in (
        (without, "self_conditioning.gate_proj.weight is missing"),
        (more, "layers.0.gate has no place"),
    ):
        strange = type(stored)(stored.path, stored.kind, stored.metadata, tensors)
        assert_refused(lambda strange=strange: load_model(strange), made[0], said)


REAL_TEXT: dict[str, Any] = {
    "model_type": "diffusion_gemma_text", "vocab_size": 262144, "hidden_size": 2816,
    "intermediate_size": 2112, "num_hidden_layers": 30, "num_attention_heads": 16, "num_key_value_heads": 8,
    "head_dim": 256, "global_head_dim": 512, "num_global_key_value_heads": 2, "num_experts": 128,
    "top_k_experts": 8, "moe_intermediate_size": 704, "sliding_window": 1024,
    "max_position_embeddings": 262144, "use_bidirectional_attention": "vision",
    "hidden_activation": "gelu_pytorch_tanh",
}  # fmt: skip
"""Sizes of 26B-A4B, by the shapes of its tensors as code that checks a copy of them quotes these."""


def real_tensors() -> dict[str, Tensor]:
    hidden, found = 2816, dict[str, tuple[int, ...]]()
    found["model.decoder.embed_tokens.weight"] = (262144, hidden)
    found["model.decoder.norm.weight"] = (hidden,)
    found["model.encoder.vision_tower.patch_embedder.input_proj.weight"] = (16, 588)
    for part, shape in (("gate", (2112, hidden)), ("up", (2112, hidden)), ("down", (hidden, 2112))):
        found[f"model.decoder.self_conditioning.{part}_proj.weight"] = shape
        for layer in range(30):
            found[f"model.decoder.layers.{layer}.mlp.{part}_proj.weight"] = shape
    found["model.decoder.self_conditioning.pre_norm.weight"] = (hidden,)
    for layer in range(30):
        block, far = f"model.decoder.layers.{layer}", (layer + 1) % 6 == 0
        q, kv = (8192, 1024) if far else (4096, 2048)
        parts = {"q": (q, hidden), "k": (kv, hidden), "v": (kv, hidden), "o": (hidden, q)}
        for part, shape in parts.items():
            if part != "v" or not far:
                found[f"{block}.self_attn.{part}_proj.weight"] = shape
        found |= {f"{block}.self_attn.{part}_norm.weight": (512 if far else 256,) for part in "qk"}
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            found[f"{block}.{norm}_layernorm.weight"] = (hidden,)
        for norm in ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2"):
            found[f"{block}.{norm}.weight"] = (hidden,)
        found[f"{block}.pre_feedforward_layernorm_2.weight"] = (hidden,)
        found[f"{block}.router.proj.weight"] = (128, hidden)
        found |= {f"{block}.router.scale": (hidden,), f"{block}.router.per_expert_scale": (128,)}
        found[f"{block}.experts.gate_up_proj"] = (128, 1408, hidden)
        found[f"{block}.experts.down_proj"] = (128, hidden, 704)
        found[f"{block}.layer_scalar"] = (1,)
        found[f"model.encoder.language_model.layers.{layer}.layer_scalar"] = (1,)
    return {name: Tensor(name, "bf16", shape, np.zeros(0, np.uint8)) for name, shape in found.items()}


def test_every_weight_of_a_model_of_real_size_has_its_place() -> None:
    tensors = real_tensors()
    config = {
        "architectures": ["DiffusionGemmaForBlockDiffusion"], "model_type": "diffusion_gemma",
        "canvas_length": 256, "text_config": REAL_TEXT, "vision_config": {},
    }  # fmt: skip
    model = load_model(Checkpoint(Path("real"), "huggingface", config, tensors))
    assert model.diffusion is not None and model.diffusion.block == 256
    assert set(model.main.tensors) == {name for name in tensors if "vision" not in name}
    count = sum(int(np.prod(shape)) for shape in model.main.tensors.values())
    assert count / 1e9 == pytest.approx(25.25, rel=0.01)
    assert {group.name: (len(group.layers), group.window) for group in model.layout.groups} == {
        "main": (5, None), "window": (25, 1024)
    }  # fmt: skip
