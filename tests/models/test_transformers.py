"""Logits against an independent implementation: Hugging Face Transformers on the same tiny weights.

Recorded by scripts/record_transformers_logits.py, which says how, and with which versions. The test
writes the weights as a GGUF file as converters do: new names, and for `llama` the rows of q and k
in another order, so that rotary pairs are neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.core.batch import Float32

RECORDED = np.load(Path(__file__).parent / "data" / "transformers_logits.npz")
ABOUT = json.loads(RECORDED["about"].tobytes())
TOKENS = [int(token) for token in RECORDED["tokens"]]


def arrays(config: dict[str, Any]) -> dict[str, Float32]:
    """The recorded weights that this variant has, by Transformers' name."""
    result: dict[str, Float32] = {}
    for key in RECORDED.files:
        name = key.removeprefix("weights/")
        absent = (name.endswith(".bias") and config["kind"] != "qwen2") or (
            name == "lm_head.weight" and config["tie_word_embeddings"]
        )
        if name == key or absent:
            continue
        values = RECORDED[key].astype(np.float32) / 64
        values = 1 + values / 4 if "norm" in name else values
        result[name] = values
    return result


@pytest.mark.parametrize("variant", ABOUT["variants"])
@pytest.mark.parametrize("by", ["reference", "float"])
def test_logits_are_those_of_transformers(
    variant: str, by: str, save: Any, converted: Any, logits: Callable[..., Float32]
) -> None:
    config = ABOUT["variants"][variant]
    gguf = converted({**config, "model_type": config["kind"]}, arrays(config))
    ours = logits(save(gguf.metadata, gguf.arrays), [*TOKENS, 0], by)[3::4]
    bound = 2e-4 if by == "reference" else 1e-2  # the native cache holds f16
    assert np.abs(ours - RECORDED[f"logits/{variant}"]).max() < bound
