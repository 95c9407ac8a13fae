"""A Program with the lookahead rows of a module: its low-rank parts as weights beside the model's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fivefold.core.checkpoint import Tensor
from fivefold.core.lookahead import LookaheadModule
from fivefold.program import LowRank, Program, looking_ahead, observed

Tensors = Callable[[str], Tensor]


def observing_program(program: Program, module: LookaheadModule | None) -> Program:
    """The Program whose rows can observe, with lookahead rows where there is a module for them."""
    if module is None:
        return observed(program)
    parts = {
        name: LowRank(f"{name}.lookahead_down", f"{name}.lookahead_up", module.rank) for name in module.pairs
    }
    return observed(looking_ahead(program, parts))


def with_module(tensors: Tensors, module: LookaheadModule | None) -> Tensors:
    """Tensors by name, with the module's low-rank parts (float16; the second has the factor alpha / rank)."""
    if module is None:
        return tensors
    added: dict[str, Tensor] = {}
    for name, (down, up) in module.pairs.items():
        scaled = up * np.float32(module.alpha / module.rank)
        for end, values in (("down", down), ("up", scaled)):
            stored = np.ascontiguousarray(values, np.float16).reshape(-1).view(np.uint8)
            full = f"{name}.lookahead_{end}"
            added[full] = Tensor(full, "f16", values.shape, stored)
    return lambda name: added[name] if name in added else tensors(name)
