"""From the tensors of a folder to those of its modules: each quantized matrix becomes one tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.files.gguf_values import shown
from fivefold.files.quantized.declaration import TAKE_ANOTHER, Declared
from fivefold.files.quantized.parts import FETCH_AGAIN, FLOATS, Parts

_OF_WEIGHT = frozenset({"input_scale", "input_global_scale", "activation_scale", "input_scale_ub"})
"""Factors by which a matrix's activations would be rounded: passed over beside a weight."""
_OF_CACHE = frozenset({"k_scale", "v_scale", "q_scale"})
"""Factors by which keys, values and queries would be rounded: passed over."""

_COMPANION = re.compile(
    r"(.*_)?(weight_(?!norm).+|scale_inv|qweight|qzeros|g_idx|pre_quant_scale|blocks|scales)"
)
"""What tensors of quantized matrices are called, also of those that are not read."""


def read_modules(tensors: Mapping[str, Tensor], declared: Declared, where: str) -> Mapping[str, Tensor]:
    """The tensors as families name them; FileError or UnsupportedError for the first that has no place."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        leaf = name.rpartition(declared.joint)[2]
        modules.setdefault(name.removesuffix(leaf), {})[leaf] = tensor
    found: dict[str, Tensor] = {}
    for prefix, own in modules.items():
        for tensor in _module(Parts(prefix, own, where, declared.joint), declared):
            if tensor.name in found:
                raise FileError(
                    f"tensor {shown(tensor.name)} stands twice, once as it is and once quantized",
                    where=where,
                    remedy=FETCH_AGAIN,
                )
            found[tensor.name] = tensor
    return MappingProxyType(found)


def _module(parts: Parts, declared: Declared) -> list[Tensor]:
    """The tensors of one module, without those that were put together or passed over."""
    found: list[Tensor] = []
    if any(_is_quantized(leaf, tensor) for leaf, tensor in parts.left().items()):
        scheme = declared.scheme_of(parts.module)
        if scheme is not None:
            found.append(scheme.read(parts))
    for leaf, tensor in parts.left().items():
        if leaf in _OF_CACHE:
            continue
        if leaf in _OF_WEIGHT:
            if not any(_is_weight(other) for other in parts.left()) and not found:
                raise parts.wrong(leaf, "stands beside no weight")
            continue
        if _is_quantized(leaf, tensor):
            missing = "nothing that reads it" if found else "no quantization for its module"
            raise UnsupportedError(
                f"tensor {shown(tensor.name)} ({tensor.format}) belongs to a quantized matrix, and "
                f"{declared.label} declares {missing}",
                where=parts.where,
                remedy=TAKE_ANOTHER,
            )
        found.append(tensor)
    return found


def _is_weight(leaf: str) -> bool:
    return leaf == "weight"


def _is_quantized(leaf: str, tensor: Tensor) -> bool:
    """Whether a tensor is one of those that make a quantized matrix."""
    return _COMPANION.fullmatch(leaf) is not None or (_is_weight(leaf) and tensor.format not in FLOATS)
