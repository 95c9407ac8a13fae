"""NVIDIA's ModelOpt: NVFP4 and FP8, one for all matrices or one for each module.

Its configs stand in config.json (`quantization_config`) or in hf_quant_config.json, whose keys lie one object
deeper. `weight_scale_2` is a multiplier. What is said of activations (`input_scale`) and of the cache is for
programs that round these too; here they are not rounded so, and results are nearer to those of the model that
was quantized. AWQ and SVDQuant, which change activations before the matrix, are refused.

Source: Model-Optimizer, modelopt/torch/export (quant_utils.py, convert_hf_config.py).
"""

from __future__ import annotations

from fivefold.files.quantized.declaration import Declaration, Declared
from fivefold.files.quantized.layouts import Fp8, Nvfp4
from fivefold.files.quantized.parts import Scheme
from fivefold.files.quantized.patterns import Listed, enclosing

METHODS = ("modelopt", "modelopt_fp4", "modelopt_mixed")

_NVFP4 = Nvfp4("weight", "weight_scale_2")
ALGORITHMS: dict[str, Scheme] = {
    "NVFP4": _NVFP4,
    "W4A16_NVFP4": _NVFP4,
    "FP8": Fp8("tensor"),
    "FP8_PER_CHANNEL_PER_TOKEN": Fp8("row"),
}
"""What is read, by ModelOpt's name for it."""
MIXED = "MIXED_PRECISION"

_KEYS = {
    "quant_method", "quant_algo", "kv_cache_quant_algo", "kv_cache_scheme", "config_groups", "ignore",
    "exclude_modules", "producer", "quantized_layers", "group_size", "quantization",
}  # fmt: skip
_LAYER_KEYS = {"quant_algo", "group_size"}


def read(config: Declaration) -> Declared:
    """The schemes that a config of ModelOpt declares; UnsupportedError names what cannot be done."""
    config.refuse_unknown(_KEYS)
    if "quantization" in config:
        config = config.inside("quantization")
        config.refuse_unknown(_KEYS)
    for key in ("kv_cache_quant_algo", "kv_cache_scheme"):
        config.check_cache(key)
    excluded = Listed(config.names("ignore", "exclude_modules"))
    if config.get("quant_algo") == MIXED:
        layers = _layers(config)
        return Declared("ModelOpt's mixed precision", lambda module: _nearest(layers, module))
    scheme = _layer(config) if "quant_algo" in config else None  # the cache alone may be meant
    name = f"ModelOpt's {config.text('quant_algo', 'config')}"
    return Declared(name, lambda module: None if module in excluded else scheme)


def _layers(config: Declaration) -> dict[str, Scheme]:
    """The scheme of each module that is named."""
    layers = config.inside("quantized_layers")
    found: dict[str, Scheme] = {}
    for name in layers:
        layer = layers.inside(name)
        layer.refuse_unknown(_LAYER_KEYS)
        found[name] = _layer(layer)
    if not found:
        raise config.malformed("quantized_layers", "and must say how each module is quantized")
    return found


def _layer(config: Declaration) -> Scheme:
    """The scheme that one object asks for."""
    name = config.text("quant_algo")
    scheme = ALGORITHMS.get(name)
    if scheme is None:
        raise config.unsupported(f"ModelOpt's quantization {name or 'without a name'} is not implemented")
    if isinstance(scheme, Nvfp4):
        config.only("group_size", 16, 16)
    return scheme


def _nearest(layers: dict[str, Scheme], module: str) -> Scheme | None:
    """The scheme of a module, or of the nearest one that it lies in."""
    return next((layers[outer] for outer in enclosing(module) if outer in layers), None)
