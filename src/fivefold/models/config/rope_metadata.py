"""How GGUF metadata says that positions are rotated, as llama.cpp reads it."""

from __future__ import annotations

from fivefold.program import RopeScaling

from .keys import Keys

GGUF_ROPE_KEYS = frozenset(
    {"rope.freq_base", "rope.dimension_count", "rope.scaling.type", "rope.scaling.factor",
     "rope.scaling.original_context_length", "rope.scaling.finetuned", "rope.scaling.attn_factor",
     "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow", "rope.scale_linear"}
)  # fmt: skip
"""The keys that are read here, under the architecture's prefix."""


def read_gguf_rope(keys: Keys, context: int) -> tuple[float, RopeScaling]:
    """The base of the frequencies and their scaling."""
    return keys.number("rope.freq_base", 10000.0, above=1), _scaling(keys, context)


def _scaling(keys: Keys, context: int) -> RopeScaling:
    kind = str(keys.only("rope.scaling.type", "none", "none", "linear", "yarn"))
    keys.only("rope.scaling.attn_factor", 1.0, 1.0)
    keys.flag("rope.scaling.finetuned", False)
    if kind == "none":
        legacy = _factor(keys, "rope.scale_linear", 1.0)
        return RopeScaling("linear", legacy) if legacy != 1.0 else RopeScaling()
    fast = keys.number("rope.scaling.yarn_beta_fast", 32.0, above=0)
    slow = keys.number("rope.scaling.yarn_beta_slow", 1.0, above=0)
    if slow >= fast:
        raise keys.malformed("rope.scaling.yarn_beta_slow", f"is {slow:g}, not below yarn_beta_fast {fast:g}")
    factor = _factor(keys, "rope.scaling.factor")
    return RopeScaling(kind, factor, keys.size("rope.scaling.original_context_length", context), fast, slow)


def _factor(keys: Keys, key: str, default: float | None = None) -> float:
    """By how much positions are stretched: at least 1."""
    value = keys.number(key, default, above=0)
    if value < 1:
        raise keys.malformed(key, f"is {value:g}, less than 1")
    return value
