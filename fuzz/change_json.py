"""Changes of JSON texts that keep most of their structure, and of the inputs that hold several files."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from targets import SECTION, sections

WORDS = [
    "", "a", "ab", "##b", "\u2581", "<s>", "</s>", "<unk>", "[UNK]", "\u0120a", "\ud800", "\x1b[2J", "x" *
    300, "F32", "BF16", "U8", "F4", "I64", "default", "linear", "yarn", "llama3", "silu", "LlamaForCausalLM",
    "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM", "qwen3", "smollm3",
    "Gemma2ForCausalLM", "Gemma3ForCausalLM", "gemma2", "gemma3_text", "full_attention", "sliding_attention",
    "Ministral3ForCausalLM", "MinistralForCausalLM", "ministral3", "gelu_pytorch_tanh", "F8_E4M3",
    "F8_E8M0", "NVFP4", "FP8", "MIXED_PRECISION", "fp8",
    "modelopt", "compressed-tensors", "fbgemm_fp8", "mxfp4", "nvfp4-pack-quantized", "float-quantized",
    "mixed-precision", "tensor_group", "channel", "block", "re:.*proj$", "re:(a*)*b", "Linear", "*",
    "mistral", "qwen2", "model.safetensors", "../a.safetensors",
    "a.safetensors", "BPE", "Unigram", "WordPiece", "WordLevel", "Sequence", "Replace", "Strip", "ByteLevel",
    "Metaspace", "Fuse", "ByteFallback", "Prepend", "Split", "Precompiled", "NFKC", "BertNormalizer",
    "Digits", "Punctuation", "TemplateProcessing", "CTC", "Removed", "Isolated", "(a|b)*c", "a{1,1000}",
    "\\p{L}+", "(?=a)", "AAAAAAAA", "fAAAAAEAAAA=",
]  # fmt: skip
KEYS = [
    "dtype", "shape", "data_offsets", "__metadata__", "weight_map", "metadata", "type", "pattern", "String",
    "Regex", "content", "normalizers", "decoders", "processors", "pretokenizers", "model", "vocab", "merges",
    "unk_id", "unk_token", "byte_fallback", "ignore_merges", "continuing_subword_prefix",
    "end_of_word_suffix", "dropout", "fuse_unk", "added_tokens", "id", "special", "normalized", "lstrip",
    "rstrip", "single_word", "prepend", "precompiled_charsmap", "normalizer", "pre_tokenizer",
    "post_processor", "decoder", "truncation", "padding", "bos_token", "eos_token", "unk_token", "cls_token",
    "additional_special_tokens", "added_tokens_decoder", "add_bos_token", "bos_token_id", "eos_token_id",
    "text_config", "chat_template", "name", "template", "rope_theta", "rope_scaling", "rope_parameters",
    "rope_type", "factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "mscale",
    "mscale_all_dim", "attention_factor", "original_max_position_embeddings", "head_dim", "sliding_window",
    "use_sliding_window", "sliding_window_pattern", "no_rope_layers", "rope_local_base_freq",
    "full_attention", "sliding_attention", "attn_logit_softcapping", "query_pre_attn_scalar", "layer_types",
    "hidden_size", "num_hidden_layers", "vocab_size",
    "num_attention_heads", "num_key_value_heads", "architectures", "max_position_embeddings", "rms_norm_eps",
    "quantization_config", "quant_method", "quant_algo", "quantized_layers", "quantization", "group_size",
    "config_groups", "targets", "weights", "format", "strategy", "num_bits", "ignore", "kv_cache_scheme",
    "weight_block_size", "block_structure", "modules_to_not_convert", "exclude_modules", "symmetric",
    "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight_scale", "a_blocks", "a_scales",
    "model.layers.0.mlp.up_proj.weight_packed", "model.layers.0.mlp.up_proj.input_scale",
    "tie_word_embeddings", "attention_bias", "0", "1", "257", "\x1b[2J", "\ud800",
]  # fmt: skip
NUMBERS = [
    0, 1, 2, 3, 4, 7, 8, 16, 32, 64, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -1,
    0.5, -2.5, 1e-320, 1e-30, 1e300, 1.0000001, 10000.0,
]  # fmt: skip
NAMES = [
    "config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
    "model-00001-of-00002.safetensors", "chat_template.jinja", "model-00002-of-00002.safetensors",
    "a.safetensors", "model.gguf", "pytorch_model.bin", "hf_quant_config.json",
]  # fmt: skip
FAULTS = [
    b'{"a":1,"a":2}', b"NaN", b"-Infinity", b"[" * 3000, b'"\\ud800"', b"1e999", b"9" * 5000, b"\xff",
    b"\\u0074", b'{"a":', b"\0", b"\xef\xbb\xbf", b",", b'"',
]  # fmt: skip


def scalar(chosen: random.Random) -> Any:
    """A value that may stand anywhere."""
    return chosen.choice(
        (chosen.choice(WORDS), chosen.choice(NUMBERS), None, True, False, [], {}, chosen.choice(NUMBERS))
    )


def places(tree: Any) -> list[tuple[Any, Any]]:
    """All (container, key) in a tree."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        inner = one.items() if isinstance(one, dict) else enumerate(one)
        for key, value in inner:
            found.append((one, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    return found


def change_tree(tree: Any, chosen: random.Random) -> Any:
    """The tree with one value, key or element changed; it is changed in place."""
    found = places(tree) if isinstance(tree, dict | list) else []
    if not found:
        return {chosen.choice(KEYS): scalar(chosen)}
    inside, key = chosen.choice(found)
    roll = chosen.random()
    if roll < 0.35:
        old = inside[key]
        near = type(old) is int and chosen.random() < 0.5
        inside[key] = old + chosen.choice((-8, -1, 1, 8, 32)) if near else scalar(chosen)
    elif roll < 0.5:
        other, name = chosen.choice(found)
        inside[key] = json.loads(json.dumps(other[name]))
    elif roll < 0.65:
        del inside[key]
    elif roll < 0.8 and isinstance(inside, dict):
        inside[chosen.choice(KEYS)] = inside.pop(key) if chosen.random() < 0.5 else scalar(chosen)
    elif isinstance(inside, list):
        inside.insert(key, json.loads(json.dumps(inside[key])) if chosen.random() < 0.6 else scalar(chosen))
    else:
        inside[key] = [inside[key]] * chosen.randrange(1, 4)
    return tree


def change_text(text: bytes, chosen: random.Random) -> bytes:
    """A JSON text changed as a tree, or as a text when that is asked for or it is no tree."""
    roll = chosen.random()
    if roll < 0.85:
        try:
            tree = json.loads(text)
            for _ in range(chosen.choice((1, 1, 2, 3))):
                tree = change_tree(tree, chosen)
            ascii_only = chosen.random() < 0.3
            return json.dumps(tree, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):
            pass
    place = chosen.randrange(len(text) + 1)
    if roll < 0.93:
        return text[:place] + chosen.choice(FAULTS) + text[place:]
    if roll < 0.97:
        return text[:place] + bytes([chosen.getrandbits(8)]) + text[place + 1 :]
    return text[:place]


def change_sections(data: bytes, chosen: random.Random) -> bytes:
    """One of several files changed, taken out, or put in under another name."""
    files = sections(data)
    if not files or chosen.random() < 0.02:
        return data + b"\n%% " + chosen.choice(NAMES).encode() + b"\n{}"
    name = chosen.choice(list(files))
    roll = chosen.random()
    if roll < 0.92:
        files[name] = change_text(files[name], chosen)
    elif roll < 0.95:
        del files[name]
    else:
        files[chosen.choice(NAMES)] = files[name]
    return joined(files)


def joined(files: dict[str, bytes]) -> bytes:
    """The input that holds these files; a line that would begin another one is indented."""
    return b"".join(
        b"%% " + name.encode() + b"\n" + SECTION.sub(rb" %% \1\n", content).removesuffix(b"\n") + b"\n"
        for name, content in files.items()
    )


def change_safetensors(data: bytes, chosen: random.Random) -> bytes:
    """A safetensors file with its header changed, mostly with the length as it should be."""
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    roll = chosen.random()
    if roll < 0.75:
        header = change_text(header, chosen)
    elif roll < 0.85:
        rest = rest[: chosen.randrange(len(rest) + 1)] + bytes(chosen.choice((0, 1, 8)))
    length = len(header) if roll < 0.95 else chosen.choice((*(one for one in NUMBERS[:17]), len(header) - 1))
    return struct.pack("<Q", length % 2**64) + header + rest
