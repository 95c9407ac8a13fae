"""Ops: one declaration each, with signature, numpy reference, cost and native kernel name.

`OPS` is the table that the Program builder, both executors and the planner read. It is built by
walking the modules of this package, so a new op is a new file and nothing else here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from .op import Attribute, Call, Cost, Op, Sizes

__all__ = ["OPS", "Attribute", "Call", "Cost", "Op", "Sizes"]


def _collect() -> dict[str, Op]:
    """All ops declared in this package's modules, by name."""
    table: dict[str, Op] = {}
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        for op in getattr(module, "DECLARED", ()):
            if op.name in table:
                raise RuntimeError(f"two ops are named {op.name!r}")
            table[op.name] = op
    return table


OPS: Mapping[str, Op] = MappingProxyType(_collect())
