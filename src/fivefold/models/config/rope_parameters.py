"""How a config.json says that positions are rotated.

Rotary parameters stand in two forms: `rope_theta` and `rope_scaling`, or one object `rope_parameters`
(Transformers 5). Both are read as Transformers 5.24 reads them, except that what it ignores with a warning
is refused: a key that has no meaning for the type may have had one for whoever wrote it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from fivefold.core.errors import UnsupportedError
from fivefold.program import RopeScaling

from .keys import Keys

ROPE_KEYS = frozenset(
    {"rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings",
     "partial_rotary_factor", "rope_interleaved"}
)  # fmt: skip
"""The keys of a config.json that `read_rope` reads."""

_TYPE = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
_MEANT: Mapping[str, frozenset[str]] = {
    "default": frozenset(_TYPE),
    "linear": frozenset(_TYPE | {"factor"}),
    "llama3": frozenset(
        _TYPE | {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"}
    ),
    "yarn": frozenset(
        _TYPE | {"factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
                 "mscale", "mscale_all_dim", "truncate"}
    ),
}  # fmt: skip
"""The keys that mean something, by type of scaling."""


def read_rope(
    keys: Keys, context: int, base: float = 10000.0, beside: Collection[str] = ()
) -> tuple[float, RopeScaling]:
    """The base of the frequencies and their scaling.

    `context` is max_position_embeddings, `base` what silence about rope_theta means, and `beside` are keys
    among the rotary parameters that the family reads itself.
    """
    rope = rope_object(keys)
    base = rope.number("rope_theta", keys.number("rope_theta", base, above=1.0), above=1.0)
    return base, read_scaling(keys, rope, context, beside)


def rope_object(keys: Keys) -> Keys:
    """The object of rotary parameters, in whichever form; empty if there is none."""
    if keys.get("rope_scaling") and keys.get("rope_parameters"):
        raise keys.malformed("rope_scaling", "stands beside rope_parameters")
    return keys.inside("rope_scaling" if keys.get("rope_scaling") else "rope_parameters")


def read_scaling(keys: Keys, rope: Keys, context: int, beside: Collection[str] = ()) -> RopeScaling:
    """The scaling that one object of rotary parameters asks for."""
    keys.only("rope_interleaved", False, False)
    for one in (keys, rope):
        if "partial_rotary_factor" not in beside and one.number("partial_rotary_factor", 1.0) != 1.0:
            raise UnsupportedError(
                "key partial_rotary_factor asks to rotate a part of each head only", where=one.where,
                remedy="use a model that rotates whole heads",
            )  # fmt: skip
    rope.only("type", "default", *_MEANT)
    kind = str(rope.only("rope_type", rope.get("type", "default"), *_MEANT))
    rope.refuse_unknown(
        _MEANT[kind] | set(beside), f"known for type {kind} are {', '.join(sorted(_MEANT[kind]))}"
    )
    if kind == "default":
        return RopeScaling()
    factor = rope.number("factor")
    if factor < 1:
        raise rope.malformed("factor", f"is {factor}, less than 1")
    if kind == "linear":
        return RopeScaling("linear", factor)
    original = keys.size(
        "original_max_position_embeddings", rope.size("original_max_position_embeddings", context)
    )
    return _llama3(rope, factor, original) if kind == "llama3" else _yarn(rope, factor, original)


def _llama3(rope: Keys, factor: float, original: int) -> RopeScaling:
    low, high = rope.number("low_freq_factor", above=0), rope.number("high_freq_factor", above=0)
    if low > high:
        raise rope.malformed("low_freq_factor", f"is {low}, above high_freq_factor {high}")
    return RopeScaling("llama3", factor, original, low_frequency=low, high_frequency=high)


def _yarn(rope: Keys, factor: float, original: int) -> RopeScaling:
    fast, slow = rope.number("beta_fast", 32.0, above=0), rope.number("beta_slow", 1.0, above=0)
    magnitude = rope.number("attention_factor", above=0) if rope.get("attention_factor") is not None else None
    scales = [rope.get(key) for key in ("mscale", "mscale_all_dim")]
    if magnitude is None and scales != [None, None]:
        over, under = (
            1 + 0.1 * rope.number(key, above=0) * math.log(factor) for key in ("mscale", "mscale_all_dim")
        )
        magnitude = over / under
    return RopeScaling(
        "yarn", factor, original, fast, slow, attention_factor=magnitude,
        truncate=rope.flag("truncate", True),
    )  # fmt: skip
