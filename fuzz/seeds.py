"""Write the inputs that fuzzing begins with: one small valid file of each kind, and hand-made hostile ones.

.venv/bin/python fuzz/seeds.py fuzz/corpus
"""

from __future__ import annotations

import json
import math
import random
import struct
import sys
from pathlib import Path
from typing import Any

import hostile
import numpy as np
from change_json import joined
from models_of_seeds import CONFIG, WORDS, gguf, header, nvfp4, safetensors, weights
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

MERGES = ["h e", "l l", "e l"]


def gguf_seeds() -> dict[str, bytes]:
    """One file for each kind of tokenizer."""
    types = np.array([2, 3, 3, 4, *[1] * (len(WORDS) - 4)], np.int32)
    scores = -np.arange(len(WORDS), dtype=np.float32)
    charsmap = struct.pack("<I", 16) + struct.pack("<4I", 1 << 10, 0, 0x80000000, 0) + b"x\0"
    roles = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    return {
        "gpt2": gguf(model="gpt2", pre="llama-bpe", merges=MERGES, token_type=types, **roles),
        "smollm": gguf(model="gpt2", pre="smollm", merges=MERGES, token_type=types),
        "gemma4": gguf(model="gemma4", merges=MERGES, token_type=types, **roles),
        "whitespace": gguf(model="whitespace", pre="whitespace", merges=MERGES, **roles),
        "llama": gguf(model="llama", scores=scores, token_type=types, **roles),
        "t5": gguf(model="t5", scores=scores, token_type=types, remove_extra_whitespaces=True, **roles),
        "charsmap": gguf(
            model="t5", scores=scores, precompiled_charsmap=np.frombuffer(charsmap, np.uint8), **roles
        ),
        "bert": gguf(model="bert", token_type=types, **roles),
        "nvfp4": nvfp4(),
        "nested": gguf(model="gpt2", merges=MERGES, odd=[[1, 2], [3]], flags=[True, False]),
    }


def safetensors_seeds() -> dict[str, bytes]:
    """A few files with most that a header may have."""
    small, end = header({"a": (2, 4), "b": (3,), "c": (0, 7)})
    bits = {"x": {"dtype": "F4", "shape": [2, 2], "data_offsets": [0, 2]}}
    return {
        "small": safetensors({"__metadata__": {"format": "pt"}, **small}, end),
        "bits": safetensors(bits, 2),
        "empty": safetensors({}, 0),
    }


def folder_seeds() -> dict[str, bytes]:
    """Folders with one file and with shards."""
    names = {
        "token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight",
        **{part: f"model.layers.0.{name}.weight" for part, name in (
            ("attn_norm", "input_layernorm"), ("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"), ("attn_output", "self_attn.o_proj"),
            ("ffn_norm", "post_attention_layernorm"), ("ffn_gate", "mlp.gate_proj"),
            ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj"))},
    }  # fmt: skip
    shapes = weights(6, names)
    one = json.dumps(header(shapes)[0]).encode()
    shards = {f"model-0000{number}-of-00002.safetensors": dict(part) for number, part in (
        (1, list(shapes.items())[:5]), (2, list(shapes.items())[5:]))}  # fmt: skip
    index = {"metadata": {}, "weight_map": {name: shard for shard, part in shards.items() for name in part}}
    ropes: dict[str, Any] = {
        "plain": {},
        "llama3": {"rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0,
                                    "high_freq_factor": 4.0, "original_max_position_embeddings": 32}},
        "yarn": {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4, "mscale": 1.0,
                                     "mscale_all_dim": 0.5, "beta_fast": 32, "beta_slow": 1}},
        "mistral": {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    }  # fmt: skip
    files = {
        name: {"config.json": json.dumps({**CONFIG, **rope}).encode(), "model.safetensors": one}
        for name, rope in ropes.items()
    }
    files["shards"] = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        "tokenizer_config.json": b'{"chat_template":[{"name":"default","template":"{{ messages }}"}]}',
        **{shard: json.dumps(header(part)[0]).encode() for shard, part in shards.items()},
    }
    return {name: joined(part) for name, part in {**files, **quantized_seeds()}.items()}


def quantized_seeds() -> dict[str, dict[str, bytes]]:
    """Folders with one quantized matrix of each kind, all of zeros."""
    up, group = "model.layers.0.mlp.up_proj", {"num_bits": 4, "type": "float", "group_size": 16}
    fp8 = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [4, 32]}
    groups = {
        "a": {"targets": ["re:.*mlp.*(up|gate)_proj$"], "weights": {**group, "strategy": "tensor_group"}},
        "b": {"targets": ["Linear"], "weights": fp8, "format": "float-quantized"},
    }
    codes, scales = ("U8", 1, (4, 32)), ("F8_E4M3", 1, (4, 4))
    described: dict[str, tuple[dict[str, Any], dict[str, tuple[str, int, tuple[int, ...]]]]] = {
        "modelopt": (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
            {"weight": codes, "weight_scale": scales, "weight_scale_2": ("F32", 4, ())},
        ),
        "compressed": (
            {"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": groups},
            {"weight_packed": codes, "weight_scale": scales, "weight_global_scale": ("F32", 4, (1,))},
        ),
        "fp8": (
            {"quant_method": "fp8", "weight_block_size": [4, 32]},
            {"weight": ("F8_E4M3", 1, (5, 48)), "weight_scale_inv": ("BF16", 2, (2, 2))},
        ),
        "experts": (
            {"quant_method": "mxfp4"},
            {"_blocks": ("U8", 1, (2, 3, 2, 16)), "_scales": ("U8", 1, (2, 3, 2))},
        ),
    }
    found = {}
    for name, (config, leaves) in described.items():
        entries: dict[str, Any] = {}
        at = 0
        for leaf, (kind, width, shape) in leaves.items():
            end = at + width * math.prod(shape)
            full = up + (leaf if leaf.startswith("_") else f".{leaf}")
            entries[full] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, end]}
            at = end
        whole = {**CONFIG, "quantization_config": config}
        found[f"quantized-{name}"] = {
            "config.json": json.dumps(whole).encode(), "model.safetensors": json.dumps(entries).encode(),
        }  # fmt: skip
    own = {
        "quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": {up: {"quant_algo": "NVFP4"}}}
    }
    found["quantized-own-file"] = {
        **found["quantized-modelopt"], "config.json": json.dumps(CONFIG).encode(),
        "hf_quant_config.json": json.dumps(own).encode(),
    }  # fmt: skip
    return found


def libraries() -> dict[str, Tokenizer]:
    """Small tokenizers of every kind of model."""
    numbers = {text: number for number, text in enumerate(WORDS)}
    letters = {text: number for number, text in enumerate([*"abcdelorHn", "\u0120", "el", "ll"])}
    bpe = Tokenizer(models.BPE(letters, [("e", "l"), ("l", "l")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 13)])
    bpe.add_special_tokens(["<s>", "</s>"])
    metaspace = Tokenizer(
        models.BPE(numbers, [("e", "l"), ("l", "l")], unk_token="<unk>", byte_fallback=True)
    )
    metaspace.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    metaspace.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    metaspace.add_special_tokens(["<unk>", "<s>", "</s>"])
    unigram = Tokenizer(models.Unigram([(text, -float(i)) for i, text in enumerate(WORDS)], 0, False))
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.add_special_tokens(["<unk>", "</s>"])
    pieces = Tokenizer(models.WordPiece({**numbers, "##l": 90, "[UNK]": 91}, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer()
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.decoder = decoders.WordPiece()
    words = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+|\p{L}+"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    words.add_tokens([AddedToken("<|end|>", lstrip=True)])
    prefixed = Tokenizer(
        models.BPE({"a": 0, "##b": 1, "ab": 2}, [("a", "##b")], continuing_subword_prefix="##")
    )
    return {"bpe": bpe, "metaspace": metaspace, "unigram": unigram, "wordpiece": pieces, "words": words,
            "prefix": prefixed}  # fmt: skip


def tokenizer_seeds() -> dict[str, bytes]:
    """Those, with the files beside them."""
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "add_bos_token": True}
    described = {"added_tokens_decoder": {"13": {"content": "<s>", "special": True}}}
    found = {}
    for name, library in libraries().items():
        files = {"tokenizer.json": json.dumps(json.loads(library.to_str()), ensure_ascii=False).encode()}
        if name in {"bpe", "metaspace"}:
            files["tokenizer_config.json"] = json.dumps(
                {**config, **(described if name == "bpe" else {})}
            ).encode()
            files["generation_config.json"] = b'{"eos_token_id": [2, 1]}'
            files["special_tokens_map.json"] = b'{"unk_token": "<s>", "additional_special_tokens": ["</s>"]}'
        files["config.json"] = b'{"bos_token_id": 1, "text_config": {"eos_token_id": 2}}'
        found[name] = joined(files)
    return found


def main() -> None:
    """Write them into the folder named on the command line."""
    seeds = {"gguf": gguf_seeds(), "safetensors": safetensors_seeds(), "folder": folder_seeds(),
             "tokenizer": tokenizer_seeds()}  # fmt: skip
    for target in ("formats", "draw", "step", "nodes"):
        chosen = random.Random(target)
        seeds[target] = {f"random-{size}": chosen.randbytes(size) for size in (16, 64, 256, 1024)}
    hostiles = {"gguf": hostile.gguf_inputs(), "folder": hostile.folder_inputs(),
                "tokenizer": hostile.tokenizer_inputs()}  # fmt: skip
    for target, files in seeds.items():
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / f"seed-{name}").write_bytes(data)
        for name, data in hostiles.get(target, {}).items():
            (folder / f"hostile-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
