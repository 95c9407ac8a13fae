"""Configs as they are published, at their real sizes: every weight has its place, and none is missing.

`published.json` holds what their config.json says; of Qwen3.5 the text's part, whose sizes are those that
Transformers gives as the defaults of these models. Names and shapes of the weights are those of Transformers'
own model on its meta device, where nothing has bytes. What the config says of layers is compared with what
Transformers reads of it. Of models for several kinds of input the text part is, and all else is left.
What is said of Llama 4, Gemma 4, Gemma 3 4B and Mistral Small 3.1 was written down from what is known of them
and not fetched; what is not said there is Transformers' default, as for all parts that look and listen.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers_models import transformers

from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.models import left_by_part, load_model

CONFIGS = json.loads((Path(__file__).parent / "data" / "published.json").read_text())
NOTHING = np.zeros(0, np.uint8)
APART = {"qwen3_moe", "deepseek_v2", "deepseek_v3"}
OTHERS = {
    "vision_model",
    "vision_tower",
    "multi_modal_projector",
    "embed_vision",
    "audio_tower",
    "embed_audio",
}
PARTS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


def empty_model(config: dict[str, Any]) -> Any:
    """Transformers' model of a config, without memory."""
    package = transformers()
    import torch

    given = {key: value for key, value in config.items() if key not in ("model_type", "torch_dtype")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = package.AutoConfig.for_model(config["model_type"], **given)
        several = "text_config" in config
        maker = package.AutoModelForImageTextToText if several else package.AutoModelForCausalLM
        with torch.device("meta"):
            return maker.from_config(read)


def on_disk(family: str, name: str, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the files: some families have a tensor for each expert and part."""
    folder, _, part = name.rpartition(".")
    if family not in APART or not folder.endswith(".mlp.experts"):
        return [(name, shape)]
    experts, outer, inner = shape
    return [
        (f"{folder}.{expert}.{own}.weight", (outer // len(PARTS[part]), inner))
        for expert in range(experts)
        for own in PARTS[part]
    ]


def windows_of(config: Any) -> set[tuple[int | None, tuple[int, ...]]]:
    """Layers by window, as Transformers reads the config; one that hides nothing counts as none."""
    given = config.sliding_window if hasattr(config, "sliding_window") else None
    given = getattr(config, "attention_chunk_size", given)
    window = given if getattr(config, "use_sliding_window", True) else None
    silent = ["sliding_attention" if config.model_type == "mistral" and window else "full_attention"]
    kinds = getattr(config, "layer_types", None) or silent * config.num_hidden_layers
    layers: dict[int | None, list[int]] = {}
    keeping = len(kinds) - getattr(config, "num_kv_shared_layers", 0)
    for number, kind in enumerate(kinds[:keeping]):
        if kind == "linear_attention":
            continue
        hides = kind in ("sliding_attention", "chunked_attention")
        near = window if hides and window < config.max_position_embeddings else None
        layers.setdefault(near, []).append(number)
    return {(near, tuple(numbers)) for near, numbers in layers.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_weight_of_a_published_model_has_its_place(name: str) -> None:
    config = CONFIGS[name]
    theirs = empty_model(config)
    tied = set(theirs.all_tied_weights_keys) if theirs.config.tie_word_embeddings else set()
    tensors = {
        key: Tensor(key, "bf16", shape, NOTHING)
        for name, values in theirs.state_dict().items() if name not in tied
        for key, shape in on_disk(config["model_type"], name, tuple(values.shape))
    }  # fmt: skip
    model = load_model(Checkpoint(Path(name), "huggingface", config, tensors))
    assert set(model.main.tensors) == set(tensors) - set(model.left)
    text = theirs.config.get_text_config()
    assert {(g.window or g.chunk, g.layers) for g in model.layout.groups} == windows_of(text)
    count = sum(int(np.prod(shape)) for shape in model.main.tensors.values())
    kept = [values.numel() for key, values in theirs.state_dict().items() if key not in tied]
    left = [int(np.prod(tensors[key].shape)) for key in model.left]
    assert count == sum(kept) - sum(left)
    assert not left or set(left_by_part(model.left)) <= OTHERS
