"""Inputs that once broke a reader, or would have: each is refused now, or opened at a moderate price.

They were found by reading or by fuzzing and are made again here, because what is wrong with them says more
than their bytes. `seeds.py` writes them into the corpus.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from change_json import joined
from models_of_seeds import CONFIG, WORDS, gguf, header

UNITS = {"scores": -np.arange(len(WORDS), dtype=np.float32), "unknown_token_id": 0, "model": "t5"}


def charsmap(units: list[int], texts: bytes) -> dict[str, Any]:
    """Keys of a unigram model with this charsmap."""
    data = struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + texts
    return {**UNITS, "precompiled_charsmap": np.frombuffer(data, np.uint8)}


def circle() -> list[int]:
    """A trie in which the letter l leads from a node to itself, so that a prefix never ends."""
    units = [0] * 256
    units[0] = 0
    units[ord("l")] = ord("l") | ord("l") << 10
    return units


def gguf_inputs() -> dict[str, bytes]:
    """GGUF files."""
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0}
    return {
        "types-are-texts": gguf(model="llama", token_type=["x"] * 3000 + ["y" * 30000]),
        "scores-are-ragged": gguf(model="llama", scores=[[1.0, 2.0], [3.0]]),
        "types-are-nested": gguf(model="llama", token_type=[[1]] * len(WORDS)),
        "charsmap-circle": gguf(**charsmap(circle(), b"\0")),
        "charsmap-long-replacement": gguf(**charsmap([1 << 10, 0, 1 << 31, 0], b"x" * 5000 + b"\0")),
        "model-name-endless": gguf(model="x" * 20000),
        "long-token": gguf(tokens=[*WORDS, "x" * 20000], model="bert", unknown_token_id=0),
        "key-steers-terminal": gguf({"\x1b[2J": 1}, model="llama"),
        "yarn-beta-tiny": gguf({**yarn, "rope.scaling.yarn_beta_slow": np.float64(5e-324)}, model="llama"),
        "yarn-beta-huge": gguf({**yarn, "rope.scaling.yarn_beta_fast": np.float64(1e19)}, model="llama"),
        "yarn-base-near-one": gguf({**yarn, "rope.freq_base": np.float64(1.0000000000000002)}, model="llama"),
        "yarn-factor-tiny": gguf({**yarn, "rope.scaling.factor": np.float64(5e-324)}, model="llama"),
        "linear-factor-tiny": gguf({"rope.scale_linear": np.float64(1e-300)}, model="llama"),
        "size-is-nested": gguf({"block_count": [["x" * 200] * 4] * 20}, model="llama"),
    }


def folder_inputs() -> dict[str, bytes]:
    """Model folders."""
    entries = json.dumps(header({"a": (1,)})[0]).encode()

    def whole(config: Any, **files: Any) -> bytes:
        texts = {f"{name}.json": json.dumps(value).encode() for name, value in files.items()}
        return joined({"config.json": json.dumps({**CONFIG, **config}).encode(), **texts,
                       "model.safetensors": entries})  # fmt: skip

    def shard(name: str) -> bytes:
        index = json.dumps({"weight_map": {"a": name}}).encode()
        return joined({"config.json": json.dumps(CONFIG).encode(), "model.safetensors.index.json": index})

    llama3 = {"rope_type": "llama3", "factor": 2.0, "original_max_position_embeddings": 32}
    return {
        "template-name-is-a-list": whole(
            {}, tokenizer_config={"chat_template": [{"name": [], "template": ""}]}
        ),
        "shard-name-endless": shard("x" * 300 + ".safetensors"),
        "shard-name-dot": shard(".safetensors"),
        "key-is-half-a-pair": whole({"\ud800": 1}),
        "architecture-steers": whole({"architectures": ["\x1b[2J" * 100]}),
        "llama3-bounds-meet": whole(
            {"rope_scaling": {**llama3, "low_freq_factor": 1e-320, "high_freq_factor": 2e-320}}
        ),
        "value-endless": whole({"hidden_act": ["x" * 3000] * 4}),
    }


def tokenizer_inputs() -> dict[str, bytes]:
    """Folders with a tokenizer."""

    def whole(changes: Any, **files: Any) -> bytes:
        model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
        data = {"model": model, "added_tokens": [], **changes}
        texts = {f"{name}.json": json.dumps(value).encode() for name, value in files.items()}
        return joined({"tokenizer.json": json.dumps(data).encode(), **texts})

    def replaced(times: int) -> list[dict[str, Any]]:
        return [{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"}] * times

    prefixed = {"type": "BPE", "vocab": {"a": 0, "é": 1, "ab": 2}, "merges": [["a", "é"]], "PREFIX": "#"}
    escaped = json.dumps({"model": prefixed, "added_tokens": []}, ensure_ascii=False)
    twice = escaped.replace(
        '"PREFIX": "#"', '"continuing_subword_prefix": "#", "continuing_subword_prefix": null'
    )
    return {
        "numbers-far-apart": whole(
            {"model": {"type": "WordLevel", "vocab": {"a": 2**32 - 1}, "unk_token": "a"}}
        ),
        "role-is-half-a-pair": whole({}, tokenizer_config={"bos_token": "\ud800"}),
        "number-endless": whole(
            {}, tokenizer_config={"added_tokens_decoder": {"9" * 5000: {"content": "a"}}}
        ),
        "decoder-multiplies": whole({"decoder": {"type": "Sequence", "decoders": replaced(30)}}),
        "normalizer-multiplies": whole({"normalizer": {"type": "Sequence", "normalizers": replaced(30)}}),
        "prefix-in-escapes": joined(
            {"tokenizer.json": escaped.replace("PREFIX", "continuing_subword_pre\\u0066ix").encode()}
        ),
        "prefix-twice": joined({"tokenizer.json": twice.encode()}),
        "unigram-long-token": whole(
            {"model": {"type": "Unigram", "vocab": [["a", 0.0], ["x" * 200000, -1.0]], "unk_id": 0}}
        ),
    }
