"""Configs as they are published, at their real sizes: every weight has its place, and none is missing.

`published.json` holds what their config.json says; of Qwen3.5 the text's part, whose sizes are those that
Transformers gives as the defaults of these models. Names and shapes of the weights are those of Transformers'
own model on its meta device, where nothing has bytes. What the config says of layers is compared with what
Transformers reads of it.
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
from fivefold.models import load_model

CONFIGS = json.loads((Path(__file__).parent / "data" / "published.json").read_text())
NOTHING = np.zeros(0, np.uint8)
PARTS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


def empty_model(config: dict[str, Any]) -> Any:
    """Transformers' model of a config, without memory."""
    package = transformers()
    import torch

    given = {key: value for key, value in config.items() if key not in ("model_type", "torch_dtype")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = package.AutoConfig.for_model(config["model_type"], **given)
        with torch.device("meta"):
            return package.AutoModelForCausalLM.from_config(read)


def on_disk(family: str, name: str, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the files: those of Qwen3-MoE have a tensor for each expert and part."""
    folder, _, part = name.rpartition(".")
    if family != "qwen3_moe" or not folder.endswith(".mlp.experts"):
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
    window = given if getattr(config, "use_sliding_window", True) else None
    silent = ["sliding_attention" if config.model_type == "mistral" and window else "full_attention"]
    kinds = getattr(config, "layer_types", None) or silent * config.num_hidden_layers
    layers: dict[int | None, list[int]] = {}
    for number, kind in enumerate(kinds):
        if kind == "linear_attention":
            continue
        near = window if kind == "sliding_attention" and window < config.max_position_embeddings else None
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
    assert set(model.main.tensors) == set(tensors)
    assert {(group.window, group.layers) for group in model.layout.groups} == windows_of(theirs.config)
    count = sum(int(np.prod(shape)) for shape in model.main.tensors.values())
    assert count == sum(values.numel() for values in theirs.parameters())
