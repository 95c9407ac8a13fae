"""FP8 as DeepSeek and Qwen publish it, and as the first FP8 quantizers wrote it: `quant_method` is "fp8".

With `weight_block_size` each block of 128 x 128 numbers has a factor, `weight_scale_inv`, which despite its
name is multiplied; blocks at the lower and right edge are smaller where sizes ask for it. Without it there is
one factor for a matrix. Activations are not rounded here, whatever `activation_scheme` says, nor is the
cache.

Source: Transformers, integrations/finegrained_fp8.py; DeepSeek-V3's inference/kernel.py.
"""

from __future__ import annotations

from fivefold.files.quantized.declaration import Declaration, Declared
from fivefold.files.quantized.layouts import Fp8
from fivefold.files.quantized.patterns import Listed

METHODS = ("fp8",)

LARGEST_BLOCK = 1 << 16
_FACTORS = ("weight_scale_inv", "weight_scale")
_KEYS = {
    "quant_method", "fmt", "weight_block_size", "activation_scheme", "modules_to_not_convert",
    "ignored_layers", "scale_fmt", "expert_dtype", "kv_cache_scheme", "dequantize", "weight_per_tensor",
    "act_per_tensor",
}  # fmt: skip


def read(config: Declaration) -> Declared:
    """The one scheme that the config declares."""
    config.refuse_unknown(_KEYS)
    config.only("fmt", "e4m3", "e4m3", "float8_e4m3fn")
    config.only("expert_dtype", "fp8", "fp8")
    config.only("scale_fmt", "float", "float", "ue8m0")
    config.only("activation_scheme", "dynamic", "dynamic", "static")
    config.only("weight_per_tensor", False, False)
    config.only("act_per_tensor", False, False)
    config.check_cache("kv_cache_scheme")
    kept = Listed(config.names("modules_to_not_convert", "ignored_layers"))
    block = config.get("weight_block_size")
    if block is None:
        scheme = Fp8("tensor", _FACTORS)
    elif (
        isinstance(block, list)
        and len(block) == 2
        and all(type(size) is int and 0 < size <= LARGEST_BLOCK for size in block)
    ):
        scheme = Fp8("block", _FACTORS, (block[0], block[1]))
    else:
        raise config.malformed("weight_block_size", "not two sizes")
    return Declared("FP8", lambda module: None if module in kept else scheme)
